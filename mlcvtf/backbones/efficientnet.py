"""EfficientNet-B0 to B7 backbones.

Tan, Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", arXiv:1905.11946. Faithful to table 1 and to the authors' release
(tensorflow/tpu, models/official/efficientnet), whose coefficients B1 to B7 have; see
`mlcvtf.classification.compound_scaling` for how they relate to the paper's alpha, beta
and gamma. Padding and epsilon follow the release, torchvision or timm, so that outputs
equal either with the same weights. The form for small images is ours: the paper has
none.
"""

import math
from typing import NamedTuple

import keras

from mlcvtf.backbones.stem import convolution_block, image_input
from mlcvtf.layers.inverted_residual import round_channels
from mlcvtf.layers.mbconv import MBConv, initializer

# Table 1 of the paper, stages 2 to 8: expansion, kernel, stride, channels, layers.
TABLE_1 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# The stages that keep their stride in the form for small images (from 0).
SMALL_STRIDED = (1, 3)


class Scaling(NamedTuple):
    """A row of `VARIANTS`.

    Attributes:
        width: multiplier of channels.
        depth: multiplier of layers.
        resolution: side of the pictures that the network was trained on, pixels.
        dropout: before the classifier.
    """

    width: float
    depth: float
    resolution: int
    dropout: float


# `efficientnet_params` of the release's efficientnet_builder.py.
VARIANTS = {
    "efficientnet_b0": Scaling(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": Scaling(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": Scaling(1.1, 1.2, 260, 0.3),
    "efficientnet_b3": Scaling(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": Scaling(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": Scaling(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": Scaling(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": Scaling(2.0, 3.1, 600, 0.5),
}
# Padding and batch normalisation's epsilon. "keras" is the release's: timm's tf_
# variants have it too. torchvision took its B5 to B7 over with the release's epsilon.
ORIGINS = {
    "keras": ("same", 1e-3),
    "torchvision": ("symmetric", 1e-5),
    "timm": ("symmetric", 1e-5),
}
TORCHVISION_EPSILON = {f"efficientnet_b{number}": 1e-3 for number in (5, 6, 7)}


def efficientnet(
    variant: str | Scaling = "efficientnet_b0",
    origin: str = "keras",
    last: bool = True,
    input_shape: tuple = (None, None, 3),
    small_images: bool = False,
    normalisation: str | tuple = "mean_std",
    drop_rate: float = 0.2,
    momentum: float = 0.99,
    name: str | None = None,
) -> keras.Model:
    """Builds EfficientNet as a pyramid of feature maps.

    Args:
        variant: "efficientnet_b0" to "efficientnet_b7", or multipliers of one's own.
        origin: "keras" for the release's padding and epsilon, "torchvision", "timm".
        last: closes with the 1x1 convolution of 1280 (times width) channels, as
            classifiers do; detectors leave it out.
        input_shape: height, width and 3 channels; height and width may be None.
        small_images: the stem keeps the resolution and only two stages halve it, for
            pictures of about 32 x 32.
        normalisation: see `mlcvtf.backbones.stem.image_input`; all sources standardise
            by ImageNet's mean and deviation, except timm's AdvProp weights ("unit").
        drop_rate: of the last block's branch in training; it grows linearly from 0 at
            the first block (see `MBConv`).
        momentum: of batch normalisation's moving statistics.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255 (the
        first layer normalises it). Output: dict with "P1" to "P5" ("P0" to "P2" for
        small images), where Pn is `[batch, height / 2^n, width / 2^n, channels]`,
        rounded up.

    Raises:
        ValueError: unknown variant, origin or normalisation, or the input has not
            three channels.
    """
    if isinstance(variant, str) and variant not in VARIANTS:
        raise ValueError(
            f"variant is one of {', '.join(VARIANTS)}, received {variant!r}"
        )
    if origin not in ORIGINS:
        raise ValueError(f"origin is one of {', '.join(ORIGINS)}, received {origin!r}")
    scaling = VARIANTS[variant] if isinstance(variant, str) else variant
    padding, epsilon = ORIGINS[origin]
    if origin == "torchvision":
        epsilon = TORCHVISION_EPSILON.get(variant, epsilon)
    images, x = image_input(input_shape, normalisation)

    def convolution(x, channels, kernel_size, stride, name):
        channels = round_channels(channels * scaling.width)
        style = ("silu", padding, epsilon, momentum, name, initializer())
        return convolution_block(x, channels, kernel_size, stride, *style)

    first = 1 if small_images else 2
    x = convolution(x, STEM_CHANNELS, 3, first, "stem")
    level, outputs, rows = first - 1, {}, _rows(scaling, small_images)
    for index, (block, expansion, kernel, stride, channels) in enumerate(rows):
        if stride == 2:
            outputs[f"P{level}"] = x
            level += 1
        x = MBConv(
            channels,
            kernel,
            expansion,
            stride,
            drop_rate=drop_rate * index / len(rows),
            padding=padding,
            epsilon=epsilon,
            momentum=momentum,
            name=block,
        )(x)
    if last:
        x = convolution(x, LAST_CHANNELS, 1, 1, "last")
    outputs[f"P{level}"] = x
    title = name or (variant if isinstance(variant, str) else "efficientnet")
    return keras.Model(images, outputs, name=title)


def _rows(scaling, small_images):
    """Returns name, expansion, kernel, stride and channels of each block."""
    rows = []
    for stage, (expansion, kernel, stride, channels, layers) in enumerate(TABLE_1):
        if small_images and stage not in SMALL_STRIDED:
            stride = 1
        channels = round_channels(channels * scaling.width)
        for block in range(math.ceil(layers * scaling.depth)):
            name = f"stage{stage + 1}_block{block}"
            rows.append((name, expansion, kernel, stride, channels))
            stride = 1
    return rows
