"""export --model FILE.keras --task TASK --output DIR --card FILE.json

Exports a trained model to a model folder: Keras, SavedModel and LiteRT in float32 and
float16, with a card and a report of how far their answers differ.
"""

import sys

from absl import flags

from mlcvtf.commands import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", None, "The trained model, a .keras file.", flag_values=FLAGS, required=True
)
flags.DEFINE_enum(
    "task", None, ["face_detection", "face_embedding"], "What the model does.",
    flag_values=FLAGS, required=True,
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
MODULES = {
    "face_detection": ["mlcvtf.detection.centernet", "mlcvtf.backbones.mobilenet_v2"],
    "face_embedding": ["mlcvtf.embedding.arcface"],
}


def main(argv: list[str]) -> int:
    """Exports and prints the parity report."""
    del argv
    import json
    import pathlib

    from mlcvtf.errors import InputError

    try:
        card = json.loads(pathlib.Path(FLAGS.card).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--card is a readable JSON file, {FLAGS.card} is not: {error}"
        ) from None
    if not isinstance(card, dict):
        raise InputError(f"--card holds a JSON object, {FLAGS.card} does not")
    if not pathlib.Path(FLAGS.model).is_file():
        raise InputError(f"--model is a .keras file, there is none at {FLAGS.model}")

    from mlcvtf.export import parity, signatures, write

    try:
        model = signatures.load_keras(FLAGS.model, MODULES[FLAGS.task])
    except (ValueError, TypeError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"--model is a .keras file of {FLAGS.task}, Keras cannot read "
            f"{FLAGS.model}: {first}"
        ) from None
    try:
        card = write.export(model, FLAGS.task, FLAGS.output, card)
    except (parity.ParityError, ValueError) as error:
        raise InputError(f"nothing was written: {error}") from None
    print(parity.text(card["parity"]))
    for name in ("float32.tflite", "float16.tflite", "model.keras"):
        size = (pathlib.Path(FLAGS.output) / name).stat().st_size
        each = size / card["parameters"]
        print(f"{name:<16}{size:>12} bytes, {each:.2f} a parameter")
    print(f"wrote {FLAGS.output}: {card['parameters']} parameters")
    return 0


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
