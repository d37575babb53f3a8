"""face_gallery --gallery DIR COMMAND: looks after a folder of people's pictures.

A gallery has a folder of pictures per person, or one picture per person, named after
the person. Each picture shows exactly one face.

Commands:
  list                  people and how many usable pictures each has
  check [--full]        every picture that cannot be used, and why; exit code 1 if any
  add NAME PICTURE...   copies pictures into the person's folder, all or none
  remove NAME           deletes the person's pictures from the gallery
  calibrate [--far X]   the threshold of face_recognize for this gallery
"""

import os
import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "gallery", None, "The folder of the gallery.", flag_values=FLAGS, required=True
)
flags.DEFINE_bool(
    "full",
    False,
    "check: read every picture, even if size, time and inode did not change.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "far",
    1e-3,
    "calibrate: share of strangers' faces that may get any name.",
    lower_bound=0,
    upper_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "scoring",
    "nearest",
    ["nearest", "centroid"],
    "calibrate: compare a face with each picture or with the mean of each person.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "models",
    None,
    "Folder with the models face_detector and face_embedder; the shipped ones by "
    "default.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "runtime",
    "auto",
    video_app.RUNTIMES,
    "What runs the models; auto takes LiteRT where the model has a .tflite file.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "detector",
    "centernet",
    video_app.DETECTORS,
    video_app.DETECTOR_HELP,
    flag_values=FLAGS,
)

# Command -> fewest and most arguments after it.
COMMANDS = {
    "list": (0, 0),
    "check": (0, 0),
    "add": (2, None),
    "remove": (1, 1),
    "calibrate": (0, 0),
}


