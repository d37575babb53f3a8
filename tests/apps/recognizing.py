"""What the tests of `apps/face_recognize` share: galleries, films and runs."""

import json

import cv2
from PIL import Image

from tests.case import ROOT, child
from tests.video import stand_in

APP = ROOT / "apps" / "face_recognize"
HEADLESS = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "QT_QPA_PLATFORM": ""}


def gallery(folder, *names):
    """Makes a gallery with one picture of each colour."""
    for name in names:
        (folder / name).mkdir(parents=True)
        scene = stand_in.scene(100, 100, **{name: (20, 20, 60)})
        Image.fromarray(scene).save(folder / name / "a.png")
    return folder


def film(path, count=30):
    """Writes a film in which Rosa goes right, Blau goes left and Gelb stands."""
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, 10, (320, 240))
    for index in range(count):
        writer.write(moment(index)[..., ::-1].copy())
    writer.release()
    return path


def moment(index):
    """Paints one moment of the film."""
    squares = {
        "Rosa": (10 + 3 * index, 20, 60),
        "Blau": (220 - 2 * index, 100, 40),
        "Gelb": (200, 180, 50),
    }
    return stand_in.scene(320, 240, **squares)


def run(models, people, *arguments):
    """Runs the app without a display."""
    command = [APP, f"--models={models}", f"--gallery={people}", "--display=off"]
    return child([*command, *arguments], **HEADLESS)


def records(result):
    """Returns the JSON lines on standard output, which holds nothing else."""
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def last_line(result):
    """Returns the one line that a failed run leaves."""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("face_recognize: ")
    return line
