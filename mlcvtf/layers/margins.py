"""Classification heads with a margin on the angle."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mlcvtf")
class AdditiveAngularMargin(keras.layers.Layer):
    """Cosines to class centres, with a margin added to the true class's angle.

    With unit embedding x, unit class weights w_j and true class y the logits are
    `s cos(theta_y + m)` for y and `s cos(theta_j)` for the others. Where
    `theta_y + m` passes pi the cosine would rise again; there `cos(theta_y) - m
    sin(m)` continues it downwards, as in the authors' release.

    Args:
        classes: number of identities.
        scale: s, the radius of the hypersphere.
        margin: m in radians, in [0, pi / 2).

    Input: float `[batch, features]` of any norm, and int `[batch]` true classes or
    None for plain cosines; a label of -1 means unlabelled and gets no margin.
    Output: float `[batch, classes]`.

    Raises:
        ValueError: `classes` under 2, `scale` not positive, or `margin` out of range.

    References:
        Deng, Guo, Xue, Zafeiriou, 2019, "ArcFace: Additive Angular Margin Loss for
        Deep Face Recognition", arXiv:1801.07698, equation 3.
    """

    def __init__(
        self, classes: int, scale: float = 64.0, margin: float = 0.5, **kwargs
    ):
        super().__init__(**kwargs)
        if classes < 2:
            raise ValueError(f"classes is at least 2, received {classes}")
        if scale <= 0:
            raise ValueError(f"scale is positive, received {scale}")
        if not 0 <= margin < math.pi / 2:
            raise ValueError(f"margin is in [0, pi / 2), received {margin}")
        self.classes, self.scale, self.margin = classes, scale, margin

    def build(self, inputs_shape, labels_shape=None):
        self.centres = self.add_weight(
            shape=(inputs_shape[-1], self.classes),
            initializer="glorot_normal",
            name="centres",
        )

    def call(self, inputs, labels=None):
        # Cosines near 1 and the square root below need float32.
        x = ops.normalize(ops.cast(inputs, "float32"), axis=-1)
        centres = ops.normalize(ops.cast(self.centres, "float32"), axis=0)
        cosine = ops.matmul(x, centres)
        if labels is None:
            return self.scale * cosine
        sine = ops.sqrt(ops.clip(1 - ops.square(cosine), 1e-7, 1.0))
        moved = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        moved = ops.where(cosine > -math.cos(self.margin), moved, beyond)
        true = ops.one_hot(labels, self.classes, dtype="bool")
        return self.scale * ops.where(true, moved, cosine)

    def compute_output_shape(self, inputs_shape, labels_shape=None):
        return (*inputs_shape[:-1], self.classes)

    def get_config(self):
        return super().get_config() | {
            "classes": self.classes,
            "scale": self.scale,
            "margin": self.margin,
        }