def main(arguments: list[str]) -> int | None:
    """Runs the command that the first argument names.

    Args:
        arguments: the command and what belongs to it.

    Returns:
        1 if `check` found a bad picture, else None.

    Raises:
        InputError: the gallery, a picture, a name or a model cannot be used.
        flags.Error: there is no such command, or not so many arguments for it.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments else (None, [])
    if name not in COMMANDS:
        raise flags.Error(f"a command is one of {', '.join(COMMANDS)}, received {name}")
    fewest, most = COMMANDS[name]
    if len(rest) < fewest or (most is not None and len(rest) > most):
        needed = (
            "no argument" if most == 0 else {"add": "NAME PICTURE..."}.get(name, "NAME")
        )
        raise flags.Error(f"{name} needs {needed}, received {len(rest)} arguments")
    if name == "add":
        return _add(rest[0], rest[1:])
    if name == "remove":
        return _remove(rest[0])
    return {"list": _list, "check": _check, "calibrate": _calibrate}[name]()


def cli() -> None:
    """Is the program."""
    # So that flags may follow the command, as in `check --full`.
    FLAGS.set_gnu_getopt(True)
    sys.exit(command.run(main, FLAGS, __doc__))


def _list():
    gallery, _ = _open_gallery()
    _refresh(gallery, sys.stderr)
    for name, count in gallery.counts.items():
        print(f"{name}: {count} picture{'s' * (count != 1)}")


def _check():
    gallery, _ = _open_gallery()
    changes = gallery.update(FLAGS.full, video_app.progress(" pictures"))
    for line in changes.notes:
        print(line, file=sys.stderr)
    for line in changes.problems:
        print(line)
    for path in gallery.ignored:
        print(f"{path}: ignored, it has not the name of a picture")
    gallery.require_faces()
    print(
        f"{len(gallery.names)} people, {gallery.enrolled()} usable pictures, "
        f"{len(gallery.problems)} bad"
    )
    return 1 if gallery.problems else None


def _add(name, paths):
    from mlcvtf.embedding import gallery_folder

    name = gallery_folder.check_name(name)
    contents = {path: _content(path) for path in paths}
    exists = os.path.lexists(FLAGS.gallery)
    gallery, _ = _open_gallery(must_exist=exists)
    if exists:
        _show(gallery.update(progress=video_app.progress(" pictures")), sys.stderr)
    new = _examined(gallery, name, contents)
    if new:
        written = gallery_folder.add_pictures(FLAGS.gallery, name, new)
        changes = gallery.update()
        for path in written:
            print(f"added {gallery_folder.printable(path)}")
        _show(changes, sys.stderr)


def _content(path):
    """Returns the bytes of a picture that is to be added."""
    from mlcvtf.embedding.gallery_folder import is_picture_name
    from mlcvtf.video.paths import printable

    if not is_picture_name(path):
        raise InputError(
            "a gallery's picture is named like one (.jpg, .png and so on), received "
            f"{printable(path)}"
        )
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(
            f"a picture must be a readable file, {printable(path)}: {error.strerror}"
        ) from None


def _examined(gallery, name, contents):
    """Returns file name and content of what is new; raises if one cannot be added."""
    from mlcvtf.embedding.gallery_folder import person_name
    from mlcvtf.video.paths import printable

    new, bad = {}, []
    for path, data in contents.items():
        shown, owners = printable(path), gallery.owners(data)
        reason = gallery.examine(data).reason
        if reason:
            bad.append(f"{shown}: {reason}")
        elif owners and owners != [person_name(name)]:
            bad.append(f"{shown}: the same picture shows {owners[0]} already")
        elif owners or data in new:
            print(f"{shown}: the same picture is there already")
        else:
            # A leading dot would hide it from the gallery.
            new[data] = os.path.basename(path).lstrip(".")
    if bad:
        for line in bad[:-1]:
            print(line, file=sys.stderr)
        raise InputError(f"{bad[-1]}; nothing was added")
    return [(filename, data) for data, filename in new.items()]


def _remove(name):
    from mlcvtf.embedding import gallery_folder

    deleted, left = gallery_folder.remove_person(FLAGS.gallery, name)
    shown = gallery_folder.person_name(name)
    print(f"removed {shown}: {deleted} picture{'s' * (deleted != 1)}")
    for path in left:
        print(
            f"{gallery_folder.printable(path)}: left, it is no picture", file=sys.stderr
        )


def _calibrate():
    from mlcvtf.embedding import calibration

    gallery, pipeline = _open_gallery()
    _refresh(gallery, sys.stderr)
    table = pipeline.embedder.card.get("calibration")
    if not table:
        raise InputError(
            "a calibrated model has impostor quantiles in its card, the "
            "face embedder's card has none"
        )
    enrolled = gallery.enrolled(FLAGS.scoring)
    threshold = calibration.threshold(table, FLAGS.far, enrolled)
    rate = calibration.pair_rate(FLAGS.far, enrolled)
    print(f"threshold {threshold:.4f}")
    print(
        f"gallery: {len(gallery.names)} people, {gallery.enrolled()} pictures, "
        f"{FLAGS.scoring} scoring compares a face with {enrolled}"
    )
    print(
        f"calibrated on {table['people']} other people, {table['pictures']} pictures, "
        f"{table['pairs']} impostor pairs, {rate:.3g} of which score at least that"
    )
    print(
        f"far {FLAGS.far:g}: about 1 in {1 / FLAGS.far:,.0f} strangers' faces is given "
        "any name at all with this gallery; with more enrolled the threshold rises"
    )


def _open_gallery(must_exist=True):
    """Loads the models; returns the gallery, not yet read, and the pipeline."""
    from mlcvtf.embedding import gallery_folder
    from mlcvtf.embedding.gallery import Gallery

    if must_exist:
        # Before the models are loaded: a missing gallery is said at once.
        gallery_folder.scan(FLAGS.gallery)
    video_app.prepare_process()
    from mlcvtf.commands.face_pipeline import FacePipeline

    pipeline = FacePipeline(FLAGS.models, FLAGS.runtime, detector=FLAGS.detector)
    gallery = Gallery(FLAGS.gallery, pipeline.embed_picture, pipeline.model_hash)
    return gallery, pipeline


def _refresh(gallery, file):
    """Reads the gallery, says what is bad and stops if nothing is good."""
    _show(gallery.update(progress=video_app.progress(" pictures")), file)
    gallery.require_faces()


def _show(changes, file):
    for line in changes.notes + changes.problems:
        print(line, file=file)
