"""import_weights --from=SOURCE --arch=NAME FILE --output=DIR [flags]

Carries published weights into a network of this package and writes a model folder:
`.keras`, SavedModel and a card. The file is a state dict of PyTorch (.pth, .pt, .bin)
or .safetensors; of Keras Applications, .h5 or .keras. Nothing in a file is run. The
first layer of the network does to a picture what the source does; the card says it too.

Every array of the file must have its place and every weight of the network its array,
in the right shape; otherwise the first few that do not fit are named and nothing is
written. --arch=list names the architectures of a source.
"""

import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
    "from",
    None,
    ["torchvision", "timm", "hugging_face", "keras", "facenet_pytorch"],
    "Whose names the file has.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_string(
    "arch",
    None,
    "The architecture, as the source calls it; list names all.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_string(
    "output",
    None,
    "The model folder to write; an older one is replaced.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "classes",
    None,
    "Number of classes; by default as in the file, 1000 for keras.",
    lower_bound=2,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "labels",
    None,
    "Names of the classes: a JSON list, a config.json of Hugging Face, or a text file "
    "of one a line; by default their numbers.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "size",
    None,
    "Side of the pictures in pixels; by default the architecture's.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "licence", "that of the weights' publisher", "For the card.", flag_values=FLAGS
)
flags.DEFINE_list(
    "data",
    ["what the publisher trained on"],
    "For the card: the training data.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "format",
    ["saved_model"],
    "What to write beside the .keras: saved_model, litert.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Imports, exports and prints the report."""
    import os
    import pathlib

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    source, name = FLAGS["from"].value, FLAGS.arch
    if name == "list":
        from mlcvtf.weights import architectures

        print("\n".join(architectures.names(source)))
        return 0
    if len(argv) != 1:
        raise flags.Error(f"one argument is needed, the file, received {len(argv)}")
    if not FLAGS.output:
        raise flags.Error("--output is the model folder to write, received none")
    if not FLAGS.format or set(FLAGS.format) - {"saved_model", "litert"}:
        raise flags.Error(
            "--format is of saved_model, litert, received " + ",".join(FLAGS.format)
        )
    path = pathlib.Path(argv[0])
    if not path.is_file():
        raise InputError(f"a checkpoint is a file, there is none at {path}")
    labels = _labels() if FLAGS.labels else None

    from mlcvtf.weights.published import import_checkpoint

    imported = import_checkpoint(source, name, path, FLAGS.classes)
    classes = imported.model.classes
    if labels is None:
        labels = [str(number) for number in range(classes)]
    if len(labels) != classes:
        raise InputError(
            f"--labels names every class, received {len(labels)} names "
            f"for {classes} classes"
        )
    report = imported.report
    print(
        f"loaded {len(report.loaded)} arrays, {report.parameters:,} values; skipped "
        f"{len(report.skipped)}; missing 0, unexpected 0"
    )
    if report.skipped:
        print(
            "skipped: "
            + ", ".join(report.skipped[:5])
            + (
                f" and {len(report.skipped) - 5} more"
                if len(report.skipped) > 5
                else ""
            )
        )
    _export(imported, _card(imported, labels, source, name, path))
    print(f"wrote {FLAGS.output}")
    return 0


def _card(imported, labels, source, name, path):
    from mlcvtf import card as cards

    side = FLAGS.size or imported.size
    return {
        "labels": labels,
        "thresholds": {},
        "licence": FLAGS.licence,
        "data": FLAGS.data,
        "recipe": {
            "command": "apps/import_weights",
            "from": source,
            "arch": name,
            "file": path.name,
            "sha256": cards.sha256(path),
        },
        "figures": [],
        "input": {"size": [side, side]},
        "normalisation": imported.normalisation,
        "imported": {
            "arrays": len(imported.report.loaded),
            "values": imported.report.parameters,
            "skipped": imported.report.skipped,
        },
    }


def _export(imported, card):
    from mlcvtf.export import parity, write

    try:
        write.export(
            imported.model,
            "classification",
            FLAGS.output,
            card,
            formats=tuple(FLAGS.format),
            precisions=(),
        )
    except (parity.ParityError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"nothing was written: {first}") from None


def _labels():
    """Reads the names of the classes."""
    import json
    import pathlib

    try:
        text = pathlib.Path(FLAGS.labels).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--labels is a readable text file, {FLAGS.labels} is not: {error}"
        ) from None
    try:
        content = json.loads(text)
    except ValueError:
        return text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    if isinstance(content, dict) and isinstance(content.get("id2label"), dict):
        names = content["id2label"]
        content = [names.get(str(number)) for number in range(len(names))]
    if not isinstance(content, list) or not all(isinstance(n, str) for n in content):
        raise InputError(
            "--labels holds a JSON list of names, an object with id2label or a name a "
            f"line, {FLAGS.labels} does not"
        )
    return content


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
