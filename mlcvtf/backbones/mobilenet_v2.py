"""MobileNetV2 backbone.

Sandler, Howard, Zhu, Zhmoginov, Chen, 2018, "MobileNetV2: Inverted Residuals and
Linear Bottlenecks", arXiv:1801.04381. Faithful to table 2 and to the width multiplier
of section 3; channel counts are rounded to multiples of 8 and strided convolutions
pad as in the authors' release, so that outputs equal `keras.applications.MobileNetV2`
with the same weights.
"""

import keras

from mlcvtf.layers.inverted_residual import InvertedResidual, round_channels

# Table 2 of the paper: expansion t, output channels c, repeats n, stride s.
TABLE_2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    alpha: float = 1.0,
    last_channels: int | None = 1280,
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.999,
    name: str | None = None,
) -> keras.Model:
    """Builds MobileNetV2 as a pyramid of feature maps.

    Args:
        alpha: width multiplier, greater than 0.
        last_channels: channels of the closing 1x1 convolution (times `alpha` where
            that is greater than 1), or None to leave it out, as detectors do.
        input_shape: height, width and 3 channels; height and width may be None.
        momentum: of batch normalisation's moving statistics (see
            `InvertedResidual`).
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255 (the
        first layer maps it to -1..1). Output: dict with "P1" to "P5", where Pn is
        `[batch, height / 2^n, width / 2^n, channels]`, rounded up.

    Raises:
        ValueError: `alpha` is not positive, or the input has not three channels.
    """
    if alpha <= 0:
        raise ValueError(f"alpha is greater than 0, received {alpha}")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    images = keras.Input(input_shape, name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalisation")(images)
    x = keras.layers.Conv2D(
        round_channels(32 * alpha), 3, 2, padding="same", use_bias=False, name="stem"
    )(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum)(x)
    x = keras.layers.ReLU(6.0)(x)
    level, outputs = 1, {}
    for expansion, channels, repeats, stride in TABLE_2:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            if step == 2:
                outputs[f"P{level}"] = x
                level += 1
            x = InvertedResidual(
                round_channels(channels * alpha), expansion, step, momentum
            )(x)
    if last_channels is not None:
        channels = round_channels(last_channels * alpha) if alpha > 1 else last_channels
        x = keras.layers.Conv2D(channels, 1, use_bias=False, name="last")(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum)(x)
        x = keras.layers.ReLU(6.0)(x)
    outputs[f"P{level}"] = x
    return keras.Model(images, outputs, name=name or "mobilenet_v2")
