"""evaluate --model DIR --data DIR [--split PART] [--runtime RUNTIME] [flags]

Measures an exported model on a data set, by the task in the model's card:

  detection, face_detection   COCO's average precision and recall, VOC's at --iou
  classification              share of right first answers and right top five
  segmentation                mean intersection over union
  face_embedding              verification on pairs, as face_verify prints it

The classes of the set are found among the model's by name. Boxes are measured in the
picture's own pixels; crowd regions and difficult objects are ignored. Any runtime gives
the figure of the model in training, as far as its answers are the same.
"""

import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model",
    None,
    "The model folder, which holds card.json.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_string(
    "data",
    None,
    "The data set's folder; for a face embedder, with a CSV of pairs "
    "(fold, file1, file2, same) beside one ZIP archive or folder of pictures.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_enum(
    "format",
    "auto",
    ("auto", "coco", "voc", "yolo", "masks", "table", "classes", "pairs"),
    "Form of the data set; auto recognises it.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "split",
    None,
    "Part of the set, such as val; of pairs, the folds (5,6), all by default.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "runtime",
    "auto",
    "litert, litert_float16, saved_model, keras ...; auto takes the "
    "first that the model has a file for.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "limit",
    None,
    "Pictures (pairs) to use at most, picked evenly from all of them.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "on-bad-image",
    "fail",
    ("fail", "skip"),
    "What a picture or annotation that "
    "cannot be used does: fail ends with its name, skip leaves it out and lists it.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "map",
    [],
    "Renames classes: NAME=LABEL,... from the data set's to the model's.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "iou",
    ["0.5"],
    "Overlaps at which VOC's average precision is measured.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "smallest",
    0.0,
    "Boxes with a shorter side of fewer pixels are ignored.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "models",
    None,
    "Folder with the face_detector that finds the faces for an "
    "embedder; the shipped one by default.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "json",
    None,
    "File for the figures and what they were measured with, or - for "
    "standard output instead of the text.",
    flag_values=FLAGS,
)

EMBEDDING = "face_embedding"
# Distributions whose versions are noted, by the runtime's first word.
PACKAGES = {
    "litert": ("ai-edge-litert",),
    "saved": ("tensorflow",),
    "keras": ("tensorflow", "keras"),
}


