"""summarize MODEL... [--json] [--totals] [--size H,W] | summarize --list

Prints what networks cost for one picture: parameters, multiply-adds, activations,
memory and receptive field, layer by layer and in total. A MODEL is a `.keras` file, a
model folder with a card, or the name of a network of this package, with a head of 1,000
classes; --list names them.

Multiply-adds are those of convolutions, dense layers and attention products; FLOPs are
twice as many. Parameters are the trained ones; running statistics are counted apart.
Activations are the values that all layers give; memory is that of weights and
activations, in bytes. A receptive field of "all" is the whole picture: after global
pooling, flattening, attention or a squeeze-and-excitation gate.
"""

import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_bool(
    "list", False, "Names the networks of this package, one a line.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "json",
    False,
    "One JSON object a line and model, without the layers.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "totals", False, "One line a model, without the layers.", flag_values=FLAGS
)
flags.DEFINE_list(
    "size",
    None,
    "Height and width of the picture in pixels, or one number for both; by default "
    "what the model or its card says, or the paper of a named network.",
    flag_values=FLAGS,
)
COLUMNS = "{:<44} {:>14} {:>12} {:>15} {:>13} {:>11} {:>9}"
HEADS = (
    "layer",
    "output",
    "parameters",
    "multiply-adds",
    "activations",
    "field",
    "stride",
)


def main(argv: list[str]) -> int:
    """Prints one summary per model."""
    if FLAGS.list == bool(argv):
        raise flags.Error(
            f"models or --list, one of both, received {len(argv)} models"
            f"{' and --list' if FLAGS.list else ''}"
        )
    if FLAGS.list:
        from mlcvtf.classification.networks import NETWORKS

        print("\n".join(NETWORKS))
        return 0
    size = _size()
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if FLAGS.totals and not FLAGS.json:
        print(COLUMNS.format("model", "input", *HEADS[2:5], "memory", ""))
    for name in argv:
        profile = _profile(name, size)
        if FLAGS.json:
            print(_json(name, profile), flush=True)
        else:
            print("\n".join(describe(name, profile, FLAGS.totals)), flush=True)
    return 0


def describe(name: str, profile, totals: bool) -> list[str]:
    """Writes a profile as lines of text.

    Args:
        name: of the model.
        profile: `mlcvtf.explain.profile.Profile`.
        totals: leaves out the layers and the heads of the columns.
    """
    cells = [] if totals else [(name, *HEADS[1:])]
    for row in () if totals else profile.rows:
        counts = map(_number, (row.parameters, row.multiply_adds, row.activations))
        places = _sides(row.receptive_field), _sides(row.stride)
        cells.append((row.path, _shape(row.output), *counts, *places))
    sums = map(profile.total, ("parameters", "multiply_adds", "activations"))
    memory = f"{profile.total('memory') / 2**20:.1f} MiB"
    first = name if totals else "total"
    cells.append((first, _shape(profile.input), *map(_number, sums), memory, ""))
    # One width for the names of a model's layers, which may be long.
    width = max(len(first) for first, *_ in cells)
    lines = [
        COLUMNS.format(first.ljust(width), *others).rstrip() for first, *others in cells
    ]
    if not totals:
        lines.append(
            f"FLOPs {_number(profile.flops)}, statistics "
            f"{_number(profile.total('statistics'))}"
        )
    if profile.uncounted:
        lines.append(
            "not counted, no formula is known: " + ", ".join(profile.uncounted)
        )
    return lines


def _json(name, profile):
    import json
    import math

    field = profile.receptive_field
    whole = field is not None and math.isinf(max(field))
    return json.dumps(
        {
            "model": name,
            **{
                column: profile.total(column)
                for column in ("parameters", "multiply_adds")
            },
            "flops": profile.flops,
            **{
                column: profile.total(column)
                for column in ("statistics", "activations", "memory")
            },
            "input": profile.input,
            "receptive_field": "all" if whole else field,
            "uncounted": profile.uncounted,
        }
    )


def _number(value):
    return f"{value:,}" if value else "-"


def _shape(shape):
    return "x".join(map(str, shape)) if isinstance(shape, tuple) and shape else "-"


def _sides(pair):
    """Writes rows and columns as one number where they are equal."""
    if pair is None:
        return "-"
    texts = ["all" if side == float("inf") else f"{side:g}" for side in pair]
    return texts[0] if texts[0] == texts[1] else "x".join(texts)


def _size():
    if FLAGS.size is None:
        return None
    try:
        sides = [int(side) for side in FLAGS.size]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise flags.Error(
            f"--size is one or two positive numbers, received {','.join(FLAGS.size)}"
        )
    return (sides[0], sides[-1])


def _profile(name, size):
    """Builds or reads a model and counts it."""
    import importlib

    from mlcvtf.classification import networks

    if name not in networks.NETWORKS:
        model, given = _read(name)
    else:
        network = networks.NETWORKS[name]
        given, model = (network.size, network.size), None
    # TensorFlow is imported only now that the names are known to be right.
    profiles = importlib.import_module("mlcvtf.explain.profile")
    import keras

    try:
        if model is not None:
            return _count(profiles, model, size or given)
        # Nothing is computed, so the weights are never made.
        with keras.StatelessScope(initialize_variables=False):
            return _count(profiles, networks.build(name), size or given)
    except ValueError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{name} cannot be counted: {first}") from None


def _count(profiles, model, size):
    try:
        fixed = [None in tuple(tensor.shape[1:]) for tensor in model.inputs]
    except (AttributeError, ValueError):
        fixed = [True]
    if size is None and any(fixed):
        raise ValueError("it takes any size; give --size")
    return profiles.profile(model, (*size, 3) if size else None)


def _read(name):
    """Reads a file or model folder; returns the model and its card's size."""
    import pathlib

    from mlcvtf.video.paths import printable

    path, size = pathlib.Path(name), None
    if path.is_dir():
        from mlcvtf import card as cards

        description = cards.read(path)["input"]
        size = description.get("size")
        if size is None and "longest_side" in description:
            size = (description["longest_side"],) * 2
        path = path / "model.keras"
    if not path.is_file():
        raise InputError(
            "a model is a .keras file, a model folder or a name of --list, received "
            f"{printable(name)}"
        )
    from mlcvtf.export import keras_file

    return keras_file.load(path), size


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
