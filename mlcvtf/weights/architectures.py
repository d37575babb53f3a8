"""Every published architecture whose weights can be imported: source, name, network.

The families' own files know the sources' names of arrays; here they are brought under
one form, so that a command can treat all alike.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.backbones import efficientnet as efficientnets
from mlcvtf.backbones.resnet import resnet
from mlcvtf.backbones.vit import VARIANTS as VITS
from mlcvtf.backbones.vit import vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError
from mlcvtf.weights import (
    darknet,
    efficientnet,
    inception,
    inception_resnet,
    mobilenet_v2,
    regnet,
)
from mlcvtf.weights import resnet as resnet_weights
from mlcvtf.weights import vit as vit_weights
from mlcvtf.weights.name_map import Rule

SOURCES = ("torchvision", "timm", "hugging_face", "keras", "facenet_pytorch")
Arrays = Mapping[str, np.ndarray]


class Architecture(NamedTuple):
    """How a published architecture becomes a network of this package.

    Attributes:
        build: takes the number of classes, the arrays of the checkpoint and, where
            there is one, the live model of `keras.applications`; gives the classifier.
        rules: where the arrays go.
        skipped: patterns of names of arrays that the network does not need.
        size: side of the pictures that the weights are for, in pixels.
        prepare: changes the arrays before the rules see them.
        live: for Keras, makes the model that reads the file; takes the number of
            classes.
    """

    build: Callable[[int, Arrays, keras.Model | None], keras.Model]
    rules: Sequence[Rule]
    skipped: Sequence[str] = ()
    size: int = 224
    prepare: Callable[[Arrays], Arrays] = dict
    live: Callable[[int], keras.Model] | None = None


def names(source: str) -> list[str]:
    """Lists the architectures of a source, as it calls them."""
    return list(_table(source))


def find(source: str, name: str) -> Architecture:
    """Finds an architecture.

    Args:
        source: one of `SOURCES`.
        name: as the source calls it; capitals, "-" for "_" and the owner in names of
            Hugging Face make no difference.

    Returns:
        What is needed to import its weights.

    Raises:
        InputError: the source has no such architecture; the message lists those that
            it has.
    """
    table = _table(source)
    plain = {_plain(key): key for key in table}
    if source == "keras":
        plain["mobilenetv2"] = "MobileNetV2_1.00"
    if source == "hugging_face":
        # "facebook/regnet-y-040" counts as timm does.
        plain |= {
            theirs.replace("regnet", "regnet_"): variant
            for theirs, variant in regnet.ARCHITECTURES["timm"].items()
            if variant in table
        }
    key = plain.get(_plain(name))
    if key is None:
        raise InputError(
            f"an architecture of {source} is one of {', '.join(table)}; received {name}"
        )
    return table[key](source, key)


def _plain(name):
    return name.split("/")[-1].lower().replace("-", "_")


def _table(source):
    """Returns name of an architecture to the function that describes it."""
    if source not in SOURCES:
        raise InputError(f"a source is one of {', '.join(SOURCES)}, received {source}")
    families = (
        (resnet_weights, _resnet),
        (mobilenet_v2, _mobilenet_v2),
        (efficientnet, _efficientnet),
        (regnet, _regnet),
        (vit_weights, _vit),
    )
    table = {
        name: describe
        for family, describe in families
        for name in family.ARCHITECTURES.get(source, ())
    }
    single = {
        "torchvision": {"googlenet": _googlenet},
        "timm": {
            "darknet53": _darknet,
            "darknet21": _darknet,
            "darknet17": _darknet,
            "inception_resnet_v2": _inception_resnet,
        },
        "keras": {"InceptionResNetV2": _inception_resnet},
        "facenet_pytorch": {"InceptionResnetV1": _inception_resnet},
    }
    return table | single.get(source, {})


def _live(name, **options):
    """Returns a maker of a network of `keras.applications` without weights."""
    return lambda classes: getattr(keras.applications, name)(
        weights=None, classes=classes, classifier_activation=None, **options
    )


def _resnet(source, name):
    variant, origin = resnet_weights.ARCHITECTURES[source][name]
    live = _live(name.replace("resnet", "ResNet")) if source == "keras" else None
    return Architecture(
        lambda classes, *_: ImageClassifier(resnet(variant, origin), classes),
        resnet_weights.rules(source, variant),
        resnet_weights.SKIPPED,
        live=live,
    )


def _mobilenet_v2(source, name):
    alpha, _ = mobilenet_v2.ARCHITECTURES[source][name]
    return Architecture(
        lambda classes, *_: ImageClassifier(
            mobilenet_v2.network(source, name), classes, dropout=0.2
        ),
        mobilenet_v2.rules(source),
        mobilenet_v2.SKIPPED[source],
        live=_live("MobileNetV2", alpha=alpha) if source == "keras" else None,
    )


def _efficientnet(source, name):
    scaling = efficientnets.VARIANTS[efficientnet.ARCHITECTURES[source][name][0]]

    def build(classes, arrays, live=None):
        options = {}
        if live is not None:
            # Its file brings the mean and deviation of pictures.
            options["normalisation"] = efficientnet.keras_normalisation(live)
        backbone = efficientnet.network(source, name, **options)
        return ImageClassifier(backbone, classes, scaling.dropout)

    return Architecture(
        build,
        efficientnet.rules(source),
        efficientnet.SKIPPED[source],
        scaling.resolution,
        live=_live(name) if source == "keras" else None,
    )


def _regnet(source, name):
    return Architecture(
        lambda classes, *_: ImageClassifier(regnet.network(source, name), classes),
        regnet.rules(source),
        regnet.SKIPPED[source],
    )


def _vit(source, name):
    variant = vit_weights.ARCHITECTURES[source][name]
    options = dict(vit_weights.SETTINGS[source])
    if "deit" in name:
        options["normalisation"] = "mean_std"

    def build(classes, arrays, live=None):
        # Learned positions say what size of picture they are for.
        positions = [a for key, a in arrays.items() if "pos" in key and a.ndim == 3]
        side = 224
        if positions:
            side = round((positions[0].shape[1] - 1) ** 0.5) * VITS[variant].patch
        return ImageClassifier(vit(variant, resolution=side, **options), classes)

    return Architecture(
        build,
        vit_weights.rules(source),
        vit_weights.SKIPPED,
        384 if name.endswith("384") else 224,
        vit_weights.split_fused,
    )


def _googlenet(source, name):
    return Architecture(
        lambda classes, *_: inception.torchvision_classifier(classes, auxiliary=False),
        inception.torchvision_rules(),
        inception.SKIPPED_HEADS,
    )


def _darknet(source, name):
    return Architecture(
        lambda classes, *_: darknet.timm_classifier(name[-2:], classes),
        darknet.timm_rules(),
        darknet.SKIPPED,
        256,
    )


def _inception_resnet(source, name):
    kind = "facenet" if source == "facenet_pytorch" else source
    rules = {
        "timm": inception_resnet.timm_rules,
        "keras": inception_resnet.keras_rules,
        "facenet": inception_resnet.facenet_rules,
    }
    return Architecture(
        lambda classes, *_: inception_resnet.classifier(kind, classes),
        rules[kind](),
        inception_resnet.SKIPPED,
        160 if kind == "facenet" else 299,
        inception_resnet.keras_names if kind == "keras" else dict,
        _live(name) if kind == "keras" else None,
    )
