"""Classifiers that end otherwise than a plain average and a dense layer.

`InceptionClassifier` is Inception-v1 with its auxiliary softmax heads: Szegedy et al.,
2014, "Going Deeper with Convolutions", arXiv:1409.4842, section 5. Faithful: the heads
at 4a and 4d, their average pooling, 1x1 convolution, dense layer and dropout of 0.7,
their weight of 0.3 in the loss, the global average with dropout of 0.4, and that the
heads are gone at inference. Different: on maps of other sizes than 14 x 14 the average
pooling's windows grow and shrink with the map (see `GridPooling`).

`BottleneckClassifier` is what FaceNet's trunk in the wild ends with (D. Sandberg's
`facenet`): an embedding between the average and the logits.
"""

import keras
from keras import ops

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.layers.auxiliary_head import AuxiliaryHead, GridPooling

TAPS = ("inception4a", "inception4d")


@keras.saving.register_keras_serializable(package="mlcvtf")
class InceptionClassifier(ImageClassifier):
    """Classifies pictures; two heads in the middle help the training.

    Only the loss of training evaluates the heads. `call` gives what they see, which
    takes no weights, so no graph of inference holds any of theirs.

    Args:
        backbone: functional model as `ImageClassifier` takes it, such as
            `inception_v1()`.
        classes: number of classes, at least 2.
        dropout: share of the averaged features that training drops, 0 to below 1.
        label_smoothing: share of a target that is spread evenly over all classes, 0 to
            below 1.
        heads: name of a backbone's layer to the `AuxiliaryHead` on its map; None: the
            paper's two, at "inception4a" and "inception4d".
        auxiliary_weight: of each head's loss, at least 0.
        windows: of the heads' pooling, as `GridPooling` takes it.

    `call(images)` gives {"logits": float32 `[batch, classes]`} and, under the name of
    each tapped layer, its map's averages, float `[batch, 4, 4, channels]`. Targets are
    int `[batch]`. The loss is the cross-entropy of "logits", in training plus
    `auxiliary_weight` times that of each head; "accuracy" is of "logits".

    Raises:
        ValueError: a number is out of its range, the backbone gives no dict, or has not
            a layer that `heads` names.
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        dropout: float = 0.4,
        label_smoothing: float = 0.0,
        heads: dict | None = None,
        auxiliary_weight: float = 0.3,
        windows: str = "overlapping",
        **kwargs,
    ):
        super().__init__(backbone, classes, dropout, label_smoothing, **kwargs)
        if auxiliary_weight < 0:
            raise ValueError(
                f"auxiliary_weight is at least 0, received {auxiliary_weight}"
            )
        if heads is None:
            heads = {
                tap: AuxiliaryHead(classes, name=f"auxiliary{number}")
                for number, tap in enumerate(TAPS, start=1)
            }
        known = {layer.name for layer in backbone.layers}
        if not known >= set(heads):
            raise ValueError(
                f"heads are on layers of {backbone.name}, received "
                f"{', '.join(sorted(set(heads) - known))}"
            )
        self.heads, self.auxiliary_weight = dict(heads), auxiliary_weight
        self.windows = windows
        maps = {tap: backbone.get_layer(tap).output for tap in heads}
        self.grid = GridPooling(windows=windows)
        for tap, head in heads.items():
            if not head.built:
                head.build(self.grid.compute_output_shape(maps[tap].shape))
        maps[self.level] = backbone.output[self.level]
        self.trunk = keras.Model(backbone.inputs, maps, name="trunk")

    def call(self, images, training=None):
        maps = self.trunk(images, training=training)
        features = self.drop(self.pool(maps[self.level]), training=training)
        grids = {tap: self.grid(maps[tap]) for tap in self.heads}
        return {"logits": self.head(features)} | grids

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        for tap, head in self.heads.items():
            logits = {"logits": head(y_pred[tap], training=True)}
            error = super().compute_loss(x, y, logits, sample_weight, training)
            loss = loss + self.auxiliary_weight * error
        return loss

    def get_config(self):
        serialise = keras.saving.serialize_keras_object
        return super().get_config() | {
            "heads": {tap: serialise(head) for tap, head in self.heads.items()},
            "auxiliary_weight": self.auxiliary_weight,
            "windows": self.windows,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        heads = {tap: restore(head) for tap, head in config["heads"].items()}
        return super().from_config(dict(config, heads=heads))


@keras.saving.register_keras_serializable(package="mlcvtf")
class BottleneckClassifier(ImageClassifier):
    """Classifies pictures by an embedding of few numbers.

    The coarsest map is averaged, projected without a bias, normalised over the batch,
    and classified.

    Args:
        backbone: as `ImageClassifier` takes it, such as `inception_resnet("v1")`.
        classes: number of classes, at least 2.
        features: size of the embedding, at least 1.
        dropout: share of the averaged features that training drops, 0 to below 1.
        label_smoothing: share of a target that is spread evenly over all classes, 0 to
            below 1.
        epsilon: of batch normalisation.
        momentum: of its moving statistics.

    `call(images)` gives {"logits": float32 `[batch, classes]`, "features": float32
    `[batch, features]`, of any length}. Targets are int `[batch]`, the loss is the
    cross-entropy, and "accuracy" is a metric of it.

    Raises:
        ValueError: a number is out of its range, or the backbone gives no dict.
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        features: int = 512,
        dropout: float = 0.6,
        label_smoothing: float = 0.0,
        epsilon: float = 1e-3,
        momentum: float = 0.9,
        **kwargs,
    ):
        if features < 1:
            raise ValueError(f"features is at least 1, received {features}")
        # Before the classifier's own start, which builds the head on it.
        self.features = features
        super().__init__(backbone, classes, dropout, label_smoothing, **kwargs)
        self.epsilon, self.momentum = epsilon, momentum
        self.project = keras.layers.Dense(
            features, use_bias=False, dtype="float32", name="project"
        )
        self.project.build((None, backbone.output[self.level].shape[-1]))
        self.normalisation = keras.layers.BatchNormalization(
            epsilon=epsilon, momentum=momentum, dtype="float32", name="normalisation"
        )
        self.normalisation.build((None, features))

    def _head_channels(self, channels):
        return self.features

    def call(self, images, training=None):
        x = self.pool(self.backbone(images, training=training)[self.level])
        x = self.project(self.drop(x, training=training))
        x = self.normalisation(x, training=training)
        return {"logits": self.head(x), "features": x}

    def embed(self, images):
        """Embeds pictures on the unit sphere.

        Args:
            images: float32 `[batch, height, width, 3]` in 0..255.

        Returns:
            float32 `[batch, features]` of unit norm.
        """
        return ops.normalize(self(images, training=False)["features"], axis=-1)

    def get_config(self):
        return super().get_config() | {
            "features": self.features,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }
