"""DarkNet-53 backbone.

Redmon, Farhadi, 2018, "YOLOv3: An Incremental Improvement", arXiv:1804.02767. Faithful
to table 1; strided convolutions pad one place on each side, rectifiers leak with 0.1
and pictures come in 0..1, as in the authors' program (the paper gives none of these).
Its kernels are 1x1 and 3x3, stride is by convolution only, and nothing follows the sum
of a residual block. DarkNet-17 and -21 are the same network with fewer blocks, from
timm.
"""

import keras

from mlcvtf.layers.convolution_unit import ConvolutionUnit
from mlcvtf.layers.normalisation import named_normalisation

# Residual blocks per stage: table 1 of the paper, and timm's two small ones.
VARIANTS = {
    "17": (1, 1, 1, 1, 1),
    "21": (1, 1, 1, 2, 2),
    "53": (1, 2, 8, 8, 4),
}
# Channels of the stem; every stage doubles them.
STEM = 32


def darknet(
    variant: str = "53",
    slope: float = 0.1,
    width: float = 1.0,
    normalisation: str = "zero_one",
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.99,
    name: str | None = None,
) -> keras.Model:
    """Builds a DarkNet as a pyramid of feature maps.

    Args:
        variant: "17", "21" or "53", the paper's.
        slope: of the leaky rectifiers below zero; the authors' weights need 0.1,
            timm's 0.01.
        width: factor of all channel counts, greater than 0.
        normalisation: "zero_one" as the authors' weights need, "mean_std" as timm's,
            or "unit".
        input_shape: height, width and 3 channels; height and width may be None.
        momentum: of batch normalisation's moving statistics.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P1" to "P5", where Pn is
        `[batch, height / 2^n, width / 2^n, 32 * 2^n]`, rounded up.

    Raises:
        ValueError: `variant` or `normalisation` is unknown, `width` is not positive, or
            the input has not three channels.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is one of {', '.join(VARIANTS)}, received {variant!r}"
        )
    if width <= 0:
        raise ValueError(f"width is greater than 0, received {width}")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )

    def unit(x, filters, *arguments, name):
        return ConvolutionUnit(
            max(1, round(filters * width)),
            *arguments,
            padding="symmetric",
            slope=slope,
            epsilon=1e-5,
            momentum=momentum,
            name=name,
        )(x)

    images = keras.Input(input_shape, name="images")
    x = named_normalisation(normalisation)(images)
    x = unit(x, STEM, 3, name="stem")
    outputs = {}
    for stage, repeats in enumerate(VARIANTS[variant], start=1):
        channels = STEM * 2**stage
        x = unit(x, channels, 3, 2, name=f"stage{stage}_down")
        for block in range(repeats):
            prefix = f"stage{stage}_block{block}"
            y = unit(x, channels // 2, 1, name=f"{prefix}_conv1")
            y = unit(y, channels, 3, name=f"{prefix}_conv2")
            x = keras.layers.Add(name=f"{prefix}_add")([x, y])
        outputs[f"P{stage}"] = x
    return keras.Model(images, outputs, name=name or f"darknet{variant}")
