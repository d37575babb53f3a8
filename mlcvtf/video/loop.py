"""The loop of every app: frames in, results out, everything closed in the end."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np

from mlcvtf.video import draw, sink
from mlcvtf.video.frame import Ended, Frame
from mlcvtf.video.live import Live
from mlcvtf.video.recording import Pictures, Video

# The weight of the newest frame in the frames per second that are shown.
NEWEST_WEIGHT = 0.1


class App(Protocol):
    """What an app does with a frame; the loop does the rest."""

    def process(self, frame: Frame) -> Any:
        """Returns the result for a frame."""

    def record(self, result: Any) -> dict:
        """Returns what goes into the frame's JSON line besides its number and time."""

    def draw(self, image: np.ndarray, result: Any) -> None:
        """Draws the result on an RGB image, in place."""

    def describe(self) -> str:
        """Returns what was found so far, in a few words for the summary."""


class Outputs:
    """The sinks of a run.

    Args:
        json: a JSON lines sink or None.
        pictures: sinks for annotated pictures: a video file, a window.
    """

    def __init__(
        self,
        json: sink.JsonLines | None = None,
        pictures: tuple[sink.VideoFile | sink.Window, ...] = (),
    ):
        self.json = json
        self.pictures = pictures

    def close(self) -> None:
        """Closes all sinks, each even where another cannot be closed."""
        with contextlib.ExitStack() as stack:
            for each in (self.json, *self.pictures):
                if each is not None:
                    stack.callback(each.close)


class Summary:
    """What happened in a run.

    Attributes:
        frames: how many were processed.
        seconds: from the first frame's reading to the last one's result.
        problem: why the run ended before its source did, or None.
    """

    def __init__(self):
        self.frames = 0
        self.seconds = 0.0
        self.problem: Ended | KeyboardInterrupt | None = None

    def __str__(self):
        rate = self.frames / self.seconds if self.seconds else 0.0
        plural = "" if self.frames == 1 else "s"
        return (
            f"{self.frames} frame{plural} in {self.seconds:.1f} s, "
            f"{rate:.1f} frames per second"
        )


def run(
    frames_from: Pictures | Video | Live,
    app: App,
    outputs: Outputs,
    every: int = 1,
    max_frames: int | None = None,
) -> Summary:
    """Processes a source to its end, or until `q`, Ctrl-C or `max_frames`.

    Args:
        frames_from: an open source; it is closed.
        app: the work per frame.
        outputs: where results go; they are closed, whatever happens, so that what
            was written can be used.
        every: process one frame of so many.
        max_frames: stop after so many processed frames.

    Returns:
        The summary; a source that ended too early or Ctrl-C is its `problem`.

    Raises:
        InputError: a sink cannot be written, or the source has no frame at all.
    """
    summary = Summary()
    start = time.perf_counter()
    rate = _Rate()
    try:
        with _closing(frames_from, outputs):
            for frame in _progress(frames_from, every, max_frames):
                if frame is not None:
                    result = app.process(frame)
                    summary.frames += 1
                    summary.seconds = time.perf_counter() - start
                    _write(outputs, frame, app, result, rate)
                if any(_quit_requested(each) for each in outputs.pictures):
                    break
                if summary.frames == max_frames:
                    break
    except (Ended, KeyboardInterrupt) as problem:
        summary.problem = problem
    return summary


def _write(outputs, frame, app, result, rate):
    """Hands one result to every sink."""
    if outputs.json is not None:
        head = {"frame": frame.index, "time": round(frame.time, 6)}
        outputs.json.write(head | app.record(result))
    if outputs.pictures:
        image = frame.image.copy()
        app.draw(image, result)
        draw.corner(image, rate.text())
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        for each in outputs.pictures:
            each.write(frame.time, image)


def _quit_requested(picture_sink):
    return isinstance(picture_sink, sink.Window) and picture_sink.quit_requested()


def _progress(frames_from, every, max_frames):
    """Returns the frames, with a bar on a terminal where their number is known."""
    frames = frames_from.frames(every)
    if frames_from.length is None or not sys.stderr.isatty():
        return frames
    import tqdm

    total = -(-frames_from.length // every)
    total = min(total, max_frames) if max_frames else total
    return tqdm.tqdm(frames, total=total, unit="frame", leave=False)


@contextlib.contextmanager
def _closing(frames_from, outputs) -> Iterator[None]:
    """Closes source and sinks, undisturbed by a second Ctrl-C."""
    try:
        yield
    finally:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.ExitStack() as stack:
            if in_main_thread:
                stack.callback(signal.signal, signal.SIGINT, before)
            stack.callback(frames_from.close)
            stack.callback(outputs.close)


class _Rate:
    """The frames per second of the last frames."""

    def __init__(self):
        self._last = None
        self._seconds = None

    def text(self):
        now = time.perf_counter()
        if self._last is not None:
            passed = now - self._last
            before = passed if self._seconds is None else self._seconds
            self._seconds = before + NEWEST_WEIGHT * (passed - before)
        self._last = now
        return "" if self._seconds is None else f"{1 / self._seconds:.1f} fps"
