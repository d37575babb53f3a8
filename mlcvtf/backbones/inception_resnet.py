"""Inception-ResNet-v1 and -v2 backbones.

Szegedy, Ioffe, Vanhoucke, Alemi, 2016, "Inception-v4, Inception-ResNet and the Impact
of Residual Connections on Learning", arXiv:1602.07261. Residual blocks A, B and C that
are inception modules, scaled before they are added (section 3.3), and reductions
between them.

Both variants are the networks whose weights are published, which is not always what the
figures show. Version 1 is FaceNet's trunk as D. Sandberg's `facenet` has it: figures 10
to 14, with 5, 10 and 5 blocks. Version 2 is Google's release, as in TF-Slim,
`keras.applications` and timm: the stem of Inception-v3 in place of figure 3, maps of
320, 1,088 and 2,080 channels in place of 384, 1,152 and 2,144, and 10, 20 and 9 blocks
in place of 5, 10 and 5. After the last C both releases have one more, with scale 1 and
without a rectifier, and version 2 a 1x1 convolution to 1,536 channels. Batch
normalisation has epsilon 1e-3 everywhere.
"""

import keras

from mlcvtf.layers.convolution_unit import ConvolutionUnit
from mlcvtf.layers.inception import InceptionModule, InceptionResidual
from mlcvtf.layers.normalisation import ImageNormalisation, named_normalisation

# (name, filters, kernel, stride, padding) of a convolution, "valid" being what
# `padding` may change, or (name, stride) of a 3x3 pooling; a level stands behind its
# map. Figure 14 of the paper; version 2 begins alike (see above).
STEM = (
    ("stem1", 32, 3, 2, "valid"),
    ("stem2", 32, 3, 1, "valid"),
    ("stem3", 64, 3, 1, "same"),
    "P1",
    ("stem_pool1", 2),
    ("stem4", 80, 1, 1, "same"),
    ("stem5", 192, 3, 1, "valid"),
    "P2",
)
# A stage: the module that it begins with, its residual blocks' branches, their scale.
VARIANTS = {
    # Figures 10 to 13 and 7 (k = 192, l = 192, m = 256, n = 384).
    "v1": {
        "stem": (*STEM, ("stem6", 256, 3, 2, "valid")),
        "origin": "facenet",
        "repeats": (5, 10, 5),
        "stages": (
            (
                None,
                (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3))),
                0.17,
            ),
            (
                (((384, 3, 2),), ((192, 1), (192, 3), (256, 3, 2)), (("max", 3, 2),)),
                (((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1)))),
                0.10,
            ),
            (
                (
                    ((256, 1), (384, 3, 2)),
                    ((256, 1), (256, 3, 2)),
                    ((256, 1), (256, 3), (256, 3, 2)),
                    (("max", 3, 2),),
                ),
                (((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1)))),
                0.20,
            ),
        ),
        "last": None,
    },
    # Figures 16 to 19 and 7 (k = 256, l = 256, m = 384, n = 384).
    "v2": {
        "stem": (*STEM, ("stem_pool2", 2)),
        "origin": "keras",
        "repeats": (10, 20, 9),
        "stages": (
            (
                (
                    ((96, 1),),
                    ((48, 1), (64, 5)),
                    ((64, 1), (96, 3), (96, 3)),
                    (("average", 3), (64, 1)),
                ),
                (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3))),
                0.17,
            ),
            (
                (((384, 3, 2),), ((256, 1), (256, 3), (384, 3, 2)), (("max", 3, 2),)),
                (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1)))),
                0.10,
            ),
            (
                (
                    ((256, 1), (384, 3, 2)),
                    ((256, 1), (288, 3, 2)),
                    ((256, 1), (288, 3), (320, 3, 2)),
                    (("max", 3, 2),),
                ),
                (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1)))),
                0.20,
            ),
        ),
        "last": 1536,
    },
}
# Whose batch normalisation has a gamma, and which colours the network takes.
ORIGINS = {
    "keras": (False, "unit"),
    "timm": (True, "unit"),
    "facenet": (True, "facenet"),
}


