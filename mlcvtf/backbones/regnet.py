"""RegNetX and RegNetY backbones, 200 MF to 32 GF.

Radosavovic, Kosaraju, Girshick, He, Dollar, 2020, "Designing Network Design Spaces",
arXiv:2003.13678. Faithful to section 3.3: the widths of all blocks follow from an
initial width, a slope and a step by the quantised linear rule. Padding and epsilon are
those of the authors' release (pycls) and of all its copies, in PyTorch. The form for
small images is ours: the paper has none.
"""

from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.backbones.stem import convolution_block, image_input
from mlcvtf.layers.inverted_residual import round_channels
from mlcvtf.layers.regnet_block import RegNetBlock

STEM_CHANNELS = 32
STRIDES, SMALL_STRIDES = (2, 2, 2, 2), (1, 2, 2, 1)


class Design(NamedTuple):
    """A point of the RegNet design space, in the paper's symbols.

    Attributes:
        initial_width: w_0, a multiple of 8.
        slope: w_a, channels per block.
        step: w_m, ratio of the widths of neighbouring stages.
        group_width: g.
        depth: d, number of blocks of all stages.
        squeeze_ratio: of the Y block; None for X.
        rounding: widths become multiples of the group width by "nearest" (the
            paper's release), or as MobileNetV2's channels do ("torchvision": never
            down by over 10 %).
    """

    initial_width: int
    slope: float
    step: float
    group_width: int
    depth: int
    squeeze_ratio: float | None = None
    rounding: str = "nearest"


# The configurations of pycls, configs/dds_baselines, which the paper's tables 5 and 6
# (appendix) print rounded to integers and one decimal.
X_VARIANTS = {
    "regnetx_200mf": Design(24, 36.44, 2.49, 8, 13),
    "regnetx_400mf": Design(24, 24.48, 2.54, 16, 22),
    "regnetx_600mf": Design(48, 36.97, 2.24, 24, 16),
    "regnetx_800mf": Design(56, 35.73, 2.28, 16, 16),
    "regnetx_1_6gf": Design(80, 34.01, 2.25, 24, 18),
    "regnetx_3_2gf": Design(88, 26.31, 2.25, 48, 25),
    "regnetx_4gf": Design(96, 38.65, 2.43, 40, 23),
    "regnetx_6_4gf": Design(184, 60.83, 2.07, 56, 17),
    "regnetx_8gf": Design(80, 49.56, 2.88, 120, 23),
    "regnetx_12gf": Design(168, 73.36, 2.37, 112, 19),
    "regnetx_16gf": Design(216, 55.59, 2.1, 128, 22),
    "regnetx_32gf": Design(320, 69.86, 2.0, 168, 23),
}
Y_VARIANTS = {
    "regnety_200mf": Design(24, 36.44, 2.49, 8, 13, 0.25),
    "regnety_400mf": Design(48, 27.89, 2.09, 8, 16, 0.25),
    "regnety_600mf": Design(48, 32.54, 2.32, 16, 15, 0.25),
    "regnety_800mf": Design(56, 38.84, 2.4, 16, 14, 0.25),
    "regnety_1_6gf": Design(48, 20.71, 2.65, 24, 27, 0.25),
    "regnety_3_2gf": Design(80, 42.63, 2.66, 24, 21, 0.25),
    "regnety_4gf": Design(96, 31.41, 2.24, 64, 22, 0.25),
    "regnety_6_4gf": Design(112, 33.22, 2.27, 72, 25, 0.25),
    "regnety_8gf": Design(192, 76.82, 2.19, 56, 17, 0.25),
    "regnety_12gf": Design(168, 73.36, 2.37, 112, 19, 0.25),
    "regnety_16gf": Design(200, 106.23, 2.48, 112, 18, 0.25),
    "regnety_32gf": Design(232, 115.89, 2.53, 232, 20, 0.25),
}
VARIANTS = {
    **X_VARIANTS,
    **Y_VARIANTS,
    # torchvision rounds otherwise, which changes three of its variants.
    **{
        f"{name}_torchvision": {**X_VARIANTS, **Y_VARIANTS}[name]._replace(
            rounding="torchvision"
        )
        for name in ("regnetx_400mf", "regnety_800mf", "regnety_8gf")
    },
}


