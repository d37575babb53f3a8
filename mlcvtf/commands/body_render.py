"""body_render MOCAP... --output=DIR [flags]

Renders depth pictures of people with the body part that every pixel shows, to train a
body-part forest: poses from motion capture, each on a random body in random clothes,
2.2 to 3.8 m before a camera as Kinect's with its noise, steps and missing pixels.

MOCAP is a folder or ZIP archive with BVH files, or with AMC files and the ASF skeletons
beside them. Who is named by --test_subjects is in DIR/test alone, all others are in
DIR/train: NUMBER_depth.png (16 bits, millimetres, 0 where missing), NUMBER_parts.png
(labels 1 to 31, see parts.txt) and joints.csv. The same seed gives the same pictures.
"""

import os
import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "output", None, "Folder for the pictures; it is made.", flag_values=FLAGS
)
flags.DEFINE_string(
    "sheet",
    None,
    "PNG for a contact sheet: parts and depth side by side, with the joints.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("train", 1000, "Pictures to train with.", 0, flag_values=FLAGS)
flags.DEFINE_integer("test", 200, "Pictures to test with.", 0, flag_values=FLAGS)
flags.DEFINE_list(
    "test_subjects",
    ["02"],
    "Who is to test with: the name of an ASF file, or of the folder of BVH files.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "near",
    0.05,
    "Poses are near-duplicates and left out where no joint is so far apart, in metres.",
    0.0,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "mirror", True, "Trains with the mirror images of poses, too.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "recombined",
    0,
    "Poses to train with that have trunk, arms and legs of three others.",
    0,
    100_000,
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "distance",
    ["2.2", "3.8"],
    "Least and largest distance of people, in metres.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "height",
    ["0.9", "1.3"],
    "Least and largest height of the camera over the floor, in metres.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "yaw",
    180.0,
    "Largest angle by which people turn away from the camera, in degrees.",
    0.0,
    180.0,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "room", False, "Draws floor, wall and things, with label 0.", flag_values=FLAGS
)
flags.DEFINE_integer("seed", 0, "Of everything random.", 0, flag_values=FLAGS)

MOST_PICTURES = 1_000_000
SHEET_PICTURES = 24


def main(argv: list[str]) -> int:
    """Runs the command."""
    if not argv:
        raise flags.Error("motion capture is needed, a folder or ZIP archive")
    if not (FLAGS.output or FLAGS.sheet):
        raise flags.Error("--output=DIR is needed, or --sheet=FILE.png")
    if FLAGS.train + FLAGS.test < 1 or max(FLAGS.train, FLAGS.test) > MOST_PICTURES:
        raise flags.Error(
            f"--train and --test are 1 to {MOST_PICTURES} pictures together"
        )
    view = {
        "distances": _range("distance", 0.8, 10.0),
        "heights": _range("height", 0.0, 5.0),
        "yaw": FLAGS.yaw,
    }
    _check_outputs()

    import functools
    import importlib.util

    import tqdm

    if not importlib.util.find_spec("numba"):
        raise InputError("rendering needs numba: pip install numba")
    from mlcvtf.segmentation.body_parts import pose_sets

    progress = functools.partial(tqdm.tqdm, unit="recording", leave=False, disable=None)
    poses = pose_sets.read_poses(argv, progress)
    print(f"{len(set(poses.clips))} recordings, {len(poses.poses)} frames", flush=True)
    # Whoever is held out is so without test pictures, too; then it may be no one.
    known = set(poses.subjects)
    tested = [one for one in FLAGS.test_subjects if FLAGS.test or one in known]
    parts = {}
    for name, count, part in zip(
        ("train", "test"),
        (FLAGS.train, FLAGS.test),
        pose_sets.split_by_subject(poses, tested),
        strict=True,
    ):
        if not count:
            continue
        if not len(part.poses):
            raise InputError(
                f"someone is needed to {name} with, --test_subjects is "
                f"{','.join(FLAGS.test_subjects)}"
            )
        if name == "train":
            part = pose_sets.with_mirrored(part) if FLAGS.mirror else part
            part = pose_sets.with_recombined(part, FLAGS.recombined, FLAGS.seed)
        spread = pose_sets.without_duplicates(part, FLAGS.near)
        subjects = ", ".join(sorted(set(part.subjects)))
        print(
            f"{name}: {len(spread.poses)} of {len(part.poses)} poses kept, subjects "
            f"{subjects}",
            flush=True,
        )
        parts[name] = (count, spread)
    if FLAGS.output:
        _write(parts, view)
    if FLAGS.sheet:
        _write_sheet(parts, view)
    return 0


def _range(name, least, largest):
    """Returns the two numbers of a flag, in metres."""
    try:
        low, high = (float(word) for word in FLAGS[name].value)
    except ValueError:
        low = high = float("nan")
    if not least <= low <= high <= largest:
        raise flags.Error(
            f"--{name} is two numbers of metres in {least:g} to {largest:g}, such as "
            f"{','.join(FLAGS[name].default)}; received {','.join(FLAGS[name].value)}"
        )
    return low, high


def _pictures(parts, view, name, most):
    """Returns an iterator over a part's pictures, the same whoever asks."""
    from mlcvtf.segmentation.body_parts import picture_folder
    from mlcvtf.segmentation.body_parts.camera import View

    count, poses = parts[name]
    seed = (FLAGS.seed, ("train", "test").index(name))
    return picture_folder.render_pictures(
        poses, min(count, most), seed, view=View(**view), room=FLAGS.room
    )


def _write(parts, view):
    """Writes all parts beside the output and moves them there when they are whole."""
    import shutil
    import time

    import tqdm

    from mlcvtf.segmentation.body_parts import picture_folder
    from mlcvtf.segmentation.body_parts.parts import PARTS
    from mlcvtf.video.paths import printable

    output = os.path.abspath(FLAGS.output)
    partial = f"{output}.{os.getpid()}.partial"
    try:
        for name, (count, poses) in parts.items():
            folder = os.path.join(partial, name)
            os.makedirs(folder)
            pictures = _pictures(parts, view, name, count)
            start = time.process_time()
            picture_folder.write_pictures(
                folder,
                poses,
                tqdm.tqdm(pictures, total=count, leave=False, disable=None),
            )
            each = max(time.process_time() - start, 1e-9) / count
            print(
                f"{name}: {count} pictures, {60 / each:.0f} a minute of processor time",
                flush=True,
            )
        lines = (f"{i} {part}\n" for i, part in enumerate(("none", *PARTS)))
        with open(os.path.join(partial, "parts.txt"), "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.rename(partial, output)
    except OSError as error:
        raise InputError(
            f"the output must be writable, {printable(FLAGS.output)}: {error.strerror}"
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_sheet(parts, view):
    """Writes the first pictures of all parts as a contact sheet."""
    from mlcvtf.commands import body_sheet, contact_sheet

    tiles = []
    for name, (_, poses) in parts.items():
        for position, picture in _pictures(
            parts, view, name, SHEET_PICTURES // len(parts)
        ):
            title = f"{name} {poses.clips[position]}:{poses.frames[position]}"
            tiles.append(body_sheet.tile(picture, title))
    contact_sheet.write_png(FLAGS.sheet, body_sheet.sheet(tiles))


def _check_outputs():
    """Makes sure, before any work, that the outputs can be written."""
    from mlcvtf.video import sink
    from mlcvtf.video.paths import printable

    if FLAGS.sheet:
        if not FLAGS.sheet.lower().endswith(".png"):
            raise InputError(
                f"a contact sheet ends in .png, received {printable(FLAGS.sheet)}"
            )
        sink.check_writable(FLAGS.sheet, "a contact sheet")
    if FLAGS.output:
        try:
            # An empty folder is replaced, as rename does.
            if os.listdir(FLAGS.output):
                raise InputError(
                    "the output is a new or empty folder, "
                    f"{printable(FLAGS.output)} is not empty"
                )
        except FileNotFoundError:
            sink.check_writable(
                f"{os.path.abspath(FLAGS.output)}.partial", "the output's folder"
            )
        except OSError as error:
            raise InputError(
                "the output is a new or empty folder, "
                f"{printable(FLAGS.output)}: {error.strerror}"
            ) from None


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
