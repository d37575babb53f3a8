"""Rules for the layers that every published network has, to build name maps from.

Each function takes a regular expression of the source's layer and a target as
`re.Match.expand` fills it, both without the variable's own name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mlcvtf.weights.name_map import Rule

# PyTorch's names of batch normalisation's arrays, and Keras's.
STATISTICS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# What PyTorch's batch normalisation counts and nobody uses.
COUNTERS = (r".*num_batches_tracked",)


def architecture(table: Mapping[str, Mapping[str, Any]], source: str, name: str):
    """Looks up what a source calls a network.

    Args:
        table: source to its names, each with whatever a family knows of it.
        source: key of the table.
        name: the source's name of an architecture.

    Returns:
        The entry.

    Raises:
        ValueError: unknown source or name; the message lists the known ones.
    """
    known = table.get(source, {})
    if name not in known:
        names = ", ".join(known) or ", ".join(table)
        raise ValueError(f"known are {names}, received {source} {name!r}")
    return known[name]


def torch_convolution(
    source: str, target: str, layout: str = "convolution"
) -> list[Rule]:
    """Maps the kernel of a convolution without bias.

    Args:
        source: pattern of the layer's name.
        target: path of the layer.
        layout: "convolution" or "depthwise".

    Returns:
        One rule.
    """
    return [Rule(rf"{source}\.weight", f"{target}/kernel", layout)]


def torch_normalisation(source: str, target: str) -> list[Rule]:
    """Maps the four arrays of batch normalisation.

    Args:
        source: pattern of the layer's name.
        target: path of the layer.

    Returns:
        Four rules.
    """
    return [
        Rule(rf"{source}\.{theirs}", f"{target}/{ours}")
        for theirs, ours in STATISTICS.items()
    ]


def torch_dense(source: str, target: str) -> list[Rule]:
    """Maps a linear layer, or a 1x1 convolution in its place.

    Args:
        source: pattern of the layer's name.
        target: path of the layer.

    Returns:
        Two rules, kernel and bias.
    """
    return [
        Rule(rf"{source}\.weight", f"{target}/kernel", "dense"),
        Rule(rf"{source}\.bias", f"{target}/bias"),
    ]


def keras_layer(source: str, target: str, layout: str = "same") -> list[Rule]:
    """Maps all variables of a Keras layer, which have the same names here.

    Args:
        source: pattern of the layer's name, without groups of its own after the last
            that `target` uses.
        target: path of the layer.
        layout: of the kernel: "pointwise" for a 1x1 convolution in place of a dense
            layer.

    Returns:
        Two rules.
    """
    return [
        Rule(rf"{source}/kernel", f"{target}/kernel", layout),
        Rule(
            rf"{source}/(?P<variable>bias|gamma|beta|moving_mean|moving_variance)",
            rf"{target}/\g<variable>",
        ),
    ]


def timm_inverted_residuals(expansions: Iterable[float]) -> list[Rule]:
    """Maps timm's networks of inverted residuals but for squeeze and excitation.

    Args:
        expansions: of each stage's blocks; with 1 they have no first convolution.

    Returns:
        Rules for the stem, the blocks, the closing convolution and the head.
    """
    found = [
        *torch_convolution("conv_stem", "stem"),
        *torch_normalisation("bn1", "stem_normalisation"),
        *torch_convolution("conv_head", "last"),
        *torch_normalisation("bn2", "last_normalisation"),
        *torch_dense("classifier", "logits"),
    ]
    for stage, expansion in enumerate(expansions):
        theirs, ours = rf"blocks\.{stage}\.(\d+)\.", rf"stage{stage + 1}_block\1"
        steps = {"depthwise": "conv_dw", "project": "conv_pw"}
        if expansion > 1:
            steps = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
        for number, (step, name) in enumerate(steps.items(), 1):
            layout = "depthwise" if step == "depthwise" else "convolution"
            found += torch_convolution(theirs + name, f"{ours}/{step}", layout)
            found += torch_normalisation(
                f"{theirs}bn{number}", f"{ours}/{step}_normalisation"
            )
    return found
