"""Rules for a convolution with batch normalisation, as PyTorch's networks name it."""

from mlcvtf.weights.name_map import Rule

# PyTorch's names of batch normalisation's arrays and Keras's.
NORMALISATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
# Counters of batches, which nothing here needs.
SKIPPED = (r".*\.num_batches_tracked",)


def normalisation(source: str, target: str) -> list[Rule]:
    """Gives the rules for one batch normalisation, or for all that fit a pattern.

    Args:
        source: regular expression of its name in a state dict.
        target: path of the layer, as `re.Match.expand` fills it.

    Returns:
        Four rules.
    """
    return [
        Rule(rf"{source}\.{name}", f"{target}/{variable}")
        for name, variable in NORMALISATION.items()
    ]


def unit(source: str, target: str) -> list[Rule]:
    """Gives the rules for a `ConvolutionUnit`, or for all that fit a pattern.

    Args:
        source: regular expression of the unit's name in a state dict; "conv" and "bn"
            are under it.
        target: path of the `ConvolutionUnit`, as `re.Match.expand` fills it.

    Returns:
        Five rules.
    """
    kernel = Rule(
        rf"{source}\.conv\.weight", f"{target}/convolution/kernel", "convolution"
    )
    return [kernel, *normalisation(rf"{source}\.bn", f"{target}/normalisation")]


def dense(source: str, target: str) -> list[Rule]:
    """Gives the rules for a dense layer, or for all that fit a pattern.

    Args:
        source: regular expression of its name in a state dict.
        target: path of the layer, as `re.Match.expand` fills it.

    Returns:
        Two rules, the bias included.
    """
    return [
        Rule(rf"{source}\.weight", f"{target}/kernel", "dense"),
        Rule(rf"{source}\.bias", f"{target}/bias"),
    ]
