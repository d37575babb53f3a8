"""export --model FILE.keras --task TASK --output DIR --card FILE.json [flags]

Exports a trained model to a model folder: Keras, SavedModel and LiteRT, with a card and
a report of how far their answers differ, each from a fresh process. With
`--quantize=float16,dynamic,int8` there is a LiteRT file of each beside that in float32.
Nothing is written where answers differ by more than the card's "parity_bounds" allow,
or where `--evaluate` finds a file worse than `--largest-drop` allows.
"""

import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", None, "The trained model, a .keras file.", flag_values=FLAGS, required=True
)
flags.DEFINE_enum(
    "task", None, ["classification", "detection", "face_detection", "face_embedding"],
    "What the model does.", flag_values=FLAGS, required=True,
)
flags.DEFINE_string(
    "output", None, "The model folder to write; an older one is replaced.",
    flag_values=FLAGS, required=True,
)
flags.DEFINE_string(
    "card", None,
    "JSON with labels, thresholds, licence, data, recipe and figures for the card.",
    flag_values=FLAGS, required=True,
)
flags.DEFINE_list(
    "format", ["saved_model", "litert"], "What to write beside the Keras file.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "quantize", ["float16"],
    "LiteRT files beside float32: float16, dynamic (int8 weights), int8; or none.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "representative", None,
    "Folder or ZIP archive of some dozens of pictures as the model will see them, or "
    "recipe:NAME for those that a recipe trains with; they set the ranges of int8.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "evaluate", None,
    "Flags of apps/evaluate, such as '--data DIR --split val': measures each LiteRT "
    "file on a data set.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "largest-drop", 0.01,
    "How much lower than that of float32 a file's figure may be with --evaluate.",
    lower_bound=0.0, flag_values=FLAGS,
)
FORMATS = ("saved_model", "litert")
PRECISIONS = ("float16", "dynamic", "int8")
# The figure of apps/evaluate that files are compared by.
FIGURES = {"classification": "top_1", "detection": "AP", "face_detection": "AP50",
           "face_embedding": "accuracy"}
# As many pictures as set the ranges, picked evenly from all.
REPRESENTATIVE = 64
RECIPE = "recipe:"


def main(argv: list[str]) -> int:
    """Exports and prints the parity report."""
    del argv
    import pathlib

    precisions = [] if FLAGS.quantize == ["none"] else FLAGS.quantize
    _check_list("format", FLAGS.format, FORMATS)
    _check_list("quantize", precisions, PRECISIONS)
    if FLAGS.evaluate and "litert" not in FLAGS.format:
        raise flags.Error("--evaluate measures LiteRT files, --format leaves them out")
    if ("int8" in precisions) != bool(FLAGS.representative):
        raise flags.Error("--quantize=int8 and --representative go together")
    card = _read_card()
    if not pathlib.Path(FLAGS.model).is_file():
        raise InputError(f"--model is a .keras file, there is none at {FLAGS.model}")
    representative = _pictures() if FLAGS.representative else []

    from mlcvtf.export import keras_file, parity, write

    model = keras_file.load(FLAGS.model)
    try:
        card = write.export(
            model, FLAGS.task, FLAGS.output, card, formats=tuple(FLAGS.format),
            precisions=tuple(precisions), representative=representative,
            measure=_evaluate if FLAGS.evaluate else None,
        )
    except (parity.ParityError, ValueError) as error:
        raise InputError(f"nothing was written: {error}") from None
    print("\n".join(_describe(card, parity.text(card["parity"]))))
    return 0


def _check_list(name, values, known):
    strange = [value for value in values if value not in known]
    if strange or not values and name == "format":
        raise flags.Error(
            f"--{name} is of {', '.join(known)}, received {', '.join(values)}"
        )


