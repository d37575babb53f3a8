"""Inception-ResNet from timm, `keras.applications` and `facenet-pytorch`."""

import re
from collections.abc import Mapping

import numpy as np

from mlcvtf.backbones.inception_resnet import VARIANTS, inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.classification.inception_classifier import BottleneckClassifier
from mlcvtf.weights import convolution_units as units
from mlcvtf.weights.name_map import Rule

STEM = {
    "conv2d_1a": "stem1",
    "conv2d_2a": "stem2",
    "conv2d_2b": "stem3",
    "conv2d_3b": "stem4",
    "conv2d_4a": "stem5",
    "conv2d_4b": "stem6",
}
MIXED = {"mixed_5b": "mixedA", "mixed_6a": "mixedB", "mixed_7a": "mixedC"}
SKIPPED = units.SKIPPED


def timm_rules() -> list[Rule]:
    """Gives the rules for timm's `inception_resnet_v2`.

    Returns:
        Rules for the arrays of its state dict.
    """
    blocks = {"repeat": "A", "repeat_1": "B", "repeat_2": "C"}
    rules = _torch_rules(blocks) + units.unit("conv2d_7b", "last")
    return rules + units.dense("classif", "logits")


def facenet_rules() -> list[Rule]:
    """Gives the rules for `InceptionResnetV1` of `facenet-pytorch`, with its classes.

    Returns:
        Rules for the arrays of its state dict.
    """
    rules = _torch_rules({"repeat_1": "A", "repeat_2": "B", "repeat_3": "C"})
    rules.append(Rule(r"last_linear\.weight", "project/kernel", "dense"))
    rules += units.normalisation("last_bn", "normalisation")
    return rules + units.dense("logits", "logits")


def _torch_rules(blocks):
    rules = []
    for source, target in STEM.items():
        rules += units.unit(source, target)
    residuals = {rf"{s}\.(?P<n>\d+)": rf"{t}\g<n>" for s, t in blocks.items()}
    residuals["block8"] = "last_residual"
    for source, target in residuals.items():
        rules += _branches(source, f"{target}/module")
        rules += [
            Rule(
                rf"{source}\.conv2d\.weight", f"{target}/project/kernel", "convolution"
            ),
            Rule(rf"{source}\.conv2d\.bias", f"{target}/project/bias"),
        ]
    for source, target in MIXED.items():
        rules += _branches(source, target)
    return rules


def _branches(source, target):
    """Gives rules for branches of one unit, which are not numbered, and of several."""
    one = units.unit(rf"{source}\.branch(?P<b>\d)", rf"{target}/branch\g<b>_0")
    several = units.unit(
        rf"{source}\.branch(?P<b>\d)\.(?P<s>\d)", rf"{target}/branch\g<b>_\g<s>"
    )
    return one + several


def keras_rules() -> list[Rule]:
    """Gives the rules for `keras.applications.InceptionResNetV2`.

    Returns:
        Rules for names as `keras_names` gives them.
    """
    table = VARIANTS["v2"]
    rules = []
    for number, path in enumerate(_units(table)):
        rules.append(Rule(f"convolution{number}/kernel", f"{path}/convolution/kernel"))
        rules.append(Rule(rf"normalisation{number}/(\w+)", rf"{path}/normalisation/\1"))
    counts = zip("ABC", (35, 17, 8), table["repeats"], strict=True)
    projections = {
        f"block{size}_{number + 1}_conv": f"{part}{number}"
        for part, size, count in counts
        for number in range(count)
    }
    projections[f"block8_{table['repeats'][-1] + 1}_conv"] = "last_residual"
    for source, target in projections.items():
        rules.append(Rule(rf"{source}/(\w+)", rf"{target}/project/\1"))
    return [
        *rules,
        Rule("conv_7b/kernel", "last/convolution/kernel"),
        Rule(r"conv_7b_bn/(\w+)", r"last/normalisation/\1"),
        Rule(r"predictions/(\w+)", r"logits/\1"),
    ]


def _units(table):
    """Yields the paths of the convolution units as `keras.applications` makes them."""
    for step in table["stem"]:
        if len(step) == 5:
            yield step[0]
    stages = zip("ABC", table["repeats"], table["stages"], strict=True)
    for part, count, (mixed, block, _) in stages:
        yield from _steps(mixed, f"mixed{part}")
        for number in range(count):
            yield from _steps(block, f"{part}{number}/module")
    yield from _steps(block, "last_residual/module")


def _steps(branches, prefix):
    for number, branch in enumerate(branches):
        for place, step in enumerate(branch):
            if not isinstance(step[0], str):
                yield f"{prefix}/branch{number}_{place}"


def keras_names(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers the layers that Keras named by itself from 0 in the order of making.

    Keras counts "conv2d", "conv2d_1" ... over all networks of a process, so the same
    layer has another name in every file.

    Args:
        arrays: path of a variable, such as "conv2d_7/kernel", to its values.

    Returns:
        The same arrays as "convolution0/kernel" ..., "normalisation0/beta" ... and, of
        layers with a name of their own, as they were.
    """
    pattern = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(.+)")
    found = {name: pattern.fullmatch(name) for name in arrays}
    ranks = {}
    for kind in ("conv2d", "batch_normalization"):
        numbers = {int(m[2] or 0) for m in found.values() if m and m[1] == kind}
        ranks[kind] = {number: rank for rank, number in enumerate(sorted(numbers))}
    words = {"conv2d": "convolution", "batch_normalization": "normalisation"}
    return {
        f"{words[m[1]]}{ranks[m[1]][int(m[2] or 0)]}/{m[3]}" if m else name: array
        for (name, array), m in zip(arrays.items(), found.values(), strict=True)
    }


def classifier(source: str, classes: int = 1000) -> ImageClassifier:
    """Builds the network that a source's weights fit.

    Args:
        source: "timm", "keras" (both version 2) or "facenet" (version 1).
        classes: number of classes.

    Returns:
        The classifier, for pictures of at least 75 x 75.

    Raises:
        ValueError: unknown source.
    """
    if source == "facenet":
        return BottleneckClassifier(inception_resnet("v1", "facenet"), classes)
    if source not in ("timm", "keras"):
        raise ValueError(f"source is timm, keras or facenet, received {source!r}")
    return ImageClassifier(inception_resnet("v2", source), classes)