def main(argv: list[str]) -> None:
    """Runs the command."""
    video_app.refuse_arguments(argv)
    overlaps, renames = _overlaps(FLAGS.iou), _renames(FLAGS.map)
    if FLAGS.json:
        from mlcvtf.video import sink

        sink.check_writable(FLAGS.json, "figures")

    import json

    from mlcvtf import card as cards

    card = cards.read(FLAGS.model)
    if card["task"] == EMBEDDING:
        report, lines = _verify()
    else:
        report, lines = _measure(card, overlaps, renames)
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    if FLAGS.json == "-":
        sys.stdout.write(text)
        return
    if FLAGS.json:
        with open(FLAGS.json, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    print("\n".join(lines))


def _measure(card, overlaps, renames):
    """Measures any model but an embedder; returns the report and its lines."""
    import functools

    import tqdm

    from mlcvtf.data import check
    from mlcvtf.training import evaluation
    from mlcvtf.video import predictor

    form, part, record_set = _read_part(card["task"])
    total = len(record_set.records)
    record_set = record_set._replace(
        records=evaluation.spread(record_set.records, FLAGS.limit)
    )
    model = predictor.load(FLAGS.model, FLAGS.runtime)
    result = evaluation.evaluate(
        model,
        record_set,
        card["task"],
        card["labels"],
        renames,
        FLAGS["on-bad-image"].value,
        # disable=None: shown on a terminal only.
        functools.partial(tqdm.tqdm, unit="picture", leave=False, disable=None),
        FLAGS.smallest,
        overlaps,
    )
    data = {
        "folder": FLAGS.data,
        "format": form,
        "split": part,
        "pictures_in_all": total,
    }
    data |= check.figures(record_set, [], {})
    report = _report(model, data) | {
        "pictures": result.pictures,
        "skipped": result.skipped,
        "figures": result.figures,
        "classes": result.classes,
    }
    if result.confusion is not None:
        report["labels"] = card["labels"]
        report["confusion"] = result.confusion
    return report, describe(report)


def _read_part(task):
    """Reads the part of the data set that is asked for; returns its form and name."""
    from mlcvtf.data import formats
    from mlcvtf.training.evaluation import KINDS
    from mlcvtf.video.paths import printable

    if task not in KINDS:
        raise InputError(
            "a model can be evaluated for the tasks "
            f"{', '.join((*KINDS, EMBEDDING))}, received one for {task}"
        )
    if FLAGS.format == "pairs":
        raise InputError(
            f"pairs are for a model for {EMBEDDING}, received one for {task}"
        )
    form = formats.recognise(FLAGS.data) if FLAGS.format == "auto" else FLAGS.format
    parts = formats.read_folder(FLAGS.data, form)
    chosen = FLAGS.split or list(parts)
    if len(chosen) != 1 or chosen[0] not in parts:
        raise InputError(
            f"--split names one part of {printable(FLAGS.data)} "
            f"({', '.join(parts)}), received "
            f"{', '.join(FLAGS.split) if FLAGS.split else 'none'}"
        )
    record_set = parts[chosen[0]]
    if record_set.kind != KINDS[task]:
        raise InputError(
            f"a model for {task} is evaluated on a set with "
            f"{KINDS[task]}, {printable(FLAGS.data)} read as {form} has "
            f"{record_set.kind} (see --format)"
        )
    return form, chosen[0], record_set


def _verify():
    """Measures a face embedder on pairs; returns the report and its lines."""
    from mlcvtf.commands import face_verify
    from mlcvtf.commands.face_pipeline import FacePipeline
    from mlcvtf.commands.picture_set import PictureSet
    from mlcvtf.training.evaluation import spread
    from mlcvtf.video import predictor

    if FLAGS.format not in ("auto", "pairs"):
        raise InputError(
            f"a model for {EMBEDDING} is evaluated on pairs, received "
            f"--format={FLAGS.format}"
        )
    table, images = face_verify.find_pairs(FLAGS.data)
    pairs = face_verify.select_folds(face_verify.read_pairs(table), FLAGS.split)
    total = len(pairs)
    if FLAGS.limit is not None:
        folds = list(dict.fromkeys(pair["fold"] for pair in pairs))
        pairs = face_verify.select_folds(spread(pairs, FLAGS.limit), folds)
    skipped = {} if FLAGS["on-bad-image"].value == "skip" else None
    with PictureSet(images) as pictures:
        if skipped is None:
            pictures.require(face_verify.files(pairs))
        embedder = predictor.load(FLAGS.model, FLAGS.runtime, task=EMBEDDING)
        pipeline = FacePipeline(FLAGS.models, embedder=embedder)
        figures, _ = face_verify.verify(pictures, pairs, pipeline, skipped)
    data = {
        "folder": FLAGS.data,
        "format": "pairs",
        "table": str(table),
        "images": str(images),
        "split": list(figures["folds"]),
        "pairs_in_all": total,
    }
    report = _report(embedder, data) | {
        "face_detector": pipeline.detector.model_hash,
        "pictures": figures["pictures"],
        "skipped": skipped or {},
        "figures": figures,
    }
    return report, [
        *_heading(report),
        *face_verify.describe(figures),
        *_skipped(report["skipped"]),
    ]


def _report(model, data):
    """Says what was measured on what and with what."""
    import datetime
    import importlib.metadata
    import platform

    import mlcvtf

    card = model.card
    packages = ("numpy", *PACKAGES.get(model.runtime.split("_")[0], ()))
    return {
        "task": card["task"],
        "model": {
            "folder": FLAGS.model,
            "name": card["name"],
            "hash": model.model_hash,
            "commit": card["commit"],
        },
        "runtime": model.runtime,
        "data": data,
        "settings": {
            name: FLAGS[name].value
            for name in ("limit", "on-bad-image", "map", "iou", "smallest")
        },
        "versions": {
            "python": platform.python_version(),
            "mlcvtf": mlcvtf.__version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "date": datetime.date.today().isoformat(),
    }


def describe(report: dict) -> list[str]:
    """Writes the report on a model that is no embedder as lines of text."""
    data, total = report["data"], report["data"]["pictures"]
    counts = [f"{report['pictures']} of {data['pictures_in_all']} pictures"]
    if "boxes" in data:
        counts.append(
            f"{data['boxes']} boxes ({data['crowd']} crowd, "
            f"{data['difficult']} difficult)"
        )
    lines = [
        *_heading(report),
        f"{data['format']} {data['split']}: {', '.join(counts)}",
    ]
    lines += [
        f"{name:<16}{_number(value)}" for name, value in report["figures"].items()
    ]
    classes = report["classes"]
    if len(classes) > 1:
        columns = list(next(iter(classes.values())))
        width = max(len("class"), *map(len, classes)) + 2
        rows = {"class": columns} | {
            name: [_number(figures[column]) for column in columns]
            for name, figures in classes.items()
        }
        lines += [
            f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells)
            for name, cells in rows.items()
        ]
    return lines + _skipped(report["skipped"], total)


def _heading(report):
    return [
        f"{report['model']['name']} ({report['task']}), {report['runtime']}, model "
        f"hash {report['model']['hash'][:12]}"
    ]


def _skipped(skipped, total=None):
    if not skipped:
        return []
    of = "" if total is None else f" of {total}"
    return [
        f"skipped {len(skipped)}{of} pictures that cannot be used:",
        *(f"  {reason}" for reason in skipped.values()),
    ]


def _number(value):
    if isinstance(value, int):
        return str(value)
    return "-" if value < 0 else f"{value:.4f}"


def _overlaps(texts):
    try:
        overlaps = [float(text) for text in texts]
    except ValueError:
        overlaps = [-1.0]
    if not all(0 < overlap <= 1 for overlap in overlaps):
        raise flags.Error(
            f"--iou is numbers over 0 and up to 1, received {','.join(texts)}"
        )
    return overlaps


def _renames(texts):
    pairs = [text.partition("=") for text in texts]
    if not all(name and equals and label for name, equals, label in pairs):
        raise flags.Error(f"--map is NAME=LABEL,..., received {','.join(texts)}")
    return {name: label for name, _, label in pairs}


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
