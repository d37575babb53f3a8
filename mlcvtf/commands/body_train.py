"""body_train DIR --output=MODEL [flags]

Trains a body-part forest and its joints on pictures of body_render and writes them as
a model folder that body_pose takes. The forest and what is learned about joints come
from DIR/train alone, the last --held_out pictures of which are for the joints; DIR/test
is what the figures in the card are measured on.

State is kept in MODEL.training: the same command goes on with a training that was
stopped. Exit code 0; 1: input that does not serve; 2: a flag; 130: stopped by Ctrl-C.
"""

import os
import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "output", None, "The model folder; an older one is replaced.", flag_values=FLAGS
)
flags.DEFINE_string(
    "work", None, "Folder for the state; MODEL.training by default.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "pictures", None, "To train with; all but --held_out by default.", 1,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "held_out", 150, "Last pictures of DIR/train, for the joints.", 1, flag_values=FLAGS
)
flags.DEFINE_integer("trees", 3, "Trees.", 1, 255, flag_values=FLAGS)
flags.DEFINE_integer(
    "depth", 20, "Splits on the longest way.", 1, 30, flag_values=FLAGS
)
flags.DEFINE_integer(
    "features", 200, "Random features that are tried at a node (2000 in the paper).", 1,
    100_000, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "thresholds", 20, "Random thresholds of them (50 in the paper).", 1, 255,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "pixels", 1000, "Pixels of a picture (2000 in the paper).", 1, 1_000_000,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "minimum_samples", 40, "A node with fewer pixels is a leaf.", 2, flag_values=FLAGS
)
flags.DEFINE_integer(
    "most_leaves", 100_000, "Leaves of a tree; three trees of so many take 15 MB.", 1,
    2**24, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "largest_offset", 129.0, "Reach of a feature, in pixels at one metre.", 1.0, 255.0,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_boolean(
    "bagging", True, "Whether each tree draws its pictures anew.", flag_values=FLAGS
)
flags.DEFINE_boolean(
    "evenly", True, "Whether a picture's pixels are spread evenly over its parts.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer(
    "rounds", 1, "Trainings; each after the first adds the pictures that the last one "
    "fails on most.", 1, 100, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_float(
    "first", 0.5, "Share of the pictures that the first of several rounds has.", 0.01,
    0.99, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_enum(
    "engine", "processor", ("processor", "one_device", "mirrored"),
    "Where splits are searched: by compiled loops on the processor, or by TensorFlow "
    "on one device or shared over all GPUs. The forest is the same.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_integer("threads", 2, "Threads.", 1, 256, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of all randomness.", 0, 2**48 - 1, flag_values=FLAGS)
flags.DEFINE_boolean(
    "mirror",
    True,
    "Whether the model is asked about the mirror image of a picture as well: better, "
    "and twice the work.",
    flag_values=FLAGS,
)
flags.DEFINE_multi_enum(
    "formats",
    ["saved_model", "litert"],
    ["saved_model", "litert"],
    "What to write beside the forest's arrays and the Keras file.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "licence", "as of the recordings of the pictures", "For the card.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_multi_string(
    "data", [], "What the pictures were made from, for the card.", flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Runs the command."""
    if len(argv) != 1:
        raise flags.Error("one folder of pictures is needed, as body_render writes it")
    if not FLAGS.output:
        raise flags.Error("--output=MODEL is needed")
    options = _options()
    output, work = _places()

    from mlcvtf.commands import body_parts_model
    from mlcvtf.segmentation.body_parts import evaluation, joint_training, mirror, parts
    from mlcvtf.segmentation.body_parts.camera import Camera
    from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
    from mlcvtf.video import predictor

    train, test = (_folder(argv[0], part) for part in ("train", "test"))
    count = _count(len(train))
    _agree(work, train, count)
    _say(f"{count} pictures to train with, {len(test)} to test with")
    forest = _forest(train, count, options, work)
    _say(
        f"{len(forest.roots)} trees, {len(forest.offsets)} splits, "
        f"{forest.size / 1e6:.1f} MB"
    )
    plain = CompiledForest(forest, FLAGS.threads)
    compiled = mirror.MirroredForest(plain) if FLAGS.mirror else plain
    held = range(len(train) - FLAGS.held_out, len(train))
    joints, _ = joint_training.learn_joints(
        evaluation.joints_of_parts(),
        (one[:4] for one in evaluation.examples(compiled, train, held)),
    )
    least = joint_training.least_confidences(
        joints, (one[:4] for one in evaluation.examples(compiled, train, held))
    )
    figures = evaluation.evaluate(joints, evaluation.examples(compiled, test))
    card = _card(argv[0], train, test, count, figures)
    card["mirror"] = FLAGS.mirror
    if FLAGS.mirror:
        alone, _ = evaluation.evaluate(joints, evaluation.examples(plain, test))
        card["figures"] += _figures(
            class_accuracy_without_mirror=alone.class_accuracy,
            joint_map_10cm_without_mirror=alone.precision,
        )
    # In square metres; pixels of a picture are as wide as its focal length says.
    focal = Camera.of_size(*train.read(0)[0].shape[::-1]).focal
    card["thresholds"] = {
        "confidence": {
            name: float(f"{value / focal**2:.4g}")
            for name, value in zip(parts.JOINTS, least, strict=True)
        }
    }
    shown = [depth for depth, _ in evaluation.people(test, range(min(4, len(test))))]
    with predictor.quiet():
        body_parts_model.save_model(
            forest, joints, parts.JOINTS, output, card, shown, tuple(FLAGS.formats)
        )
    for row in card["figures"]:
        _say(f"{row['figure']}: {row['value']}")
    _say(f"wrote {FLAGS.output}")


def _say(line):
    # At once, for a log that somebody follows.
    print(line, flush=True)


def _options():
    """Returns `forest_training.Options` of the flags."""
    from mlcvtf.segmentation.body_parts.forest_training import Options

    names = {"pixels_per_image": "pixels"}
    return Options(
        **{field: FLAGS[names.get(field, field)].value for field in Options._fields}
    )


def _places():
    """Checks where the model and the state go; returns both."""
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    output = os.path.abspath(FLAGS.output)
    if os.path.exists(output) and not os.path.isfile(os.path.join(output, "card.json")):
        raise InputError(
            "the output is a new folder or a model folder to replace, "
            f"{printable(FLAGS.output)} is something else"
        )
    work = FLAGS.work or f"{output}.training"
    sink.check_writable(os.path.join(os.path.dirname(output), ".model"), "a model")
    return output, work


def _folder(path, part):
    """Opens a part of the pictures and checks that it shows people and joints."""
    from mlcvtf.segmentation.body_parts import evaluation
    from mlcvtf.segmentation.body_parts.picture_folder import PictureFolder
    from mlcvtf.video.paths import printable

    folder = PictureFolder(os.path.join(path, part))
    # Before hours of training: the first pictures are as they must be.
    first = range(min(20, len(folder)))
    if not any(one.visible.any() for one in evaluation.examples(None, folder, first)):
        raise InputError(
            "pictures show people with parts and joints, the first ones of "
            f"{printable(folder.folder)} show none"
        )
    return folder


def _count(pictures):
    """Returns how many pictures to train with."""
    left = pictures - FLAGS.held_out
    count = FLAGS.pictures or left
    if left < 1 or count > left:
        raise InputError(
            f"of the training pictures {FLAGS.held_out} are held out for the joints "
            f"and {max(count, 1)} train the forest, received {pictures}"
        )
    if FLAGS.rounds > 1 and _start(count) + FLAGS.rounds - 1 > count:
        raise InputError(
            f"{FLAGS.rounds} rounds add a picture each, received {count} pictures"
        )
    return count


def _start(count):
    """Returns how many pictures the first round has."""
    return max(1, round(FLAGS.first * count)) if FLAGS.rounds > 1 else count


def _agree(work, train, count):
    """Makes sure that a state that is there is of the same pictures."""
    import json

    from mlcvtf import card
    from mlcvtf.segmentation.body_parts.picture_folder import TABLE
    from mlcvtf.video.paths import printable

    now = {
        "table": card.sha256(train.folder / TABLE),
        "pictures": count,
        "rounds": FLAGS.rounds,
        "first": FLAGS.first,
    }
    path = os.path.join(work, "pictures.json")
    try:
        os.makedirs(work, exist_ok=True)
        if not os.path.exists(path):
            with open(f"{path}.partial", "w", encoding="utf-8") as file:
                json.dump(now, file)
            os.replace(f"{path}.partial", path)
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the state must be readable and writable, {printable(work)}: {error}"
        ) from None
    if before != now:
        raise InputError(
            "a stopped training goes on with the same pictures and rounds, the one in "
            f"{printable(work)} had others"
        )


def _forest(train, count, options, work):
    """Grows the forest, in one round or several."""
    from mlcvtf.segmentation.body_parts import evaluation, forest_training, hard_poses
    from mlcvtf.segmentation.body_parts.parts import PARTS

    if FLAGS.rounds == 1:
        pictures = evaluation.people(train, range(count))
        return forest_training.train_forest(
            pictures, len(PARTS), options, work, FLAGS.threads, engine=_engine(),
            report=_say,
        )  # fmt: skip
    start = _start(count)
    mined = hard_poses.mine_hard_poses(
        _People(train, count), len(PARTS), start,
        (count - start) // (FLAGS.rounds - 1), FLAGS.rounds, options, work,
        FLAGS.threads, _say, _engine(),
    )  # fmt: skip
    return mined.forest


class _People:
    """The first people of a folder by index, read when they are asked for."""

    def __init__(self, folder, count):
        self._folder, self._count = folder, count

    def __len__(self):
        return self._count

    def __getitem__(self, position):
        from mlcvtf.segmentation.body_parts import evaluation

        (found,) = evaluation.people(self._folder, [position])
        return found


def _engine():
    """Returns what searches splits, or None for the compiled loops."""
    if FLAGS.engine == "processor":
        return None
    import functools

    from mlcvtf.segmentation.body_parts.forest_tensorflow import TensorFlowEngine
    from mlcvtf.training import strategy

    return functools.partial(TensorFlowEngine, strategy=strategy.create(FLAGS.engine))


def _card(path, train, test, count, figures):
    """Says in the card where the model is from and what it reached."""
    from mlcvtf.segmentation.body_parts.parts import PARTS

    whole, near = figures
    learned, tested = (sorted(set(one.subjects)) for one in (train, test))
    return {
        "labels": list(PARTS),
        "licence": FLAGS.licence,
        "data": [
            *FLAGS.data,
            f"{count} pictures of {', '.join(learned)}, {FLAGS.held_out} more for the "
            f"joints; tested on {len(test)} pictures of {', '.join(tested)}",
        ],
        "recipe": "mlcvtf-body-train "
        + " ".join(
            [
                os.path.basename(os.path.abspath(path)),
                *(
                    f"--{name}={FLAGS[name].value}"
                    for name in sorted(FLAGS)
                    if FLAGS[name].value != FLAGS[name].default
                    and name
                    not in ("output", "work", "licence", "data", "threads", "formats")
                ),
            ]
        ),
        "figures": _figures(
            class_accuracy=whole.class_accuracy,
            joint_map_10cm=whole.precision,
            class_accuracy_within_120_degrees=near.class_accuracy,
            joint_map_10cm_within_120_degrees=near.precision,
            test_pictures=whole.pictures,
        ),
    }


def _figures(**values):
    """Returns rows of a card; nothing where a value is no number."""
    return [
        {
            "figure": name,
            "value": None if value != value else round(value, 4),
            "command": "body_train",
        }
        for name, value in values.items()
    ]


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
