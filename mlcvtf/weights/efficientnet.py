"""Where the arrays of published EfficientNets go, by names.

Used as `carry(ImageClassifier(network(source, architecture), 1000), arrays,
rules(source), SKIPPED[source])`.
"""

import string

import keras
import numpy as np

from mlcvtf.backbones.efficientnet import TABLE_1, VARIANTS, efficientnet
from mlcvtf.weights import rules as rules_of
from mlcvtf.weights.name_map import Rule
from mlcvtf.weights.rules import (
    COUNTERS,
    keras_layer,
    timm_inverted_residuals,
    torch_convolution,
    torch_dense,
    torch_normalisation,
)

STAGES = range(1, len(TABLE_1) + 1)
# Source to its names of architectures, each with the variant and the origin.
ARCHITECTURES = {
    "keras": {
        v.replace("efficientnet_b", "EfficientNetB"): (v, "keras") for v in VARIANTS
    },
    "torchvision": {v: (v, "torchvision") for v in VARIANTS},
    "timm": {
        **{v: (v, "timm") for v in VARIANTS},
        **{f"tf_{v}": (v, "keras") for v in VARIANTS},
    },
}
# B7 has 13 blocks in its longest stage; `keras.applications` letters them.
LETTERS = string.ascii_lowercase
SKIPPED = {
    "keras": (r"normalization(_\d+)?/.*",),
    "torchvision": COUNTERS,
    "timm": COUNTERS,
}


def network(source: str, architecture: str, **options) -> keras.Model:
    """Builds the backbone that a published network's arrays fit.

    Args:
        source: key of `ARCHITECTURES`.
        architecture: the source's name of it.
        **options: of `efficientnet`.

    Returns:
        The backbone.

    Raises:
        ValueError: unknown source or architecture.
    """
    found = rules_of.architecture(ARCHITECTURES, source, architecture)
    return efficientnet(*found, **options)


def rules(source: str) -> list[Rule]:
    """Lists the rules of a source, for every variant.

    Args:
        source: "keras" (variables of `keras.applications.EfficientNetB*` by their
            paths), "torchvision" or "timm" (with or without tf_).

    Returns:
        Rules to the paths of an `ImageClassifier` of an `efficientnet`.

    Raises:
        ValueError: unknown source.
    """
    if source not in SKIPPED:
        raise ValueError(f"source is one of {', '.join(SKIPPED)}, received {source!r}")
    return {"keras": _keras, "torchvision": _torchvision, "timm": _timm}[source]()


def keras_normalisation(model: keras.Model) -> tuple[list[float], list[float]]:
    """Reads what a `keras.applications` EfficientNet does to its pictures at first.

    It rescales to 0..1 and standardises by variables that its weights' file brings;
    with "imagenet" weights, whose file has deviations where variances belong, it
    divides by the deviations' square roots once more. Without weights it only rescales.

    Args:
        model: `keras.applications.EfficientNetB0` or another.

    Returns:
        (mean, deviation) per channel in 0..255, which is `normalisation` of
        `mlcvtf.backbones.efficientnet.efficientnet`.

    Raises:
        ValueError: the model does not start with these layers.
    """
    scale, offset, known = np.ones(3), np.zeros(3), 0
    for layer in model.layers[1:]:
        if isinstance(layer, keras.layers.Rescaling):
            factor, shift = np.asarray(layer.scale), np.asarray(layer.offset)
        elif isinstance(layer, keras.layers.Normalization):
            factor = 1 / np.sqrt(np.asarray(layer.variance, "float64").reshape(3))
            shift = -np.asarray(layer.mean, "float64").reshape(3) * factor
        else:
            break
        scale, offset, known = scale * factor, offset * factor + shift, known + 1
    if known < 2:
        raise ValueError(
            f"the model starts with rescaling and normalisation, received {model.name}"
        )
    return (-offset / scale).tolist(), (1 / scale).tolist()


def _keras():
    found = [
        *keras_layer("stem_conv", "stem"),
        *keras_layer("stem_bn", "stem_normalisation"),
        *keras_layer("top_conv", "last"),
        *keras_layer("top_bn", "last_normalisation"),
        *keras_layer("predictions", "logits"),
    ]
    for block, letter in enumerate(LETTERS):
        theirs, ours = rf"block(\d){letter}_", rf"stage\1_block{block}"
        found += [
            *keras_layer(theirs + "expand_conv", f"{ours}/expand"),
            *keras_layer(theirs + "expand_bn", f"{ours}/expand_normalisation"),
            *keras_layer(theirs + "dwconv", f"{ours}/depthwise"),
            *keras_layer(theirs + "bn", f"{ours}/depthwise_normalisation"),
            *keras_layer(
                theirs + "se_reduce", f"{ours}/squeeze_excite/squeeze", "pointwise"
            ),
            *keras_layer(
                theirs + "se_expand", f"{ours}/squeeze_excite/excite", "pointwise"
            ),
            *keras_layer(theirs + "project_conv", f"{ours}/project"),
            *keras_layer(theirs + "project_bn", f"{ours}/project_normalisation"),
        ]
    return found


def _torchvision():
    last = len(TABLE_1) + 1
    found = [
        *torch_convolution(r"features\.0\.0", "stem"),
        *torch_normalisation(r"features\.0\.1", "stem_normalisation"),
        *torch_convolution(rf"features\.{last}\.0", "last"),
        *torch_normalisation(rf"features\.{last}\.1", "last_normalisation"),
        *torch_dense(r"classifier\.1", "logits"),
    ]
    for stage in STAGES:
        theirs, ours = rf"features\.{stage}\.(\d+)\.block\.", rf"stage{stage}_block\1"
        # Stage 1 has no expansion, so that the numbers of its parts start at another.
        steps = ["depthwise", "squeeze_excite", "project"]
        if TABLE_1[stage - 1][0] > 1:
            steps.insert(0, "expand")
        for number, step in enumerate(steps):
            part, target = f"{theirs}{number}", f"{ours}/{step}"
            if step == "squeeze_excite":
                found += torch_dense(rf"{part}\.fc1", f"{target}/squeeze")
                found += torch_dense(rf"{part}\.fc2", f"{target}/excite")
                continue
            layout = "depthwise" if step == "depthwise" else "convolution"
            found += torch_convolution(rf"{part}\.0", target, layout)
            found += torch_normalisation(rf"{part}\.1", f"{target}_normalisation")
    return found


def _timm():
    found = timm_inverted_residuals(row[0] for row in TABLE_1)
    for stage in STAGES:
        part = rf"blocks\.{stage - 1}\.(\d+)\.se\."
        target = rf"stage{stage}_block\1/squeeze_excite"
        found += torch_dense(f"{part}conv_reduce", f"{target}/squeeze")
        found += torch_dense(f"{part}conv_expand", f"{target}/excite")
    return found