def _read_card():
    import json
    import pathlib

    try:
        card = json.loads(pathlib.Path(FLAGS.card).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--card is a readable JSON file, {FLAGS.card} is not: {error}"
        ) from None
    if not isinstance(card, dict):
        raise InputError(f"--card holds a JSON object, {FLAGS.card} does not")
    return card


def _pictures():
    """Reads the representative pictures."""
    from mlcvtf.data import places
    from mlcvtf.video.pictures import decode_picture

    if FLAGS.representative.startswith(RECIPE):
        return _training_pictures(FLAGS.representative.removeprefix(RECIPE))
    pictures = list(places.Root(FLAGS.representative).pictures().items())
    if not pictures:
        raise InputError(
            f"--representative holds pictures, {FLAGS.representative} has none"
        )
    step = max(1, len(pictures) // REPRESENTATIVE)
    return [
        decode_picture(places.read_bytes(place), name)
        for name, place in pictures[::step][:REPRESENTATIVE]
    ]


def _training_pictures(name):
    """Takes the first pictures that a recipe trains with."""
    import numpy as np

    from mlcvtf.training import recipe as recipes

    recipe = recipes.load(name)
    dataset = recipe.data(recipes.configure(recipe))
    pictures = []
    for step in range(REPRESENTATIVE):
        pictures += list(dataset.batch(0, step)[0])
        if len(pictures) >= REPRESENTATIVE:
            break
    return [
        np.clip(picture, 0, 255).astype(np.uint8)
        for picture in pictures[:REPRESENTATIVE]
    ]


def _evaluate(folder):
    """Measures every LiteRT file of a folder in a fresh process.

    Returns:
        {"flags": of apps/evaluate, "figure": its name, precision: its value}.
    """
    import json
    import shlex
    import subprocess

    figure = FIGURES[FLAGS.task]
    result = {"flags": FLAGS.evaluate, "figure": figure}
    for precision in ("float32", *PRECISIONS):
        if not (folder / f"{precision}.tflite").exists():
            continue
        runtime = "litert" if precision == "float32" else f"litert_{precision}"
        process = subprocess.run(
            [sys.executable, "-c",
             "from mlcvtf.commands import evaluate; evaluate.cli()",
             f"--model={folder}", f"--runtime={runtime}", "--json=-",
             *shlex.split(FLAGS.evaluate)],
            capture_output=True, text=True,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [str(process.returncode)]
            raise InputError(f"--evaluate is flags of apps/evaluate: {lines[-1]}")
        result[precision] = json.loads(process.stdout)["figures"][figure]
        drop = result["float32"] - result[precision]
        if drop > FLAGS["largest-drop"].value:
            raise InputError(
                f"nothing was written: {figure} of {precision} may be "
                f"{FLAGS['largest-drop'].value:g} under that of float32, received "
                f"{result[precision]:.4f} after {result['float32']:.4f}"
            )
    return result


def _describe(card, parity):
    """Returns the lines of the report."""
    import pathlib

    lines = [parity]
    folder = pathlib.Path(FLAGS.output)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.[kt]*"))}
    if "saved_model" in FLAGS.format:
        inside = (folder / "saved_model").rglob("*")
        sizes["saved_model"] = sum(p.stat().st_size for p in inside if p.is_file())
    for name, size in sizes.items():
        each = size / card["parameters"]
        lines.append(f"{name:<16}{size / 1e6:>8.3f} MB, {each:.2f} bytes a parameter")
    if "litert" in FLAGS.format:
        lines.append("operations: " + _counts(card["operations"]))
    for precision, counts in card["float_operations"].items():
        lines.append(f"float in {precision}: {_counts(counts)}")
    evaluation = card.get("evaluation", {})
    lines += [
        f"{evaluation['figure']} {precision:<10}{evaluation[precision]:.4f}"
        for precision in ("float32", *PRECISIONS) if precision in evaluation
    ]
    return [*lines, f"wrote {FLAGS.output}: {card['parameters']} parameters"]


def _counts(counts):
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
