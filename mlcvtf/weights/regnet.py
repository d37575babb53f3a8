"""Where the arrays of published RegNets go, by names.

Used as `carry(ImageClassifier(network(source, architecture), 1000), arrays,
rules(source), SKIPPED[source])`.
"""

import keras

from mlcvtf.backbones.regnet import VARIANTS, regnet, stages
from mlcvtf.weights import rules as rules_of
from mlcvtf.weights.name_map import Rule
from mlcvtf.weights.rules import (
    COUNTERS,
    torch_convolution,
    torch_dense,
    torch_normalisation,
)

PAPER = tuple(name for name in VARIANTS if not name.endswith("_torchvision"))
# torchvision has these; where its rounding changes a network, its own variant.
TORCHVISION = ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")


def _timm_name(variant):
    """Returns timm's name: the FLOPs in units of 100 million."""
    series, _, flops = variant.removesuffix("_torchvision").partition("_")
    number, unit = float(flops[:-2].replace("_", ".")), flops[-2:]
    hundreds = round(number * 10 if unit == "gf" else number / 100)
    ending = "_tv" if variant.endswith("_torchvision") else ""
    return f"{series}_{hundreds:03}{ending}"


# Source to its names of architectures, each with the variant. Hugging Face has no
# names of its own: see `hugging_face_variant`.
ARCHITECTURES = {
    "torchvision": {
        f"regnet_{letter}_{flops}": (
            own
            if (own := f"regnet{letter}_{flops}_torchvision") in VARIANTS
            else f"regnet{letter}_{flops}"
        )
        for letter in "xy"
        for flops in TORCHVISION
    },
    "timm": {_timm_name(variant): variant for variant in VARIANTS},
    "hugging_face": {variant: variant for variant in PAPER},
}
SKIPPED = {source: COUNTERS for source in ARCHITECTURES}
# The longest stage of the variants has 17 blocks.
LONGEST = max(stage.depth for design in VARIANTS.values() for stage in stages(design))


def network(source: str, architecture: str, **options) -> keras.Model:
    """Builds the backbone that a published network's arrays fit.

    Args:
        source: key of `ARCHITECTURES`.
        architecture: the source's name of it.
        **options: of `regnet`.

    Returns:
        The backbone.

    Raises:
        ValueError: unknown source or architecture.
    """
    found = rules_of.architecture(ARCHITECTURES, source, architecture)
    return regnet(found, **options)


def hugging_face_variant(config: dict) -> str:
    """Finds the variant that a Hugging Face checkpoint's config.json describes.

    Args:
        config: with "hidden_sizes", "depths", "groups_width" and "layer_type".

    Returns:
        Key of `mlcvtf.backbones.regnet.VARIANTS`.

    Raises:
        ValueError: no variant has these stages.
    """
    described = (
        list(config["hidden_sizes"]),
        list(config["depths"]),
        config["layer_type"] == "y",
        config["groups_width"],
    )
    plain = (config.get("embedding_size", 32), config.get("hidden_act", "relu"))
    plain += (config.get("downsample_in_first_stage", True),)
    for name, design in VARIANTS.items():
        rows = stages(design)
        ours = ([row.width for row in rows], [row.depth for row in rows])
        kind = (design.squeeze_ratio is not None, design.group_width)
        if (*ours, *kind) == described and plain == (32, "relu", True):
            return name
    raise ValueError(f"no RegNet of the paper has these stages, received {described}")


def rules(source: str) -> list[Rule]:
    """Lists the rules of a source, for every variant.

    Args:
        source: "torchvision", "timm" or "hugging_face".

    Returns:
        Rules to the paths of an `ImageClassifier` of a `regnet`.

    Raises:
        ValueError: unknown source.
    """
    if source not in SKIPPED:
        raise ValueError(f"source is one of {', '.join(SKIPPED)}, received {source!r}")
    makers = {"torchvision": _torchvision, "timm": _timm, "hugging_face": _hugging_face}
    return makers[source]()


def _torchvision():
    theirs, ours = r"trunk_output\.block\d\.block(\d)-(\d+)\.", r"stage\1_block\2"
    found = [
        *torch_convolution(r"stem\.0", "stem"),
        *torch_normalisation(r"stem\.1", "stem_normalisation"),
        *torch_dense("fc", "logits"),
        *torch_dense(rf"{theirs}f\.se\.fc1", f"{ours}/squeeze_excite/squeeze"),
        *torch_dense(rf"{theirs}f\.se\.fc2", f"{ours}/squeeze_excite/excite"),
    ]
    names = {r"f\.a": "conv1", r"f\.b": "conv2", r"f\.c": "conv3", "proj": "shortcut"}
    for part, name in names.items():
        found += torch_convolution(rf"{theirs}{part}\.0", f"{ours}/{name}")
        found += torch_normalisation(
            rf"{theirs}{part}\.1", f"{ours}/{name}_normalisation"
        )
    return found


def _timm():
    found = [
        *torch_convolution(r"stem\.conv", "stem"),
        *torch_normalisation(r"stem\.bn", "stem_normalisation"),
        *torch_dense(r"head\.fc", "logits"),
    ]
    for block in range(LONGEST):
        # timm counts blocks from 1.
        theirs, ours = rf"s(\d)\.b{block + 1}\.", rf"stage\1_block{block}"
        for part, name in {r"(conv\d)": r"\2", "downsample": "shortcut"}.items():
            found += torch_convolution(rf"{theirs}{part}\.conv", f"{ours}/{name}")
            found += torch_normalisation(
                rf"{theirs}{part}\.bn", f"{ours}/{name}_normalisation"
            )
        found += torch_dense(rf"{theirs}se\.fc1", f"{ours}/squeeze_excite/squeeze")
        found += torch_dense(rf"{theirs}se\.fc2", f"{ours}/squeeze_excite/excite")
    return found


def _hugging_face():
    found = [
        *torch_convolution(r"regnet\.embedder\.embedder\.convolution", "stem"),
        *torch_normalisation(
            r"regnet\.embedder\.embedder\.normalization", "stem_normalisation"
        ),
        *torch_dense(r"classifier\.1", "logits"),
    ]
    for stage in range(4):
        theirs = rf"regnet\.encoder\.stages\.{stage}\.layers\.(\d+)\."
        ours = rf"stage{stage + 1}_block\1"
        # The last convolution has number 2 in X, 3 behind squeeze and excitation in Y.
        names = {
            r"layer\.0": "conv1",
            r"layer\.1": "conv2",
            r"layer\.[23]": "conv3",
            "shortcut": "shortcut",
        }
        for part, name in names.items():
            found += torch_convolution(
                rf"{theirs}{part}\.convolution", f"{ours}/{name}"
            )
            found += torch_normalisation(
                rf"{theirs}{part}\.normalization", f"{ours}/{name}_normalisation"
            )
        part, target = rf"{theirs}layer\.2\.attention", f"{ours}/squeeze_excite"
        found += torch_dense(rf"{part}\.0", f"{target}/squeeze")
        found += torch_dense(rf"{part}\.2", f"{target}/excite")
    return found
