"""Sinks: what is written plays and is whole, and what cannot be written is said."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.video import sink

SUFFIXES = sorted(sink.CODECS)


def frame(value, height=64, width=96):
    """A BGR picture with B = value, G = 100, R = 255 - value."""
    image = np.full((height, width, 3), 100, np.uint8)
    image[..., 0], image[..., 2] = value, 255 - value
    return image


def read(path):
    capture = cv2.VideoCapture(str(path))
    rate, images = capture.get(cv2.CAP_PROP_FPS), []
    while True:
        good, image = capture.read()
        if not good:
            return rate, images
        images.append(image)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_frame_plays(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    video = sink.VideoFile(str(path), rate=10.0)
    for index in range(25):
        video.write(index / 10, frame(10 * index))
    video.close()
    rate, images = read(path)
    assert rate == pytest.approx(10.0)
    assert len(images) == 25
    for index, image in enumerate(images):
        expected = (10 * index, 100, 255 - 10 * index)
        np.testing.assert_allclose(image.mean((0, 1)), expected, atol=6)


@pytest.mark.parametrize("size", [(1, 1), (63, 95), (17, 300)])
def test_odd_and_tiny_sizes(tmp_path, size):
    path = tmp_path / "film.mp4"
    video = sink.VideoFile(str(path), rate=10.0)
    for _ in range(5):
        video.write(0.0, frame(200, *size))
    video.close()
    _, images = read(path)
    assert len(images) == 5
    height, width = images[0].shape[:2]
    assert height >= size[0] and width >= size[1]
    assert height % 2 == 0 and width % 2 == 0
    if size != (1, 1):
        middle = images[0][height // 2, width // 2]
        np.testing.assert_allclose(middle, (200, 100, 55), atol=12)


def test_other_sizes_are_fitted_with_margins(tmp_path):
    path = tmp_path / "film.avi"
    video = sink.VideoFile(str(path), rate=10.0)
    video.write(0.0, frame(200, 64, 96))
    video.write(0.1, frame(200, 640, 320))
    video.write(0.2, frame(200, 32, 48))
    video.close()
    _, images = read(path)
    assert [image.shape for image in images] == [(64, 96, 3)] * 3
    for image, height, width in ((images[1], 64, 32), (images[2], 32, 48)):
        np.testing.assert_allclose(image[32, 48], (200, 100, 55), atol=8)
        rows = np.nonzero(image[:, 48].max(-1) > 60)[0]
        columns = np.nonzero(image[32].max(-1) > 60)[0]
        assert abs(len(rows) - height) <= 2
        assert abs(len(columns) - width) <= 2


def test_a_live_source_plays_at_the_speed_of_the_scene(tmp_path):
    path = tmp_path / "film.avi"
    video = sink.VideoFile(str(path), rate=10.0, live=True)
    for seconds, value in ((0.0, 0), (0.1, 50), (0.7, 100), (0.72, 150), (1.0, 200)):
        video.write(seconds, frame(value))
    video.close()
    _, images = read(path)
    values = [round(float(image[..., 0].mean()) / 50) for image in images]
    assert values == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 4]


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"%02d.avi", "Zoë.mkv".encode()])
def test_names_that_opencv_would_misread(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    sink.check_video_path(os.fsdecode(path))
    video = sink.VideoFile(os.fsdecode(path), rate=10.0)
    video.write(0.0, frame(0))
    video.close()
    assert os.listdir(os.fsencode(tmp_path)) == [name]
    assert os.path.getsize(path) > 300


def test_nothing_is_written_without_a_frame(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    sink.check_video_path(str(path))
    sink.VideoFile(str(path), 10.0).close()
    lines = sink.JsonLines(str(path))
    lines.close()
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize("name", ["none/film.mp4", "folder.mp4", "/proc/film.mp4"])
def test_an_output_that_cannot_be_written(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match="a video output must be writable"):
        sink.check_video_path(str(tmp_path / name))


def test_checking_leaves_no_file(tmp_path):
    sink.check_video_path(str(tmp_path / "film.mp4"))
    sink.check_writable(str(tmp_path / "lines"), "lines")
    sink.check_writable("-", "lines")
    assert not list(tmp_path.iterdir())


def test_an_output_without_a_known_suffix(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.mp4, \.avi, \.mkv.*film\.xyz"):
        sink.check_video_path(str(tmp_path / "film.xyz"))


def test_a_full_disk_is_said(tmp_path):
    path = tmp_path / "film.avi"
    path.symlink_to("/dev/full")
    video = sink.VideoFile(str(path), rate=10.0)
    with pytest.raises(InputError, match="video output must"):
        for index in range(50):
            video.write(index / 10, frame(index))
        video.close()
    lines = sink.JsonLines("/dev/full")
    with pytest.raises(InputError, match="No space left"):
        lines.write({"frame": 0})


def test_json_lines_are_flushed_and_utf8(tmp_path):
    path = tmp_path / "lines.jsonl"
    lines = sink.JsonLines(str(path))
    lines.write({"frame": 0, "name": "Zoë \ufffd"})
    text = path.read_bytes().decode("utf-8")
    assert text.count("\n") == 1 and "Zoë \ufffd" in text
    lines.write({"frame": 1})
    lines.close()
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [record["frame"] for record in records] == [0, 1]


def test_json_lines_on_standard_output(capfdbinary):
    lines = sink.JsonLines("-")
    lines.write({"name": "Zoë"})
    assert capfdbinary.readouterr().out == '{"name": "Zoë"}\n'.encode()
    lines.close()
    lines.write({})


WRITER = """
import sys, time, numpy as np
from mlcvtf.video import sink
video = sink.VideoFile(sys.argv[1], 10.0)
for index in range(200):
    video.write(index / 10, np.random.default_rng(index).integers(
        0, 255, (240, 320, 3), dtype=np.uint8))
