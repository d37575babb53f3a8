"""Carries arrays from a published checkpoint into a model, by names.

A network has a list of rules from names of the source to paths of its variables. Every
variable must be filled and every array used or named as skipped: what is missing,
unexpected or of another shape ends the import, because a network with one wrong layer
still runs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.errors import InputError

# What is done to an array of PyTorch's layout, or Keras's.
LAYOUTS = {
    "same": lambda array: array,
    # [out, in / groups, kh, kw] to [kh, kw, in / groups, out], grouped ones alike.
    "convolution": lambda array: np.transpose(array, (2, 3, 1, 0)),
    # [channels, 1, kh, kw] to [kh, kw, channels, 1].
    "depthwise": lambda array: np.transpose(array, (2, 3, 0, 1)),
    # [out, in] to [in, out]; a 1x1 convolution in place of a dense layer as well.
    "dense": lambda array: array.reshape(array.shape[:2]).T,
    # Keras's [1, 1, in, out] to [in, out], a 1x1 convolution in place of a dense layer.
    "pointwise": lambda array: array.reshape(array.shape[-2:]),
}
LISTED = 5


class Rule(NamedTuple):
    """Where arrays whose names fit a pattern go.

    Attributes:
        pattern: regular expression that a source's name matches in full.
        target: path of the variable, as `re.Match.expand` fills it.
        layout: key of `LAYOUTS`.
    """

    pattern: str
    target: str
    layout: str = "same"


class Report(NamedTuple):
    """What an import did.

    Attributes:
        loaded: `[(source name, variable path)]`.
        skipped: names of the source that were left out on purpose.
        parameters: number of values that were loaded.
    """

    loaded: list
    skipped: list
    parameters: int


def carry(
    model: keras.Model,
    arrays: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    skipped: Sequence[str] = (),
) -> Report:
    """Fills all weights of a model from named arrays.

    Args:
        model: any built model.
        arrays: the checkpoint.
        rules: the first whose pattern matches a name in full is used.
        skipped: patterns of names that are left out, such as counters.

    Returns:
        What was done. Nothing is changed when an error is raised.

    Raises:
        InputError: an array has no rule, two have one target, a variable is left
            without an array, or shapes differ; the line names the first few.
    """
    # Not `model.variables`, which has the state of dropout's generators as well.
    variables = {variable.path: variable for variable in model.weights}
    if len(variables) < len(model.weights):
        raise ValueError(f"variable paths of {model.name} must differ from each other")
    loaded, left_out, problems, values = [], [], [], {}
    for name, array in arrays.items():
        if any(re.fullmatch(pattern, name) for pattern in skipped):
            left_out.append(name)
            continue
        path, layout = _place(name, rules)
        if path is None or path not in variables:
            problems.append(f"unexpected {name}" + (f" (for {path})" if path else ""))
            continue
        if path in values:
            problems.append(f"{name} is a second array for {path}")
            continue
        value = LAYOUTS[layout](np.asarray(array))
        if value.shape != tuple(variables[path].shape):
            problems.append(
                f"{name} has shape {list(np.shape(array))}, {path} "
                f"{list(variables[path].shape)}"
            )
            continue
        values[path] = value
        loaded.append((name, path))
    problems += [
        f"missing {path}"
        for path in variables
        if path not in values and not any(path in problem for problem in problems)
    ]
    if problems:
        more = len(problems) - LISTED
        raise InputError(
            f"the arrays must fit {model.name} one to one, received {len(problems)} "
            "that do not: "
            + "; ".join(problems[:LISTED])
            + (f"; and {more} more" if more > 0 else "")
        )
    for path, value in values.items():
        variables[path].assign(value)
    return Report(loaded, left_out, sum(value.size for value in values.values()))


def _place(name, rules):
    for rule in rules:
        match = re.fullmatch(rule.pattern, name)
        if match:
            return match.expand(rule.target), rule.layout
    return None, "same"
