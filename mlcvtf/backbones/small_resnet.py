"""Residual networks for small pictures: ResNet-20 and its kin, and WRN-d-k.

He, Zhang, Ren, Sun, 2016, "Deep Residual Learning for Image Recognition",
arXiv:1512.03385, section 4.2: three stages of n blocks on maps of 32, 16 and 8 places,
6 n + 2 layers. Faithful with `shortcut="padding"` (option A); the authors subtract each
pixel's mean over the training set, this network a colour's.

Zagoruyko, Komodakis, 2016, "Wide Residual Networks", arXiv:1605.07146, table 1, in the
order of their release: batch normalisation and ReLU before each convolution, and before
a shortcut that changes the channels.
"""

import keras

from mlcvtf.layers.normalisation import named_normalisation
from mlcvtf.layers.residual import BasicBlock, BottleneckBlock, PreActivationBlock

STAGES = 3


def small_resnet(
    widths: tuple[int, int, int] = (16, 32, 64),
    repeats: int = 3,
    shortcut: str = "projection",
    squeeze_ratio: int | None = None,
    expansion: int = 1,
    groups: int = 1,
    group_width: int | None = None,
    zero_gamma: bool = False,
    normalisation: str = "mean_std",
    momentum: float = 0.9,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network of three stages, of strides 1, 2 and 4.

    ResNet-20 has the default widths and three blocks a stage; widths 32, 64 and 128
    make the network of this package's CIFAR-10 recipe.

    Args:
        widths: channels of the stem and of the first stage's convolutions, of the
            second's and of the third's.
        repeats: blocks per stage.
        shortcut: "projection" or, as in the paper, "padding" (see `BasicBlock`).
        squeeze_ratio: of squeeze and excitation; None leaves it out.
        expansion: 1 for blocks of two 3x3 convolutions; more for bottlenecks, whose
            output is that many times wider than `widths`.
        groups: of the bottlenecks' 3x3 convolutions.
        group_width: channels per group in the first stage, such as
            `resnet.width_per_group(groups, expansion * widths[0], widths[0])`; the
            other stages widen with `widths`. None shares `widths` among the groups.
        zero_gamma: the last gamma of each block starts at zero.
        normalisation: of pictures, a name in `NORMALISATIONS`.
        momentum: of batch normalisation's moving statistics.
        input_shape: height, width and 3 channels; height and width may be None.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P0" to "P2", where Pn is `[batch, height / 2^n, width / 2^n,
        expansion * widths[n]]`, rounded up.

    Raises:
        ValueError: not three widths, groups without bottlenecks, or the input has not
            three channels.
    """
    if len(widths) != STAGES or min(widths) < 1 or repeats < 1:
        raise ValueError(
            "widths are three positive numbers and repeats is at least 1, received "
            f"{tuple(widths)} and {repeats}"
        )
    if expansion == 1 and groups > 1:
        raise ValueError("groups are for bottlenecks, received an expansion of 1")
    options = {
        "shortcut": shortcut,
        "squeeze_ratio": squeeze_ratio,
        "zero_gamma": zero_gamma,
        "momentum": momentum,
    }

    def block(stage, stride, name):
        if expansion == 1:
            return BasicBlock(widths[stage], stride, name=name, **options)
        inner = widths[stage]
        if group_width is not None:
            inner = groups * (group_width * widths[stage] // widths[0])
        return BottleneckBlock(
            expansion * widths[stage],
            inner,
            stride,
            groups=groups,
            name=name,
            **options,
        )

    images, x = _stem(input_shape, normalisation, widths[0])
    x = keras.layers.BatchNormalization(
        epsilon=1e-5, momentum=momentum, name="stem_normalisation"
    )(x)
    x = keras.layers.ReLU(name="stem_relu")(x)
    outputs = _stages(x, block, repeats)
    return keras.Model(images, outputs, name=name or f"resnet{6 * repeats + 2}")


def wide_resnet(
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    normalisation: str = "mean_std",
    momentum: float = 0.9,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
) -> keras.Model:
    """Builds WRN-depth-width, for small pictures.

    Args:
        depth: number of convolutions, 6 n + 4 for n blocks per stage.
        width: factor k of the channels 16, 32 and 64.
        dropout: share of values dropped inside blocks, 0 to below 1; the paper's 0.3.
        normalisation: of pictures, a name in `NORMALISATIONS`.
        momentum: of batch normalisation's moving statistics.
        input_shape: height, width and 3 channels; height and width may be None.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P0" to "P2", where Pn is `[batch, height / 2^n, width / 2^n,
        16 width 2^n]`, rounded up. "P2" has the closing batch normalisation and ReLU,
        the others are the raw sums.

    Raises:
        ValueError: `depth` is not 6 n + 4, `width` is not positive, or the input has
            not three channels.
    """
    if depth < 10 or (depth - 4) % 6 or width < 1:
        raise ValueError(
            "depth is 6 n + 4 (10, 16, 22, 28 ...) and width is at least 1, received "
            f"{depth} and {width}"
        )

    def block(stage, stride, name):
        filters = 16 * width * 2**stage
        return PreActivationBlock(
            filters, stride, dropout, momentum=momentum, name=name
        )

    images, x = _stem(input_shape, normalisation, 16)
    outputs = _stages(x, block, (depth - 4) // 6)
    x = keras.layers.BatchNormalization(
        epsilon=1e-5, momentum=momentum, name="last_normalisation"
    )(outputs["P2"])
    outputs["P2"] = keras.layers.ReLU(name="last_relu")(x)
    return keras.Model(images, outputs, name=name or f"wrn{depth}_{width}")


def _stem(input_shape, normalisation, filters):
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    images = keras.Input(input_shape, name="images")
    x = named_normalisation(normalisation, name="normalisation")(images)
    return images, keras.layers.Conv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name="stem",
    )(x)


def _stages(x, block, repeats):
    outputs = {}
    for stage in range(STAGES):
        for repeat in range(repeats):
            stride = 2 if stage > 0 and repeat == 0 else 1
            x = block(stage, stride, f"stage{stage + 1}_block{repeat}")(x)
        outputs[f"P{stage}"] = x
    return outputs