print("written", flush=True)
time.sleep(60)
"""


def test_matroska_plays_after_a_kill(tmp_path):
    path = tmp_path / "film.mkv"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"written\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    # All but what was on its way to the file.
    assert len(read(path)[1]) > 150


def test_no_display_is_said_without_a_child(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    assert "DISPLAY" in sink.display_problem()
    assert time.monotonic() - start < 0.1


def test_a_display_that_is_not_there_does_not_end_us(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":97")
    problem = sink.display_problem()
    # The headless OpenCV has no windows; the other one aborts in the child.
    assert "no windows" in problem or ":97 cannot be reached" in problem


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", None),
        ("import os; os.abort()", "the display :3 cannot be reached"),
        ("raise SystemExit('The function is not implemented')", "has no windows"),
    ],
)
def test_what_the_probe_finds(monkeypatch, code, expected):
    monkeypatch.setenv("DISPLAY", ":3")
    monkeypatch.setattr(sink, "PROBE", code)
    problem = sink.display_problem()
    assert problem is None if expected is None else expected in problem


class FakeWindows:
    """Stands in for the window functions of OpenCV's GUI wheel."""

    def __init__(self, monkeypatch, key=-1, visible=1.0):
        self.shown = []
        self.key, self.visible = key, visible
        monkeypatch.setattr(cv2, "namedWindow", lambda *a: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda delay: self.key)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *a: self.visible)
        monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)


def test_the_window_quits_with_q_or_when_closed(monkeypatch):
    windows = FakeWindows(monkeypatch)
    window = sink.Window("title")
    window.write(0.0, frame(3))
    assert len(windows.shown) == 1
    assert not window.quit_requested()
    for windows.key in (ord("q"), ord("Q")):
        assert window.quit_requested()
    windows.key, windows.visible = ord("x"), 1.0
    assert not window.quit_requested()
    windows.visible = 0.0
    assert window.quit_requested()


def test_a_picture_stays_until_its_time_or_a_key(monkeypatch):
    windows = FakeWindows(monkeypatch)
    start = time.monotonic()
    assert not sink.Window("title", 0.2).quit_requested()
    assert time.monotonic() - start >= 0.2
    windows.key = ord(" ")
    assert not sink.Window("title", float("inf")).quit_requested()
    windows.key, windows.visible = -1, 0.0
    assert sink.Window("title", float("inf")).quit_requested()
