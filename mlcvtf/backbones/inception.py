"""Inception-v1 (GoogLeNet) backbone.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, 2014, "Going
Deeper with Convolutions", arXiv:1409.4842. Faithful to table 1 and figure 3: biases, no
batch normalisation, 5x5 kernels, local response normalisation around the second
convolution. The paper gives no constants for the latter; they are those of the work it
builds on (see `LocalResponseNormalisation`). Its first layer subtracts the mean colour,
as section 5 says; the mean is ImageNet's.

Options: batch normalisation in place of biases and of local response normalisation, as
all later releases have it; and torchvision's network, which has 3x3 kernels where the
paper has 5x5, pads symmetrically, pools without padding but with one more window where
a row is left over ("ceil"), 2x2 at the last pooling. The auxiliary heads and the
classifier are in `mlcvtf.classification.inception_classifier`.
"""

import keras

from mlcvtf.layers.convolution_unit import ConvolutionUnit
from mlcvtf.layers.inception import InceptionModule
from mlcvtf.layers.local_response_normalisation import LocalResponseNormalisation
from mlcvtf.layers.normalisation import ImageNormalisation, named_normalisation

# Table 1 of the paper, by the level that a stage ends with: name, 1x1, 3x3 reduce, 3x3,
# 5x5 reduce, 5x5, pool projection.
TABLE_1 = {
    "P3": (
        ("inception3a", 64, 96, 128, 16, 32, 32),
        ("inception3b", 128, 128, 192, 32, 96, 64),
    ),
    "P4": (
        ("inception4a", 192, 96, 208, 16, 48, 64),
        ("inception4b", 160, 112, 224, 24, 64, 64),
        ("inception4c", 128, 128, 256, 24, 64, 64),
        ("inception4d", 112, 144, 288, 32, 64, 64),
        ("inception4e", 256, 160, 320, 32, 128, 128),
    ),
    "P5": (
        ("inception5a", 256, 160, 320, 32, 128, 128),
        ("inception5b", 384, 192, 384, 48, 128, 128),
    ),
}
# Where the paper attaches the auxiliary heads.
AUXILIARY = ("inception4a", "inception4d")
ORIGINS = ("paper", "torchvision")


def inception_v1(
    origin: str = "paper",
    batch_normalisation: bool | None = None,
    width: float = 1.0,
    normalisation: str | None = None,
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.99,
    name: str | None = None,
) -> keras.Model:
    """Builds Inception-v1 as a pyramid of feature maps.

    Args:
        origin: "paper" or "torchvision", whose network is another (see above).
        batch_normalisation: instead of biases and local response normalisation; None:
            as the origin has it (the paper not, torchvision always).
        width: factor of all channel counts, greater than 0.
        normalisation: "mean" (subtracts the mean colour), "unit", "mean_std" or
            "zero_one"; None: "mean" for the paper, "unit" for torchvision, which is
            what its published weights are fed with after `transform_input`.
        input_shape: height, width and 3 channels; height and width may be None.
        momentum: of batch normalisation's moving statistics.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P1" to "P5", where Pn is
        `[batch, height / 2^n, width / 2^n, channels]`, rounded up (torchvision's
        poolings but the last round down).

    Raises:
        ValueError: `origin` or `normalisation` is unknown, `width` is not positive, the
            input has not three channels, or torchvision's network is to be without
            batch normalisation.
    """
    if origin not in ORIGINS:
        raise ValueError(f"origin is one of {', '.join(ORIGINS)}, received {origin!r}")
    torchvision = origin == "torchvision"
    if torchvision and batch_normalisation is False:
        raise ValueError(
            "torchvision's network has batch normalisation, received "
            "batch_normalisation=False"
        )
    if width <= 0:
        raise ValueError(f"width is greater than 0, received {width}")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    normalised = torchvision or bool(batch_normalisation)
    options = {"batch_normalisation": normalised, "momentum": momentum}
    images = keras.Input(input_shape, name="images")
    x = _normalisation(normalisation or ("unit" if torchvision else "mean"))(images)
    outputs = {}
    x = outputs["P1"] = ConvolutionUnit(
        _scaled(64, width),
        7,
        2,
        "symmetric" if torchvision else "same",
        name="stem1",
        **options,
    )(x)
    x = _pool(x, "pool_P2", torchvision)
    if not normalised:
        x = LocalResponseNormalisation(name="response1")(x)
    x = ConvolutionUnit(_scaled(64, width), 1, name="stem2", **options)(x)
    x = ConvolutionUnit(_scaled(192, width), 3, name="stem3", **options)(x)
    if not normalised:
        x = LocalResponseNormalisation(name="response2")(x)
    outputs["P2"] = x
    for level, rows in TABLE_1.items():
        x = _pool(x, f"pool_{level}", torchvision, 2 if level == "P5" else 3)
        for module, *counts in rows:
            branches = _branches(counts, width, 3 if torchvision else 5)
            x = InceptionModule(branches, name=module, **options)(x)
        outputs[level] = x
    return keras.Model(images, outputs, name=name or "inception_v1")


def _branches(counts, width, large):
    """Returns one row of table 1 as branches of an inception module."""
    one, reduce3, three, reduce5, five, projection = (_scaled(n, width) for n in counts)
    return (
        ((one, 1),),
        ((reduce3, 1), (three, 3)),
        ((reduce5, 1), (five, large)),
        (("max", 3), (projection, 1)),
    )


def _scaled(channels, width):
    return max(1, round(channels * width))


def _normalisation(kind):
    if kind == "mean":
        return ImageNormalisation((123.675, 116.28, 103.53), (1.0, 1.0, 1.0))
    return named_normalisation(kind)


def _pool(x, name, ceil, size=3):
    """Pools with stride 2; `ceil` as PyTorch's ceil_mode does without padding."""
    if not ceil:
        return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)
    if size == 2:
        return keras.layers.MaxPooling2D(2, 2, padding="same", name=name)(x)
    # One more row and column complete the last window where the size is even and stay
    # unused where it is odd. Nothing is below zero after a rectifier.
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_padding")(x)
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)
