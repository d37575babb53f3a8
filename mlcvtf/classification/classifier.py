"""The image classifier: a backbone, its last map averaged, and one dense layer.

A vision Transformer's class token takes the place of the average.

Lin, Chen, Yan, 2014, "Network in Network", arXiv:1312.4400, section 3.2 (the average
over all places instead of dense layers); label smoothing by Szegedy et al., 2016,
"Rethinking the Inception Architecture for Computer Vision", arXiv:1512.00567, section
7. The classification networks of the field since then end so.
"""

import keras
from keras import ops

CLASS_TOKEN = "class_token"


@keras.saving.register_keras_serializable(package="mlcvtf")
class ImageClassifier(keras.Model):
    """Classifies pictures by a backbone's coarsest map or class token.

    Args:
        backbone: model from float32 `[batch, height, width, 3]` in 0..255 to a dict of
            maps "Pn" (or "strideN"); the coarsest is averaged over its places, unless
            there is a "class_token" `[batch, channels]`, which is taken instead.
        classes: number of classes, at least 2.
        dropout: share of the averaged features that training drops, 0 to below 1.
        label_smoothing: share of a target that is spread evenly over all classes, 0 to
            below 1.

    `call(images)` gives {"logits": float32 `[batch, classes]`}. Targets are int
    `[batch]`, the loss is the cross-entropy, and "accuracy" is a metric of it.

    Raises:
        ValueError: a number is out of its range, or the backbone gives no dict.
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if classes < 2:
            raise ValueError(f"classes is at least 2, received {classes}")
        for name, share in (("dropout", dropout), ("label_smoothing", label_smoothing)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} is 0 to below 1, received {share}")
        maps = getattr(backbone, "output", None)
        if not isinstance(maps, dict):
            raise ValueError(f"a backbone gives a dict of maps, received {maps}")
        self.backbone, self.classes = backbone, classes
        self.dropout, self.label_smoothing = dropout, label_smoothing
        self.level = CLASS_TOKEN if CLASS_TOKEN in maps else max(maps, key=_stride)
        self.pool = keras.layers.GlobalAveragePooling2D(dtype="float32")
        self.drop = keras.layers.Dropout(dropout, dtype="float32")
        self.head = keras.layers.Dense(classes, dtype="float32", name="logits")
        self.head.build((None, self._head_channels(maps[self.level].shape[-1])))
        self.accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        self.built = True

    def _head_channels(self, channels):
        """Returns how many numbers the head sees; subclasses put layers before it."""
        return channels

    def call(self, images, training=None):
        features = self.backbone(images, training=training)[self.level]
        if self.level != CLASS_TOKEN:
            features = self.pool(features)
        return {"logits": self.head(self.drop(features, training=training))}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        logits = y_pred["logits"]
        share = self.label_smoothing
        targets = ops.one_hot(ops.cast(y, "int32"), self.classes, dtype=logits.dtype)
        targets = targets * (1 - share) + share / self.classes
        errors = keras.losses.categorical_crossentropy(
            targets, logits, from_logits=True
        )
        if sample_weight is None:
            return ops.mean(errors)
        # Weight 0 is a row that only fills the batch: it counts for nothing.
        weights = ops.cast(sample_weight, errors.dtype)
        return ops.sum(errors * weights) / ops.maximum(ops.sum(weights), 1e-7)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Adds the batch to the accuracy; Keras calls it after every step."""
        self.accuracy.update_state(y, y_pred["logits"], sample_weight)
        return self.get_metrics_result()

    def classify(self, images) -> dict:
        """Classifies pictures.

        Args:
            images: float32 `[batch, height, width, 3]` in 0..255.

        Returns:
            {"scores": float32 `[batch, classes]` that sum to 1, "labels": int32
            `[batch]`, the class of the highest score}.
        """
        scores = ops.softmax(self(images, training=False)["logits"], axis=-1)
        return {"scores": scores, "labels": ops.argmax(scores, axis=-1)}

    def get_config(self):
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "classes": self.classes,
            "dropout": self.dropout,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        return cls(**dict(config, backbone=restore(config["backbone"])))


def _stride(name):
    """Reads the stride from a map's name: 16 of "P4", 14 of "stride14"."""
    if name.startswith("stride"):
        return int(name.removeprefix("stride"))
    return 2 ** int(name[1:])