class Stage(NamedTuple):
    """A stage of equal blocks.

    Attributes:
        width: channels.
        depth: number of blocks.
        group_width: channels per group.
    """

    width: int
    depth: int
    group_width: int


def stages(design: Design) -> list[Stage]:
    """Quantises a line of widths into stages.

    Block j wants `u_j = w_0 + w_a j` channels; it gets `w_0 w_m^s_j`, rounded to a
    multiple of 8, with `s_j = round(log_{w_m}(u_j / w_0))`. Blocks of one width are a
    stage. At last widths become multiples of the group width.

    Args:
        design: the parameters.

    Returns:
        The stages in order.

    Raises:
        ValueError: a parameter is out of its range or `rounding` is unknown.

    References:
        arXiv:2003.13678, section 3.3, equations 2 to 4.

    >>> [(s.width, s.depth) for s in stages(X_VARIANTS["regnetx_200mf"])]
    [(24, 1), (56, 1), (152, 4), (368, 7)]
    """
    initial, slope, step = design[:3]
    if initial < 8 or initial % 8 or slope < 0 or step <= 1 or design.depth < 1:
        raise ValueError(
            "initial_width is a multiple of 8, slope at least 0, step over 1 and depth "
            f"at least 1, received {design}"
        )
    if design.rounding not in ("nearest", "torchvision"):
        raise ValueError(
            f'rounding is "nearest" or "torchvision", received {design.rounding!r}'
        )
    wanted = initial + slope * np.arange(design.depth)
    exponents = np.round(np.log(wanted / initial) / np.log(step))
    blocks = (np.round(initial * step**exponents / 8) * 8).astype(int)
    widths, depths = np.unique(blocks, return_counts=True)
    result = []
    for width, depth in zip(widths.tolist(), depths.tolist(), strict=True):
        group = min(design.group_width, width)
        if design.rounding == "nearest":
            width = round(width / group) * group
        else:
            width = round_channels(width, group)
        result.append(Stage(width, depth, group))
    return result


def regnet(
    variant: str | Design = "regnety_200mf",
    input_shape: tuple = (None, None, 3),
    small_images: bool = False,
    normalisation: str | tuple = "mean_std",
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    name: str | None = None,
) -> keras.Model:
    """Builds RegNetX or RegNetY as a pyramid of feature maps.

    Args:
        variant: key of `VARIANTS`, or a design of one's own, of four stages.
        input_shape: height, width and 3 channels; height and width may be None.
        small_images: the stem keeps the resolution and only the two middle stages
            halve it, for pictures of about 32 x 32.
        normalisation: see `mlcvtf.backbones.stem.image_input`.
        epsilon: of batch normalisation.
        momentum: of batch normalisation's moving statistics.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255 (the
        first layer normalises it). Output: dict with "P1" to "P5" ("P0" to "P2" for
        small images), where Pn is `[batch, height / 2^n, width / 2^n, channels]`,
        rounded up.

    Raises:
        ValueError: unknown variant or normalisation, a design that has not four
            stages, or the input has not three channels.
    """
    if isinstance(variant, str) and variant not in VARIANTS:
        raise ValueError(
            f"variant is one of {', '.join(VARIANTS)}, received {variant!r}"
        )
    design = VARIANTS[variant] if isinstance(variant, str) else Design(*variant)
    rows = stages(design)
    if len(rows) != len(STRIDES):
        raise ValueError(f"a RegNet has {len(STRIDES)} stages, received {len(rows)}")
    images, x = image_input(input_shape, normalisation)
    first = 1 if small_images else 2
    style = ("relu", "symmetric", epsilon, momentum, "stem", "he_normal")
    x = convolution_block(x, STEM_CHANNELS, 3, first, *style)
    level, outputs = first - 1, {}
    strides = SMALL_STRIDES if small_images else STRIDES
    for number, (stage, stride) in enumerate(zip(rows, strides, strict=True), 1):
        if stride == 2:
            outputs[f"P{level}"] = x
            level += 1
        for block in range(stage.depth):
            x = RegNetBlock(
                stage.width,
                stage.group_width,
                stride if block == 0 else 1,
                design.squeeze_ratio,
                epsilon,
                momentum,
                name=f"stage{number}_block{block}",
            )(x)
    outputs[f"P{level}"] = x
    title = name or (variant if isinstance(variant, str) else "regnet")
    return keras.Model(images, outputs, name=title)
