"""MobileNetV2 backbone.

Sandler, Howard, Zhu, Zhmoginov, Chen, 2018, "MobileNetV2: Inverted Residuals and
Linear Bottlenecks", arXiv:1801.04381. Faithful to table 2 and to the width multiplier
of section 3; channel counts are rounded to multiples of 8. Padding and epsilon follow
the authors' release as in `keras.applications.MobileNetV2`, or PyTorch's copies
(torchvision, timm), so that outputs equal either with the same weights. The form for
small images is ours: the paper has none.
"""

import keras

from mlcvtf.backbones.stem import convolution_block, image_input
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
# The stages that keep their stride in the form for small images (from 0).
SMALL_STRIDED = (1, 3)
# Padding, batch normalisation's epsilon and the pictures' normalisation.
ORIGINS = {
    "keras": ("same", 1e-3, "unit"),
    "torch": ("symmetric", 1e-5, "mean_std"),
}


def mobilenet_v2(
    alpha: float = 1.0,
    last_channels: int | None = 1280,
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.999,
    name: str | None = None,
    origin: str = "keras",
    small_images: bool = False,
    normalisation: str | tuple | None = None,
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
        origin: "keras" for the authors' padding and epsilon, "torch" for PyTorch's.
        small_images: the stem keeps the resolution and only two stages halve it, for
            pictures of about 32 x 32.
        normalisation: see `mlcvtf.backbones.stem.image_input`; None is what the
            origin's weights were trained with.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255 (the
        first layer normalises it). Output: dict with "P1" to "P5" ("P0" to "P2" for
        small images), where Pn is `[batch, height / 2^n, width / 2^n, channels]`,
        rounded up.

    Raises:
        ValueError: `alpha` is not positive, `origin` is unknown, or the input has not
            three channels.
    """
    if alpha <= 0:
        raise ValueError(f"alpha is greater than 0, received {alpha}")
    if origin not in ORIGINS:
        raise ValueError(f"origin is one of {', '.join(ORIGINS)}, received {origin!r}")
    padding, epsilon, trained_with = ORIGINS[origin]
    images, x = image_input(input_shape, normalisation or trained_with)
    style = ("relu6", padding, epsilon, momentum)
    first = 1 if small_images else 2
    x = convolution_block(x, round_channels(32 * alpha), 3, first, *style, name="stem")
    level, outputs = first - 1, {}
    for stage, (expansion, channels, repeats, stride) in enumerate(TABLE_2):
        if small_images and stage not in SMALL_STRIDED:
            stride = 1
        for block in range(repeats):
            step = stride if block == 0 else 1
            if step == 2:
                outputs[f"P{level}"] = x
                level += 1
            x = InvertedResidual(
                round_channels(channels * alpha),
                expansion,
                step,
                momentum,
                padding,
                epsilon,
                name=f"stage{stage + 1}_block{block}",
            )(x)
    if last_channels is not None:
        channels = round_channels(last_channels * alpha) if alpha > 1 else last_channels
        x = convolution_block(x, channels, 1, 1, *style, name="last")
    outputs[f"P{level}"] = x
    return keras.Model(images, outputs, name=name or "mobilenet_v2")
