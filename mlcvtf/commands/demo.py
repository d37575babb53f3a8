"""demo [--output DIR]

Shows the main job on real pictures that come with the dependencies: makes a gallery of
two people and a clip in which they come and go, names them with the shipped models,
then once more with one of them enrolled, where the other must stay unknown. Needs no
network, no camera and no display. It proves that the parts work together; how often
the names are right on pictures that are not the gallery's own is in README.md.
"""

import collections
import json
import pathlib
import sys
import time

from absl import flags

from mlcvtf.commands import command, face_recognize

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "output", "demo_output", "Folder for the gallery, the clip and the results.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "models", None, "Folder with the models; the shipped ones by default.",
    flag_values=FLAGS,
)
UNKNOWN = "unknown"
# The share of a person's frames with the right name, under which the demo fails.
LEAST_SHARE = 0.5


def main(argv: list[str]) -> int:
    """Runs the demo."""
    if argv:
        raise flags.Error(f"arguments are flags (--name=value), received {argv[0]}")
    from mlcvtf.commands import demo_clip

    start = time.monotonic()
    folder = pathlib.Path(FLAGS.output)
    clip, truth = write_clip(folder)
    print(f"Made a clip of {len(truth)} frames: {clip}")
    passes = (("both", [demo_clip.COLLINS, demo_clip.HOPPER]),
              ("only_collins", [demo_clip.COLLINS]))
    problems = []
    for name, enrolled in passes:
        print(f"\nEnrolled: {' and '.join(enrolled)}")
        gallery = folder / f"gallery_{name}"
        demo_clip.write_gallery(gallery, enrolled)
        code = recognize(gallery, clip, folder / f"named_{name}.mp4",
                         folder / f"named_{name}.jsonl")
        if code:
            return code
        lines = (folder / f"named_{name}.jsonl").read_text(encoding="utf-8")
        records = [json.loads(line) for line in lines.splitlines()]
        summary, wrong = judge(records, truth, enrolled)
        print("\n".join(summary))
        problems += wrong
    print(f"\nTook {time.monotonic() - start:.0f} s. Look at {folder}/named_*.mp4; the "
          "JSON lines beside them hold every face.\nThis proves the plumbing, not the "
          "accuracy: the clip is made of the gallery's own photographs.\nMeasured "
          "accuracy is in README.md and in the cards of the models.")
    for problem in problems:
        print(f"demo: {problem}", file=sys.stderr)
    return 1 if problems else 0


def write_clip(folder: pathlib.Path) -> tuple[pathlib.Path, list]:
    """Writes the clip and returns its path and who is in each frame.

    Raises:
        InputError: the folder cannot be written.
    """
    from mlcvtf.commands import demo_clip
    from mlcvtf.errors import InputError
    from mlcvtf.video.paths import printable
    from mlcvtf.video.sink import VideoFile

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output must be a writable folder, {printable(folder)}: "
                         f"{error.strerror}") from None
    path = folder / "clip.avi"
    video, truth = VideoFile(str(path), demo_clip.RATE), []
    for image, placements in demo_clip.frames():
        video.write(len(truth) / demo_clip.RATE, image[..., ::-1].copy())
        truth.append(placements)
    video.close()
    return path, truth


def recognize(gallery, clip, video, lines) -> int:
    """Runs face_recognize on the clip and returns its exit code."""
    arguments = [f"--gallery={gallery}", f"--source={clip}", f"--output={video}",
                 f"--json={lines}", "--display=off"]
    if FLAGS.models:
        arguments.append(f"--models={FLAGS.models}")
    print(f"face_recognize {' '.join(arguments)}")
    return command.run(face_recognize.main, face_recognize.FLAGS, __doc__,
                       ["face_recognize", *arguments])


def judge(records: list[dict], truth: list, enrolled: list[str]) -> tuple[list, list]:
    """Compares what was found with who is in the clip.

    Args:
        records: the JSON lines of face_recognize.
        truth: for each frame a list of `demo_clip.Placement`.
        enrolled: the people in the gallery.

    Returns:
        Lines that tell what was found, and lines that tell what is wrong: a name that
        another person or no person got, and a person who was mostly not named.
    """
    shown, right, wrong, stray = collections.Counter(), collections.Counter(), [], 0
    for placement in (p for placements in truth for p in placements):
        shown[placement.name] += 1
    for record in records:
        for face in record["faces"]:
            who = _at(face["box"], truth[record["frame"]])
            stray += who is None
            if face["name"] == (who if who in enrolled else UNKNOWN):
                right[who] += 1
            elif face["name"] != UNKNOWN:
                wrong.append(f"frame {record['frame']}: {who or 'no person'} was named "
                             f"{face['name']}")
    summary = [f"frames with the right name, {name if name in enrolled else UNKNOWN}: "
               f"{right[name]} of {count} with {name}" for name, count in shown.items()]
    summary.append(f"boxes where there is no face: {stray} in {len(records)} frames")
    wrong += [f"{name} got the right name in {right[name]} of {count} frames, at least "
              f"{LEAST_SHARE:.0%} are needed"
              for name, count in shown.items() if right[name] < LEAST_SHARE * count]
    return summary, wrong


def _at(box, placements):
    """Returns whose face a box is on, or None."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    for placement in placements:
        away = (x - placement.centre[0], y - placement.centre[1])
        if max(map(abs, away)) < placement.height / 2:
            return placement.name
    return None


def cli() -> None:
    """Runs the command as a program."""
    sys.exit(command.run(main, FLAGS, __doc__))
