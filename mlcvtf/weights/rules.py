"""Rules for the layers that every published network has, to build name maps from.

Each function takes a regular expression of the source's layer and a target as
`re.Match.expand` fills it, both without the variable's own name.
"""

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
