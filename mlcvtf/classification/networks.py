"""The classification networks of this package, by name.

A name stands for a backbone as its paper has it, the size of the pictures that its
paper evaluates, and the head that belongs to it. Families are imported when one of
their networks is built.
"""

import importlib
from typing import NamedTuple

IMAGE_CLASSIFIER = ("classifier", "ImageClassifier")
# Side of EfficientNet's pictures, by variant; Tan, Le, 2019, in the authors' release.
EFFICIENTNET_SIZES = (224, 240, 260, 300, 380, 456, 528, 600)
# Multiply-adds of the RegNets of Radosavovic et al., 2020, tables 8 and 9.
REGNET_SIZES = (
    *("200mf", "400mf", "600mf", "800mf", "1_6gf", "3_2gf"),
    *("4gf", "6_4gf", "8gf", "12gf", "16gf", "32gf"),
)
REGNETS = (
    *(f"regnet{kind}_{size}" for kind in "xy" for size in REGNET_SIZES),
    # Rounded otherwise, as its published weights need it.
    *(f"regnet{kind}_torchvision" for kind in ("x_400mf", "y_800mf", "y_8gf")),
)
RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "seresnet50",
    "seresnet101",
    "seresnext50",
)
VITS = ("ti16", "s16", "b16", "b32", "l16", "h14")


class Network(NamedTuple):
    """How a network is made.

    Attributes:
        family: module of `mlcvtf.backbones`.
        builder: function in it.
        options: of the builder.
        size: side of the picture in pixels, as in the paper.
        head: module of `mlcvtf.classification` and the class in it that takes the
            backbone and the number of classes.
    """

    family: str
    builder: str
    options: dict
    size: int = 224
    head: tuple[str, str] = IMAGE_CLASSIFIER


NETWORKS = {
    **{name: Network("resnet", "resnet", {"variant": name}) for name in RESNETS},
    "wrn28_10": Network("small_resnet", "wide_resnet", {"depth": 28, "width": 10}, 32),
    "inception_v1": Network("inception", "inception_v1", {}),
    "inception_resnet_v1": Network(
        "inception_resnet",
        "inception_resnet",
        {"variant": "v1"},
        160,
        ("inception_classifier", "BottleneckClassifier"),
    ),
    "inception_resnet_v2": Network(
        "inception_resnet", "inception_resnet", {"variant": "v2"}, 299
    ),
    "mobilenet_v2": Network("mobilenet_v2", "mobilenet_v2", {}),
    **{
        f"efficientnet_b{n}": Network(
            "efficientnet", "efficientnet", {"variant": f"efficientnet_b{n}"}, size
        )
        for n, size in enumerate(EFFICIENTNET_SIZES)
    },
    **{name: Network("regnet", "regnet", {"variant": name}) for name in REGNETS},
    "darknet53": Network("darknet", "darknet", {"variant": "53"}, 256),
    **{f"vit_{name}": Network("vit", "vit", {"variant": name}) for name in VITS},
}


def build(name: str, classes: int = 1000):
    """Builds a network with random weights.

    Args:
        name: key of `NETWORKS`.
        classes: number of classes of its head.

    Returns:
        The classifier, a `keras.Model` whose call gives {"logits": `[batch,
        classes]`} for float32 `[batch, height, width, 3]` in 0..255.

    Raises:
        ValueError: unknown name.
    """
    if name not in NETWORKS:
        raise ValueError(f"a network is one of {', '.join(NETWORKS)}, received {name}")
    network = NETWORKS[name]
    family = importlib.import_module(f"mlcvtf.backbones.{network.family}")
    module, head = network.head
    module = importlib.import_module(f"mlcvtf.classification.{module}")
    backbone = getattr(family, network.builder)(**network.options)
    return getattr(module, head)(backbone, classes, name=name)
