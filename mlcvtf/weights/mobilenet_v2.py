"""Where the arrays of published MobileNetV2s go, by names.

Used as `carry(ImageClassifier(network(source, architecture), 1000), arrays,
rules(source), SKIPPED[source])`.
"""

import keras

from mlcvtf.backbones.mobilenet_v2 import TABLE_2, mobilenet_v2
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

SKIPPED = {"keras": (), "torchvision": COUNTERS, "timm": COUNTERS}
# Source to its names of architectures, each with the width multiplier and the origin.
ARCHITECTURES = {
    "keras": {
        f"MobileNetV2_{alpha:.2f}": (alpha, "keras")
        for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    },
    "torchvision": {"mobilenet_v2": (1.0, "torch")},
    "timm": {
        f"mobilenetv2_{round(alpha * 100):03}": (alpha, "torch")
        for alpha in (0.35, 0.5, 0.75, 1.0, 1.4)
    },
}
BLOCKS = tuple(
    (stage, block, row[0])
    for stage, row in enumerate(TABLE_2, 1)
    for block in range(row[2])
)


def network(source: str, architecture: str, **options) -> keras.Model:
    """Builds the backbone that a published network's arrays fit.

    Args:
        source: key of `ARCHITECTURES`.
        architecture: the source's name of it; `keras.applications` has one function,
            so that its names end in the width multiplier here.
        **options: of `mobilenet_v2`.

    Returns:
        The backbone.

    Raises:
        ValueError: unknown source or architecture.
    """
    alpha, origin = rules_of.architecture(ARCHITECTURES, source, architecture)
    return mobilenet_v2(alpha, origin=origin, **options)


def rules(source: str) -> list[Rule]:
    """Lists the rules of a source, for every width multiplier.

    Args:
        source: "keras" (variables of `keras.applications.MobileNetV2` by their paths),
            "torchvision" or "timm".

    Returns:
        Rules to the paths of an `ImageClassifier` of a `mobilenet_v2`.

    Raises:
        ValueError: unknown source.
    """
    if source not in SKIPPED:
        raise ValueError(f"source is one of {', '.join(SKIPPED)}, received {source!r}")
    return {"keras": _keras, "torchvision": _torchvision, "timm": _timm}[source]()


def _keras():
    found = [
        *keras_layer("Conv1", "stem"),
        *keras_layer("bn_Conv1", "stem_normalisation"),
        *keras_layer("Conv_1", "last"),
        *keras_layer("Conv_1_bn", "last_normalisation"),
        *keras_layer("predictions", "logits"),
    ]
    for number, (stage, block, _) in enumerate(BLOCKS):
        theirs = f"block_{number}_" if number else "expanded_conv_"
        for step in ("expand", "depthwise", "project"):
            ours = f"stage{stage}_block{block}/{step}"
            found += keras_layer(theirs + step, ours)
            found += keras_layer(f"{theirs}{step}_BN", f"{ours}_normalisation")
    return found


def _torchvision():
    last = len(BLOCKS) + 1
    found = [
        *torch_convolution(r"features\.0\.0", "stem"),
        *torch_normalisation(r"features\.0\.1", "stem_normalisation"),
        *torch_convolution(rf"features\.{last}\.0", "last"),
        *torch_normalisation(rf"features\.{last}\.1", "last_normalisation"),
        *torch_dense(r"classifier\.1", "logits"),
    ]
    for number, (stage, block, expansion) in enumerate(BLOCKS, 1):
        theirs, ours = rf"features\.{number}\.conv\.", f"stage{stage}_block{block}"
        steps = ("expand", "depthwise") if expansion > 1 else ("depthwise",)
        for part, step in enumerate(steps):
            layout = "depthwise" if step == "depthwise" else "convolution"
            found += torch_convolution(rf"{theirs}{part}\.0", f"{ours}/{step}", layout)
            found += torch_normalisation(
                rf"{theirs}{part}\.1", f"{ours}/{step}_normalisation"
            )
        # The projection has no activation and so is no part of its own there.
        found += torch_convolution(f"{theirs}{len(steps)}", f"{ours}/project")
        found += torch_normalisation(
            f"{theirs}{len(steps) + 1}", f"{ours}/project_normalisation"
        )
    return found


def _timm():
    return timm_inverted_residuals(row[0] for row in TABLE_2)
