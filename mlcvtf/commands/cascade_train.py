"""cascade_train --positives SET --negatives PICTURES --output FILE.xml [flags]

Trains a cascade of boosted Haar features (Viola and Jones) and writes it as OpenCV 4
reads it. Positives are pictures of one object each (a folder or ZIP archive of crops),
boxes in pictures (a folder as COCO, VOC or YOLO has it, or a COCO file), or an array
of windows (FILE.npz:NAME). Negatives are pictures that show no such object, at any
size: a folder, a ZIP archive or a COCO file.

The state is kept in FILE.training: the same command goes on with a training that was
stopped. A report is written there as well. Exit code 0; 1: input that does not serve;
2: a flag; 130: stopped by Ctrl-C.
"""

import os
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
    "output", None, "The cascade, a file that ends in .xml.", flag_values=FLAGS
)
flags.DEFINE_string(
    "work",
    None,
    "Folder for state and report; FILE.training by default.",
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

    from mlcvtf.detection.viola_jones import opencv_xml, training, training_report

    backgrounds = read_negatives(window)
    faces = read_positives(window)
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
    work = FLAGS.work or f"{FLAGS.output.removesuffix('.xml')}.training"
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
    opencv_xml.save_opencv_xml(cascade, FLAGS.output)
    training_report.write(work, cascade, one.state.history, faces.training, settings)
    _say(
        f"wrote {FLAGS.output}: {len(cascade.stage_trees)} stages, "
        f"{len(cascade.tree_nodes)} trees; report in {work}/report.md"
    )


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
    if not FLAGS.output.lower().endswith(".xml"):
        raise InputError(
            "a cascade is written to a file that ends in .xml, received "
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
    sink.check_writable(FLAGS.output, "a cascade")
    return window


def read_negatives(window):
    """Lists the pictures without objects.

    Args:
        window: width and height in pixels.

    Raises:
        InputError: there are none, or none that is large enough.
    """
    from mlcvtf.data import object_windows
    from mlcvtf.video.paths import printable

    places = []
    for path in FLAGS.negatives:
        found = object_windows.read_backgrounds(path, FLAGS.without)
        if not found:
            raise InputError(
                f"negatives are pictures without objects, {printable(path)} has none"
            )
        places += found
    backgrounds = object_windows.Backgrounds(places, window)
    if not len(backgrounds):
        raise InputError(
            f"negatives are at least as large as the window, "
            f"{FLAGS.window}, all {len(places)} are smaller"
        )
    left_out = backgrounds.too_small
    _say(
        f"{len(backgrounds)} pictures without objects"
        + (f", {left_out} smaller than the window left out" if left_out else "")
    )
    return backgrounds


def read_positives(window):
    """Cuts the windows to learn from and to validate on.

    Args:
        window: width and height in pixels.

    Returns:
        `training.Faces`.

    Raises:
        InputError: there are too few, or crops are smaller than the window.
    """
    import functools

    import numpy as np
    import tqdm

    from mlcvtf.data import object_windows
    from mlcvtf.detection.viola_jones.training import Faces

    objects = _large_enough(window)
    # Objects of one picture are all on one side.
    groups = {}
    for one in objects:
        groups.setdefault(one.image if one.box else len(groups), []).append(one)
    groups = list(groups.values())
    order = np.random.default_rng(FLAGS.seed).permutation(len(groups))
    held = max(1, round(FLAGS.validation * len(groups)))
    if held >= len(groups):
        raise InputError(
            "positives are of at least 2 pictures, to learn from one and "
            f"validate on the other, received {len(groups)}"
        )
    jitter = object_windows.Jitter(FLAGS.jitter)
    progress = functools.partial(tqdm.tqdm, unit="object", leave=False, disable=None)
    parts = []
    for chosen, copies in ((order[held:], jitter), (order[:held], None)):
        part = [one for number in chosen for one in groups[number]]
        parts.append(
            object_windows.cut_windows(
                part, window, FLAGS.margin, copies, FLAGS.mirror, FLAGS.seed, progress
            )
        )
    _say(
        f"{len(objects)} objects: {len(parts[0])} windows to learn from, "
        f"{len(parts[1])} to validate on"
    )
    return Faces(*parts)


def _large_enough(window):
    """Lists the objects that are as large as the window, or says what is wrong."""
    from mlcvtf.data import object_windows
    from mlcvtf.video.paths import printable

    objects = []
    for path in FLAGS.positives:
        found = object_windows.read_objects(path, FLAGS.category)
        if not found:
            raise InputError(
                "positives are pictures of an object or boxes in "
                f"pictures, {printable(path)} has none"
            )
        objects += found
    kept, small = [], []
    for one in objects:
        size = _size(one)
        large = size[0] >= window[0] and size[1] >= window[1]
        (kept if large else small).append((one, size))
    crops = [(one, size) for one, size in small if one.box is None]
    if crops:
        one, size = crops[0]
        name = "an array" if not isinstance(one.image, tuple) else one.image
        raise InputError(
            f"crops are at least as large as the window, {FLAGS.window}, {len(crops)} "
            f"are smaller, such as {name} of {size[0]}x{size[1]} (see --window)"
        )
    if not kept:
        raise InputError(
            f"some boxes are at least as large as the window, "
            f"{FLAGS.window}, all {len(small)} are smaller"
        )
    if small:
        _say(f"{len(small)} boxes smaller than the window left out")
    return [one for one, _ in kept]


def _size(one):
    """Returns width and height of an object with its margin."""
    from mlcvtf.data.places import picture_size

    if one.box is not None:
        scale = 1 + 2 * FLAGS.margin
        return (scale * (one.box[2] - one.box[0]), scale * (one.box[3] - one.box[1]))
    if not isinstance(one.image, tuple):
        return one.image.shape[::-1]
    # A picture that is none is an error when it is read.
    return picture_size(one.image) or (10**6, 10**6)


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
