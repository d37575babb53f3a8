"""ResNet, and what grew out of it: Wide ResNet, ResNeXt, SENet, dilated networks.

He, Zhang, Ren, Sun, 2016, "Deep Residual Learning for Image Recognition",
arXiv:1512.03385. Faithful to table 1. `origin="paper"` has the paper's strides, in the
first 1x1 convolution of a stage; `origin="torch"` (the default) strides in the 3x3
convolution ("v1.5"), which is 0.5 % more accurate and what ResNeXt and torchvision do;
`origin="keras"` is the paper's with biases before batch normalisation, as
`keras.applications`; `origin="senet"` is the SENet authors' release: the paper's
strides (not for ResNeXt) and a pooling that pads behind only. Each carries its source's
normalisation of pictures.

Xie, Girshick, Dollar, Tu, He, 2017, "Aggregated Residual Transformations for Deep
Neural Networks", arXiv:1611.05431 (ResNeXt, table 1). Zagoruyko, Komodakis, 2016,
"Wide Residual Networks", arXiv:1605.07146 (table 8: the inner width doubled). Hu, Shen,
Albanie, Sun, Wu, 2018, "Squeeze-and-Excitation Networks", arXiv:1709.01507 (table 1).
Dilation: Yu, Koltun, Funkhouser, 2017, "Dilated Residual Networks", arXiv:1705.09914;
Chen et al., 2017, arXiv:1706.05587, section 3.1, with the first block of a dilated
stage at half its rate, since the map before it has that rate.
"""

import math
from typing import NamedTuple

import keras

from mlcvtf.layers.grouped_convolution import GroupedConv2D
from mlcvtf.layers.normalisation import named_normalisation
from mlcvtf.layers.residual import BasicBlock, BottleneckBlock


class Variant(NamedTuple):
    """A row of the papers' tables.

    Attributes:
        repeats: blocks per stage.
        bottleneck: bottleneck blocks, four times as many channels out.
        groups: of the 3x3 convolution.
        width: channels per group of the 3x3 convolution in the first stage.
        squeeze_ratio: of squeeze and excitation, or None.
    """

    repeats: tuple
    bottleneck: bool = True
    groups: int = 1
    width: int = 64
    squeeze_ratio: int | None = None


VARIANTS = {
    "resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "resnet34": Variant((3, 4, 6, 3), bottleneck=False),
    "resnet50": Variant((3, 4, 6, 3)),
    "resnet101": Variant((3, 4, 23, 3)),
    "resnet152": Variant((3, 8, 36, 3)),
    "wide_resnet50_2": Variant((3, 4, 6, 3), width=128),
    "wide_resnet101_2": Variant((3, 4, 23, 3), width=128),
    "resnext50_32x4d": Variant((3, 4, 6, 3), groups=32, width=4),
    "resnext101_32x8d": Variant((3, 4, 23, 3), groups=32, width=8),
    "seresnet50": Variant((3, 4, 6, 3), squeeze_ratio=16),
    "seresnet101": Variant((3, 4, 23, 3), squeeze_ratio=16),
    "seresnext50": Variant((3, 4, 6, 3), groups=32, width=4, squeeze_ratio=16),
}


class Origin(NamedTuple):
    """What differs between sources of weights.

    Attributes:
        strided: the strided convolution of a bottleneck block.
        use_bias: convolutions have biases.
        epsilon: of batch normalisation.
        normalisation: of pictures, by name.
        pool_padding: zeros before and behind, in front of the 3x3 pooling.
    """

    strided: str
    use_bias: bool
    epsilon: float
    normalisation: str
    pool_padding: tuple = (1, 1)


ORIGINS = {
    "torch": Origin("conv2", False, 1e-5, "mean_std"),
    "paper": Origin("conv1", False, 1e-5, "caffe"),
    "keras": Origin("conv1", True, 1.001e-5, "caffe"),
    "senet": Origin("conv1", False, 1e-5, "mean_std", (0, 1)),
}
# Stride of each stage's first block after the stem's 4 (1 with a small stem).
STRIDES = (1, 2, 2, 2)
SMALL_STRIDES = (1, 2, 2, 1)


