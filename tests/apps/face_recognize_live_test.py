"""The executable on live sources, while things change and when it is stopped.

The camera is a real MJPEG-over-HTTP server on the loopback.
"""

import contextlib
import fcntl
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from tests.apps.recognizing import APP, HEADLESS, film, gallery, moment
from tests.case import ROOT
from tests.video import stand_in, stream

PATIENCE = 60


@pytest.fixture(scope="module")
def models():
    return stand_in.models()


class Running:
    """The app in a child process, whose JSON lines arrive as they are written.

    Args:
        pause: seconds after each line in which none is read. The pipe holds only a
            few, so the app is slowed to this pace, however fast the machine is.
    """

    def __init__(self, models, people, source, *arguments, pause=0.0):
        command = [APP, f"--models={models}", f"--gallery={people}", "--json=-"]
        command += ["--display=off", f"--source={source}", *arguments]
        self.child = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env=os.environ | HEADLESS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        if pause:
            fcntl.fcntl(self.child.stdout, fcntl.F_SETPIPE_SZ, 4096)
        self.pause = pause
        self.lines = queue.Queue()
        self.errors = []
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.put((time.monotonic(), json.loads(line)))
            time.sleep(self.pause)

    def _read_errors(self):
        for line in self.child.stderr:
            self.errors.append(line.decode())

    def next(self):
        return self.lines.get(timeout=PATIENCE)[1]

    def until(self, condition):
        """Returns arrival and record of the first line for which a condition holds."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            arrival, record = self.lines.get(timeout=PATIENCE)
            if condition(record):
                return arrival, record
        raise AssertionError("no such line")

    def end(self):
        """Waits for the end; returns the exit code and what was said."""
        code = self.child.wait(PATIENCE)
        for thread in self._threads:
            thread.join()
        return code, "".join(self.errors)

    def rest(self):
        return [self.lines.get()[1] for _ in range(self.lines.qsize())]


@contextlib.contextmanager
def app(*arguments, **keywords):
    running = Running(*arguments, **keywords)
    try:
        yield running
    finally:
        running.child.kill()
        running.child.wait()


def names(record):
    return {face["name"] for face in record["faces"]}


def moments():
    return [moment(index) for index in range(30)]


def test_a_camera_faster_than_the_app(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa", "Blau")
    with stream.serve(moments(), rate=60) as camera:
        arguments = models, people, camera.url, "--max-frames=40"
        with app(*arguments, pause=0.05) as running:
            code, errors = running.end()
    assert code == 0, errors
    arrivals = [running.lines.get() for _ in range(running.lines.qsize())]
    found = [record for _, record in arrivals]
    assert len(found) == 40
    indices = [record["frame"] for record in found]
    assert indices == sorted(set(indices))
    # Frames were left out, and those that were not are of the present.
    assert indices[-1] - indices[0] > 50
    ages = [arrival - camera.sent[record["frame"]] for arrival, record in arrivals]
    assert np.median(ages) < 1.0
    for record in found:
        faces = {face["name"]: face for face in record["faces"]}
        assert set(faces) == {"Rosa", "Blau", "unknown"}
        assert [face["track"] for face in faces.values()].count(0) <= 1


def test_a_camera_slower_than_the_app(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    with stream.serve(moments(), rate=4) as camera:
        with app(models, people, camera.url, "--max-frames=8") as running:
            code, errors = running.end()
    found = running.rest()
    assert code == 0, errors
    indices = [record["frame"] for record in found]
    # Each frame once, at the camera's pace, none left out but where we were busy.
    assert np.diff(indices).min() >= 1
    assert indices[-1] - indices[0] <= 9
    assert 1.2 < found[-1]["time"] < 4.0
    assert found[0]["time"] == 0


def test_a_camera_that_closes_and_comes_back(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    with stream.serve(moments(), rate=20) as camera:
        with app(models, people, camera.url, "--reconnect=20") as running:
            last = running.next()["frame"]
            camera.closed.set()
            time.sleep(1.0)
            while not running.lines.empty():
                last = running.next()["frame"]
            camera.closed.clear()
            _, record = running.until(lambda record: record["frame"] > last)
            assert "Rosa" in names(record)
            running.child.send_signal(signal.SIGINT)
            code, errors = running.end()
    assert code == 130
    assert "stopped, trying again for 20 s" in errors
    assert "is back after" in errors


@pytest.mark.parametrize("how", ["stalled", "closed"])
def test_a_camera_that_is_gone(models, tmp_path, how):
    people = gallery(tmp_path / "people", "Rosa")
    output = tmp_path / "out.mp4"
    with stream.serve(moments(), rate=20) as camera:
        arguments = (camera.url, "--reconnect=2", "--output", output)
        with app(models, people, *arguments) as running:
            for _ in range(5):
                running.next()
            getattr(camera, how).set()
            start = time.monotonic()
            code, errors = running.end()
            assert time.monotonic() - start < 15
    assert code == 3
    assert errors.splitlines()[-1].endswith("has sent nothing for 2 s")
    assert "Traceback" not in errors
    # What was seen before plays.
    count = cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT)
    assert count >= 5 + running.lines.qsize()


def test_an_interrupt_while_a_camera_is_silent(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    with stream.serve(moments(), rate=20) as camera:
        with app(models, people, camera.url, "--reconnect=60") as running:
            running.next()
            camera.stalled.set()
            time.sleep(1.0)
            start = time.monotonic()
            running.child.send_signal(signal.SIGINT)
            code, errors = running.end()
            # The reader hangs in a read of five seconds.
            assert time.monotonic() - start < 4.5
    assert code == 130
    assert errors.splitlines()[-1] == "face_recognize: interrupted"


def test_a_camera_that_is_not_there(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    source = "http://127.0.0.1:9/"
    with app(models, people, source, "--reconnect=1") as running:
        code, errors = running.end()
    assert code == 3
    assert errors.splitlines()[-1].endswith("did not within 1 s")


def test_people_come_and_go_while_it_runs(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    with stream.serve(moments(), rate=10) as camera:
        with app(models, people, camera.url) as running:
            assert names(running.next()) == {"Rosa", "unknown"}
            gallery(tmp_path / "new", "Blau")
            (tmp_path / "new" / "Blau").rename(people / "Blau")
            start = time.monotonic()
            arrival, _ = running.until(lambda record: "Blau" in names(record))
            # A second between two looks; the machine may be busy.
            assert arrival - start < 5
            shutil.rmtree(people / "Rosa")
            start = time.monotonic()
            arrival, _ = running.until(lambda record: "Rosa" not in names(record))
            assert arrival - start < 5
            running.child.send_signal(signal.SIGINT)
            code, errors = running.end()
    assert code == 130
    assert "1 pictures more, 0 fewer, 2 people" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_every_written_frame_plays_after_an_interrupt(
    models, tmp_path, number, suffix
):
    people = gallery(tmp_path / "people", "Rosa")
    path, output = film(tmp_path / "film.avi", 600), tmp_path / f"out{suffix}"
    with app(models, people, path, "--output", output) as running:
        for _ in range(5):
            running.next()
        running.child.send_signal(number)
        code, errors = running.end()
    assert code == 130
    assert errors.splitlines()[-1] == "face_recognize: interrupted"
    assert "Traceback" not in errors
    seen = 5 + running.lines.qsize()
    assert seen < 600
    capture = cv2.VideoCapture(str(output))
    played = 0
    while capture.read()[0]:
        played += 1
    # The interrupt may fall between the line and the frame.
    assert seen - 1 <= played <= seen


def test_matroska_survives_a_kill(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    path, output = film(tmp_path / "film.avi", 1200), tmp_path / "out.mkv"
    with app(models, people, path, "--output", output) as running:
        running.until(lambda record: record["frame"] >= 400)
        running.child.kill()
        running.end()
    seen = 401 + running.lines.qsize()
    capture = cv2.VideoCapture(str(output))
    played = 0
    while capture.read()[0]:
        played += 1
    assert played > 0.5 * seen