def inception_resnet(
    variant: str = "v2",
    origin: str | None = None,
    padding: str = "valid",
    repeats: tuple | None = None,
    width: float = 1.0,
    normalisation: str | None = None,
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.995,
    name: str | None = None,
) -> keras.Model:
    """Builds an Inception-ResNet as a pyramid of feature maps.

    Args:
        variant: "v1" or "v2".
        origin: "keras" (and Google's release: batch normalisation has no gamma),
            "timm" (it has) or "facenet" (it has, as in `facenet-pytorch`, and pictures
            are mapped by (x - 127.5) / 128 in place of (x - 127.5) / 127.5). None:
            "facenet" for "v1", "keras" for "v2".
        padding: "valid" as published, or "same" for pyramids: maps that are the input's
            size divided by powers of two. The weights fit both.
        repeats: number of blocks A, B and C, each at least 0; None: as published. One
            more C always follows.
        width: factor of all channel counts, greater than 0.
        normalisation: "unit", "facenet", "mean_std" or "zero_one"; None: the origin's.
        input_shape: height, width and 3 channels; height and width may be None. With
            "valid" they are at least 75.
        momentum: of batch normalisation's moving statistics.
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P1" to "P5", where Pn is
        `[batch, height / 2^n, width / 2^n, channels]`, rounded up; with "valid" some
        places less.

    Raises:
        ValueError: `variant`, `origin`, `padding` or `normalisation` is unknown,
            `repeats` are not three counts, `width` is not positive, or the input has
            not three channels.
    """
    _check(variant, origin, padding, repeats, width, input_shape)
    table = VARIANTS[variant]
    origin = origin or table["origin"]
    gamma, colours = ORIGINS[origin]
    images = keras.Input(input_shape, name="images")
    x = _normalisation(normalisation or colours)(images)
    outputs = {}

    def unit(x, filters, *arguments, name):
        filters = max(1, round(filters * width))
        return ConvolutionUnit(
            filters, *arguments, scale=gamma, momentum=momentum, name=name
        )(x)

    for step in table["stem"]:
        if isinstance(step, str):
            outputs[step] = x
        elif len(step) == 2:
            x = keras.layers.MaxPooling2D(3, step[1], padding=padding, name=step[0])(x)
        else:
            step, *arguments, border = step
            border = padding if border == "valid" else border
            x = unit(x, *arguments, border, name=step)
    repeats = table["repeats"] if repeats is None else repeats
    for part, count, stage in zip("ABC", repeats, table["stages"], strict=True):
        mixed, block, scale = stage
        if mixed is not None:
            x = InceptionModule(
                _scaled(mixed, width),
                padding,
                True,
                gamma,
                momentum=momentum,
                name=f"mixed{part}",
            )(x)
        block = _scaled(block, width)
        for number in range(count):
            x = InceptionResidual(
                block, scale, True, gamma, momentum=momentum, name=f"{part}{number}"
            )(x)
        outputs[f"P{3 + 'ABC'.index(part)}"] = x
    x = InceptionResidual(
        block, 1.0, False, gamma, momentum=momentum, name="last_residual"
    )(x)
    if table["last"]:
        x = unit(x, table["last"], name="last")
    outputs["P5"] = x
    return keras.Model(images, outputs, name=name or f"inception_resnet_{variant}")


def _check(variant, origin, padding, repeats, width, input_shape):
    """Refuses what cannot be built."""
    for word, value, known in (
        ("variant", variant, VARIANTS),
        ("origin", origin, ORIGINS),
        ("padding", padding, ("valid", "same")),
    ):
        if value not in known and (word, value) != ("origin", None):
            raise ValueError(f"{word} is one of {', '.join(known)}, received {value!r}")
    if repeats is not None and (len(repeats) != 3 or min(repeats) < 0):
        raise ValueError(f"repeats are three counts of blocks, received {repeats}")
    if width <= 0:
        raise ValueError(f"width is greater than 0, received {width}")
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )


def _scaled(branches, width):
    """Multiplies the filters of branches; poolings stay."""
    return tuple(
        tuple(
            step
            if isinstance(step[0], str)
            else (max(1, round(step[0] * width)), *step[1:])
            for step in branch
        )
        for branch in branches
    )


def _normalisation(kind):
    if kind == "facenet":
        return ImageNormalisation((127.5,) * 3, (128.0,) * 3)
    return named_normalisation(kind)