def resnet(
    variant: str = "resnet50",
    origin: str = "torch",
    total_stride: int = 32,
    small_images: bool = False,
    zero_gamma: bool = False,
    levels: tuple[str, ...] | None = None,
    normalisation: str | None = None,
    momentum: float = 0.9,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network as a pyramid of feature maps.

    Args:
        variant: key of `VARIANTS`.
        origin: key of `ORIGINS`; whose weights the network fits to the letter.
        total_stride: 32, or 16 or 8 for a dilated network: the last stage, or the last
            two, dilate their 3x3 convolutions instead of halving the map.
        small_images: for pictures of about 32 x 32: a 3x3 stem of stride 1, no pooling
            and two stages that halve the map; levels "P0" to "P2".
        zero_gamma: the last gamma of each block starts at zero.
        levels: names of the maps to give; None gives all from "P2" on and, of a dilated
            network, the last one only.
        normalisation: name in `NORMALISATIONS` that replaces the origin's.
        momentum: of batch normalisation's moving statistics; `keras.applications` has
            0.99, which is slow for a short training.
        input_shape: height, width and 3 channels; height and width may be None.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P2" to "P5", where Pn is `[batch, height / 2^n, width / 2^n,
        channels]`, rounded up (of origin "senet", the pooling drops a last odd row and
        column).

    Raises:
        ValueError: unknown variant, origin, level, stride or normalisation; small
            images with dilation; or the input has not three channels.
    """
    row, source = _check(variant, origin, total_stride, small_images, input_shape)
    images = keras.Input(input_shape, name="images")
    x = named_normalisation(
        normalisation or source.normalisation, name="normalisation"
    )(images)
    x, outputs, level = _stem(x, source, small_images, momentum)
    rate = 1
    for stage, repeats in enumerate(row.repeats):
        stride = (SMALL_STRIDES if small_images else STRIDES)[stage]
        first_rate = rate
        if stride == 2 and 2**level == total_stride:
            rate, stride = rate * 2, 1
        level += stride - 1
        for repeat in range(repeats):
            x = _block(
                row,
                source,
                stage,
                stride=stride if repeat == 0 else 1,
                rate=first_rate if repeat == 0 else rate,
                zero_gamma=zero_gamma,
                momentum=momentum,
                name=f"stage{stage + 1}_block{repeat}",
            )(x)
        outputs[f"P{level}"] = x
    if levels is None:
        levels = [key for key in outputs if small_images or key != "P1"]
        levels = levels[-1:] if total_stride < 32 else levels
    if not levels or not set(levels) <= set(outputs):
        raise ValueError(
            f"levels are some of {', '.join(outputs)}, received {tuple(levels)}"
        )
    outputs = {key: outputs[key] for key in outputs if key in levels}
    return keras.Model(images, outputs, name=name or variant)


def width_per_group(groups: int, filters: int = 256, width: int = 64) -> int:
    """Finds the group width d of a ResNeXt block that costs what a bottleneck costs.

    A bottleneck of `width` w between maps of `filters` C channels has 2 C w + 9 w^2
    weights, a block of G groups G (2 C d + 9 d^2), and multiply-adds are both times the
    places. The difference has one positive root; d is the whole number beside it that
    comes closer in cost.

    Args:
        groups: number of groups G, at least 1.
        filters: channels C of the block's input and output.
        width: channels w of the bottleneck's 3x3 convolution.

    Returns:
        Channels per group, at least 1.

    Raises:
        ValueError: a number is not positive.

    >>> [width_per_group(groups) for groups in (1, 2, 4, 8, 32)]
    [64, 40, 24, 14, 4]

    References:
        Xie et al., 2017, arXiv:1611.05431, section 4.1 and table 2.
    """
    if min(groups, filters, width) < 1:
        raise ValueError(
            "groups, filters and width are at least 1, received "
            f"{groups}, {filters} and {width}"
        )

    def difference(group_width):
        blocks = groups * (2 * filters * group_width + 9 * group_width**2)
        return abs(blocks - (2 * filters * width + 9 * width**2))

    share = (2 * filters * width + 9 * width**2) / groups
    below = math.floor((math.sqrt(filters**2 + 9 * share) - filters) / 9)
    return min(max(1, below), below + 1, key=difference)


def _check(variant, origin, total_stride, small_images, input_shape):
    """Returns the rows of the tables, or says what they lack."""
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is one of {', '.join(VARIANTS)}, received {variant!r}"
        )
    if origin not in ORIGINS:
        raise ValueError(f"origin is one of {', '.join(ORIGINS)}, received {origin!r}")
    if total_stride not in (8, 16, 32):
        raise ValueError(f"total_stride is 8, 16 or 32, received {total_stride}")
    if small_images and total_stride != 32:
        raise ValueError(
            "a network for small images is not dilated, received total_stride "
            f"{total_stride}"
        )
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    row, source = VARIANTS[variant], ORIGINS[origin]
    if origin == "senet" and row.groups > 1:
        source = source._replace(strided="conv2")
    return row, source


def _stem(x, source, small_images, momentum):
    """Returns the map, the levels so far and the map's level."""
    size, stride = (3, 1) if small_images else (7, 2)
    x = GroupedConv2D(
        64,
        size,
        strides=stride,
        padding="symmetric",
        use_bias=source.use_bias,
        kernel_initializer="he_normal",
        name="stem",
    )(x)
    x = keras.layers.BatchNormalization(
        epsilon=source.epsilon, momentum=momentum, name="stem_normalisation"
    )(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    if small_images:
        return x, {}, 0
    outputs = {"P1": x}
    # After a ReLU zeros never win, as if the padding were minus infinity.
    x = keras.layers.ZeroPadding2D([source.pool_padding] * 2, name="pool_padding")(x)
    return keras.layers.MaxPooling2D(3, 2, name="pool")(x), outputs, 2


def _block(row, source, stage, **options):
    options |= {
        "squeeze_ratio": row.squeeze_ratio,
        "use_bias": source.use_bias,
        "epsilon": source.epsilon,
    }
    filters = 64 * 2**stage
    if not row.bottleneck:
        return BasicBlock(filters, **options)
    return BottleneckBlock(
        4 * filters,
        row.groups * row.width * 2**stage,
        groups=row.groups,
        strided=source.strided,
        **options,
    )
