"""The loop: every frame to every sink, and everything closed however it ends."""

import json
import signal

import cv2
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.video import draw, loop, sink
from mlcvtf.video.frame import Ended, Frame


class Frames:
    """A source in memory: ten frames, then perhaps an error."""

    live = still = False
    rate = 10.0

    def __init__(self, count=10, error=None, gaps=0):
        self.length = count
        self.error = error
        self.gaps = gaps
        self.closed = 0

    def frames(self, every=1):
        for index in range(0, self.length, every):
            yield from [None] * self.gaps
            yield Frame(index, index / 10, np.full((64, 96, 3), 20 * index, np.uint8))
        if self.error is not None:
            raise self.error

    def close(self):
        self.closed += 1


class App:
    """Marks each frame and counts what it was asked."""

    def __init__(self, fail_at=None):
        self.fail_at = fail_at
        self.drawn = 0
        self.recorded = 0

    def process(self, frame):
        if frame.index == self.fail_at:
            raise KeyboardInterrupt
        return int(frame.image[0, 0, 0])

    def record(self, result):
        self.recorded += 1
        return {"level": result}

    def draw(self, image, result):
        self.drawn += 1
        draw.box(image, (40, 30, 60, 50), (255, 0, 0))

    def describe(self):
        return ""


class Memory:
    """A picture sink that keeps what it gets."""

    def __init__(self):
        self.frames = []
        self.closed = 0

    def write(self, seconds, image):
        self.frames.append((seconds, image))

    def close(self):
        self.closed += 1


def test_json_lines(tmp_path):
    path = tmp_path / "lines"
    source, app = Frames(), App()
    outputs = loop.Outputs(sink.JsonLines(str(path)))
    summary = loop.run(source, app, outputs)
    assert (summary.frames, summary.problem, source.closed) == (10, None, 1)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records == [
        {"frame": i, "time": i / 10, "level": 20 * i} for i in range(10)
    ]
    assert app.drawn == 0
    assert str(summary).startswith("10 frames in 0.0 s, ")


def test_nothing_is_drawn_or_recorded_without_a_sink():
    app = App()
    assert loop.run(Frames(), app, loop.Outputs()).frames == 10
    assert (app.drawn, app.recorded) == (0, 0)


def test_pictures_are_annotated_copies_in_bgr():
    memory = Memory()
    source = Frames(3)
    images = [frame.image for frame in source.frames()]
    source.frames = lambda every: iter(
        Frame(i, float(i), image) for i, image in enumerate(images)
    )
    loop.run(source, App(), loop.Outputs(pictures=(memory,)))
    assert memory.closed == 1
    for index, (seconds, image) in enumerate(memory.frames):
        assert seconds == float(index)
        # The red outline, as BGR, and the picture of the source untouched.
        assert image[30, 50].tolist() == [0, 0, 255]
        assert image[40, 50].tolist() == [20 * index] * 3
        assert (images[index] == 20 * index).all()
    # From the second frame on the frames per second are shown.
    assert (memory.frames[0][1][:8, :8] == 0).all()
    assert (memory.frames[1][1][:8, :8] != 20).any()


@pytest.mark.parametrize(("every", "limit", "expected"), [(3, None, 4), (2, 3, 3)])
def test_every_and_max_frames(every, limit, expected):
    assert loop.run(Frames(), App(), loop.Outputs(), every, limit).frames == expected


def test_waiting_is_not_a_frame():
    assert loop.run(Frames(gaps=3), App(), loop.Outputs()).frames == 10


def test_what_was_read_is_kept_when_the_source_ends(tmp_path):
    path = tmp_path / "film.mp4"
    source = Frames(error=Ended("it ended", 4))
    outputs = loop.Outputs(pictures=(sink.VideoFile(str(path), 10.0),))
    summary = loop.run(source, App(), outputs)
    assert summary.problem.exit_code == 4
    assert summary.frames == 10
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 10


def test_an_error_without_any_frame_is_raised():
    source, memory = Frames(0, error=InputError("nothing")), Memory()
    with pytest.raises(InputError, match="nothing"):
        loop.run(source, App(), loop.Outputs(pictures=(memory,)))
    assert source.closed == memory.closed == 1


def test_interrupt_closes_everything_undisturbed(tmp_path):
    path = tmp_path / "film.mp4"
    source = Frames()
    seen = []

    def close():
        # A second Ctrl-C while files are closed.
        signal.raise_signal(signal.SIGINT)
        seen.append("closed")

    source.close = close
    outputs = loop.Outputs(
        sink.JsonLines(str(tmp_path / "lines")), (sink.VideoFile(str(path), 10.0),)
    )
    summary = loop.run(source, App(fail_at=7), outputs)
    assert isinstance(summary.problem, KeyboardInterrupt)
    assert seen == ["closed"]
    assert summary.frames == 7
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == 7
    assert len((tmp_path / "lines").read_text().splitlines()) == 7
    # Ctrl-C works again afterwards.
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_all_sinks_are_closed_even_if_one_fails():
    class Failing(Memory):
        def close(self):
            raise InputError("disk full")

    memory, source = Memory(), Frames()
    with pytest.raises(InputError, match="disk full"):
        loop.run(source, App(), loop.Outputs(pictures=(memory, Failing())))
    assert memory.closed == source.closed == 1


def test_q_ends_the_run(monkeypatch):
    for name in ("namedWindow", "imshow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *arguments: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *arguments: 1.0)
    keys = iter([-1, -1, -1, ord("q"), -1])
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    outputs = loop.Outputs(pictures=(sink.Window("title"),))
    summary = loop.run(Frames(), App(), outputs)
    assert (summary.frames, summary.problem) == (4, None)
