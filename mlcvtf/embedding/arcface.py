"""Face embeddings with ArcFace, by identities, by a teacher, or both.

Deng, Guo, Xue, Zafeiriou, 2019, "ArcFace: Additive Angular Margin Loss for Deep Face
Recognition", arXiv:1801.07698.

Faithful: embedding and class weights on the unit sphere, additive angular margin,
scale, alignment to 112x112 by five landmarks. Different: the network is a plain
residual one sized for two cores (table below), closed by a global depthwise
convolution (Chen et al., 2018, "MobileFaceNets", arXiv:1804.07573); and the features
may also regress the embeddings of a teacher network (knowledge distillation).

A teacher that compares by Euclidean distance d is followed by cosines all the same:
for a constant vector c much longer than the features z, the cosine of z1 + c and
z2 + c is 1 - d^2 / (2 |c|^2) to first order. `centre` is that vector. The margin acts
on the features without it.
"""

import keras
from keras import ops

from mlcvtf.layers.margins import AdditiveAngularMargin
from mlcvtf.ops.replicas import mean_over_replicas, sum_over_replicas

# Channels of the stem, then (channels, residual blocks) of each stage, which halves
# the side.
VARIANTS = {
    "tiny": (8, ((8, 1), (16, 1))),
    "small": (32, ((64, 1), (128, 1), (160, 1))),
    "base": (32, ((64, 1), (128, 2), (160, 1))),
    "large": (32, ((64, 2), (128, 3), (160, 1))),
}


def face_backbone(
    variant: str = "base", features: int = 128, size: int = 112
) -> keras.Model:
    """Builds the network from aligned faces to features.

    Args:
        variant: a key of `VARIANTS`.
        features: length of the feature vector.
        size: side of the input in pixels, a multiple of the network's stride.

    Returns:
        Functional model: float32 `[batch, size, size, 3]` in 0..255 to float32
        `[batch, features]`.

    Raises:
        ValueError: unknown variant, or `size` is no multiple of the stride.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is one of {sorted(VARIANTS)}, received {variant!r}")
    stem, stages = VARIANTS[variant]
    stride = 2 ** (len(stages) + 1)
    if size % stride:
        raise ValueError(f"size is a multiple of {stride}, received {size}")
    images = keras.Input((size, size, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalisation")(images)
    x = _activation(_normalisation(_convolution(x, stem, stride=2)))
    for channels, blocks in stages:
        for block in range(blocks):
            x = _residual(x, channels, stride=2 if block == 0 else 1)
    x = keras.layers.DepthwiseConv2D(x.shape[1], use_bias=False)(x)
    x = keras.layers.Flatten()(_normalisation(x))
    x = keras.layers.Dense(features, dtype="float32", name="features")(x)
    return keras.Model(images, x, name=f"face_backbone_{variant}")


def _convolution(x, channels, stride=1, kernel=3):
    return keras.layers.Conv2D(
        channels,
        kernel,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)


def _normalisation(x):
    return keras.layers.BatchNormalization(momentum=0.97, epsilon=1e-5)(x)


def _activation(x):
    return keras.layers.PReLU(
        shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25)
    )(x)


def _residual(x, channels, stride):
    y = _activation(_normalisation(_convolution(x, channels, stride)))
    y = _normalisation(_convolution(y, channels))
    if stride > 1:
        # Averaging before the 1x1 convolution keeps every pixel of the shortcut
        # (He et al., 2019, "Bag of Tricks", ResNet-D).
        x = keras.layers.AveragePooling2D(stride)(x)
    if x.shape[-1] != channels:
        x = _normalisation(_convolution(x, channels, kernel=1))
    return _activation(keras.layers.Add()([x, y]))


@keras.saving.register_keras_serializable(package="mlcvtf")
class FaceEmbedder(keras.Model):
    """Embeds aligned faces on the unit sphere.

    Args:
        backbone: model from float32 `[batch, size, size, 3]` in 0..255 to
            `[batch, features]`.
        margin: head for training on identities, or None.
        centre: sequence of `features` numbers added before normalisation, or None.
        margin_weight: weight of the margin softmax in the loss.
        teacher_weight: weight of the mean squared error to the teacher.

    `call(images)` gives {"features": float32 `[batch, features]`, "embedding":
    float32 `[batch, features]` of unit norm}. Targets are {"identity": int `[batch]`,
    -1 for unlabelled} and, with a teacher, {"teacher": float32 `[batch, features]`}.
    """

    def __init__(
        self,
        backbone: keras.Model,
        margin: AdditiveAngularMargin | None = None,
        centre=None,
        margin_weight: float = 1.0,
        teacher_weight: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone, self.margin = backbone, margin
        features = backbone.output_shape[-1]
        self.centre = [0.0] * features if centre is None else [float(c) for c in centre]
        if len(self.centre) != features:
            raise ValueError(
                f"centre has one number per feature ({features}), received "
                f"{len(self.centre)}"
            )
        self.margin_weight, self.teacher_weight = margin_weight, teacher_weight
        if margin is not None and not margin.built:
            margin.build((None, features))
        self.built = True

    def call(self, images, training=None):
        features = self.backbone(images, training=training)
        return {"features": features, "embedding": self._normalise(features)}

    def _normalise(self, features):
        centre = ops.convert_to_tensor(self.centre, dtype="float32")
        return ops.normalize(ops.cast(features, "float32") + centre, axis=-1)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        features, loss = y_pred["features"], 0.0
        if self.margin is not None:
            labels = ops.cast(y["identity"], "int32")
            logits = self.margin(features, labels)
            labelled = ops.cast(labels >= 0, logits.dtype)
            error = keras.losses.sparse_categorical_crossentropy(
                ops.maximum(labels, 0), logits, from_logits=True
            )
            count = sum_over_replicas(ops.sum(labelled))
            error = ops.sum(error * labelled) / ops.maximum(count, 1.0)
            loss = loss + self.margin_weight * error
        if self.teacher_weight:
            error = mean_over_replicas(ops.square(features - y["teacher"]))
            loss = loss + self.teacher_weight * error
        return loss

    def embed(self, images):
        """Embeds faces with the mean of the plain and the mirrored features.

        Args:
            images: float32 `[batch, size, size, 3]` in 0..255, aligned.

        Returns:
            float32 `[batch, features]` of unit norm.
        """
        both = ops.concatenate([images, ops.flip(images, axis=2)], axis=0)
        features = self.backbone(both, training=False)
        plain, mirrored = ops.split(features, 2, axis=0)
        return self._normalise((plain + mirrored) / 2)

    def get_config(self):
        serialise = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "backbone": serialise(self.backbone),
            "margin": None if self.margin is None else serialise(self.margin),
            "centre": self.centre,
            "margin_weight": self.margin_weight,
            "teacher_weight": self.teacher_weight,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        config = dict(config, backbone=restore(config["backbone"]))
        if config["margin"] is not None:
            config["margin"] = restore(config["margin"])
        return cls(**config)
