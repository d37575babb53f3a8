"""cascade_train --positives SET --negatives PICTURES --output FILE.xml|FOLDER [flags]

Trains a cascade of boosted Haar features (Viola and Jones) and writes it as OpenCV 4
reads it or, where the output is no .xml, as a model folder: cascade.xml, SavedModel,
LiteRT and card. Positives are pictures of one object each (a folder or ZIP archive of
crops), boxes in pictures (a folder as COCO, VOC or YOLO has it, or a COCO file), or an
array of windows (FILE.npz:NAME). Negatives are pictures that show no such object, at
any size: a folder, a ZIP archive or a COCO file.

The state is kept in OUTPUT.training: the same command goes on with a training that was
stopped. A report is written there as well. Exit code 0; 1: input that does not serve;
2: a flag; 130: stopped by Ctrl-C.
"""

import os
import pathlib
import re
import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_multi_string(
    "positives",
    [],
    "Objects to be found; may be given several times.",
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "negatives",
    [],
    "Pictures without such objects; may be given several times.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output",
    None,
    "The cascade, a file that ends in .xml, or else a model folder.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "label",
    None,
    "What is detected, for a model folder; --category or object by default.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "licence", "unknown", "Of the pictures, for a model folder.", flag_values=FLAGS
)
flags.DEFINE_string(
    "work",
    None,
    "Folder for state and report; OUTPUT.training by default.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "category", None, "Class of the boxes to learn; all by default.", flag_values=FLAGS
)
flags.DEFINE_list(
    "without",
    [],
    "Classes whose pictures are left out of the negatives of a COCO file.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "window", "24x24", "Width and height of the smallest object.", flag_values=FLAGS
)
flags.DEFINE_float(
    "margin",
    0.0,
    "Around boxes, as a share of their sides; below 0 for less than the box.",
    -0.4,
    4.0,
    flag_values=FLAGS,
)
flags.DEFINE_boolean(
    "mirror", True, "Whether mirrored copies are learned too.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "jitter",
    2,
    "Copies of each object that are moved, scaled and turned a little.",
    0,
    100,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "validation",
    0.2,
    "Share of the pictures with objects on which thresholds are chosen.",
    0.01,
    0.9,
    flag_values=FLAGS,
)
flags.DEFINE_integer("stages", 20, "Stages at most.", 1, 100, flag_values=FLAGS)
flags.DEFINE_float(
    "detection",
    0.995,
    "Share of the objects that each stage lets pass.",
    0.5,
    1.0,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "false_alarm",
    0.5,
    "Share of the other windows that each stage lets pass at most.",
    0.001,
    0.99,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "negatives_per_stage",
    5000,
    "Windows without an object that a stage learns from.",
    10,
    10**6,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "most_trees", 200, "Trees of a stage at most.", 1, 10**4, flag_values=FLAGS
)
flags.DEFINE_enum(
    "features",
    "basic",
    ("basic", "core", "all"),
    "Haar features: the five upright types, all upright ones, or also tilted ones.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "boosting",
    "gentle",
    ("gentle", "adaboost"),
    "How trees are weighted.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "depth", 1, "Comparisons in a row in a tree, 1 for stumps.", 1, 3, flag_values=FLAGS
)
flags.DEFINE_float(
    "subsample",
    1.0,
    "Share of the features that a node looks at.",
    1e-4,
    1.0,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "scale_factor",
    1.1,
    "Between the sizes at which negatives are looked for.",
    1.01,
    4.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "threads", None, "Threads; one per processor by default.", 1, flag_values=FLAGS
)
flags.DEFINE_enum(
    "search",
    "processor",
    ("processor", "one_device", "mirrored"),
    "Where splits are searched: by compiled loops on the processor, or by TensorFlow "
    "on one device or shared over all GPUs. The cascade is the same.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "memory_gb",
    1.7,
    "Memory for the features of all windows, in 10^9 bytes, one byte each; where it "
    "does not hold all, each stage draws its features.",
    0.01,
    1000.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", 0, "Of all randomness.", 0, flag_values=FLAGS)


def main(argv: list[str]) -> None:
    """Runs the command."""
    if argv:
        raise flags.Error(f"no arguments are taken, received {argv[0]}")
    window = _check_flags()

    from mlcvtf.commands import cascade_windows
    from mlcvtf.detection.viola_jones import training, training_report

    backgrounds = cascade_windows.read_negatives(FLAGS, window, _say)
    faces = cascade_windows.read_positives(FLAGS, window, _say)
    settings = training.Settings(
        window,
        FLAGS.stages,
        FLAGS.detection,
        FLAGS.false_alarm,
        FLAGS.negatives_per_stage,
        FLAGS.most_trees,
        FLAGS.features,
        FLAGS.boosting,
        FLAGS.depth,
        FLAGS.subsample,
        FLAGS.scale_factor,
        int(FLAGS.memory_gb * 1e9),
        FLAGS.seed,
    )
    output = FLAGS.output.rstrip("/")
    work = FLAGS.work or f"{output.removesuffix('.xml')}.training"
    one = training.Training(
        faces,
        backgrounds,
        settings,
        work,
        FLAGS.threads,
        _say,
        make_search(),
        backgrounds.names,
    )
    if one.state.history:
        _say(f"goes on after stage {len(one.state.history)} in {work}")
    cascade = one.run()
    training_report.write(work, cascade, one.state.history, faces.training, settings)
    write_output(cascade, faces, one.state.history)
    _say(
        f"wrote {FLAGS.output}: {len(cascade.stage_trees)} stages, "
        f"{len(cascade.tree_nodes)} trees; report in {work}/report.md"
    )


def write_output(cascade, faces, history) -> None:
    """Writes the file or the model folder.

    Args:
        cascade: a `Cascade`.
        faces: `training.Faces`.
        history: of the training.
    """
    from mlcvtf.commands import cascade_model
    from mlcvtf.detection.viola_jones import opencv_xml
    from mlcvtf.video import predictor

    if _is_file():
        opencv_xml.save_opencv_xml(cascade, FLAGS.output)
        return
    last = history[-1]
    card = {
        "labels": [FLAGS.label or FLAGS.category or "object"],
        "licence": FLAGS.licence,
        "data": [*FLAGS.positives, *FLAGS.negatives],
        "recipe": "cascade_train",
        "figures": [
            {"figure": title, "value": value, "command": "cascade_train"}
            for title, value in (
                ("stages", len(history)),
                ("detection of the last stage, validation", last["detection"]),
                ("false alarm of the last stage, validation", last["false_alarm"]),
            )
        ],
    }
    _say("exports and compares the runtimes, which takes a minute or so")
    # TensorFlow tells a lot on the error stream.
    with predictor.quiet():
        shown = cascade_model.pictures_of(faces.validation)
        cascade_model.save(cascade, FLAGS.output, card, shown)


def _is_file():
    return FLAGS.output.lower().endswith(".xml")


def make_search():
    """Returns what searches the best splits, or None for the processor's search."""
    if FLAGS.search == "processor":
        return None
    from mlcvtf.detection.viola_jones.boosting_tensorflow import TensorSearch
    from mlcvtf.training import strategy

    devices = strategy.create(FLAGS.search)
    return lambda bins, count: TensorSearch(bins, count, devices)


def _say(line):
    # At once, for a log that somebody follows.
    print(line, flush=True)


def _check_flags():
    """Checks what can be checked before any work; returns the window's size."""
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    for name in ("positives", "negatives", "output"):
        if not getattr(FLAGS, name):
            raise flags.Error(f"--{name} is needed")
    match = re.fullmatch(r"(\d{1,3})x(\d{1,3})", FLAGS.window)
    window = tuple(map(int, match.groups())) if match else (0, 0)
    if not 8 <= min(window) <= max(window) <= 128:
        raise flags.Error(
            f"--window is WIDTHxHEIGHT of 8 to 128 pixels, received {FLAGS.window}"
        )
    card = pathlib.Path(FLAGS.output) / "card.json"
    odd = card.parent.suffix or (card.parent.exists() and not card.is_file())
    if not _is_file() and odd:
        raise InputError(
            "a cascade is written to a file that ends in .xml, or a model folder, new "
            f"or to be replaced and without an ending, received "
            f"{printable(FLAGS.output)}"
        )
    same = set(map(os.path.realpath, FLAGS.positives)) & set(
        map(os.path.realpath, FLAGS.negatives)
    )
    if same:
        raise InputError(
            "positives and negatives are different pictures, received "
            f"{printable(min(same))} as both"
        )
    place = str(card) if card.is_file() else FLAGS.output.rstrip("/")
    sink.check_writable(place, "a cascade")
    return window


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
