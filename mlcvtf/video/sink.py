"""Where results go: a video file, JSON lines, a window.

Paths are checked before anything is computed (`check_writable`), files are opened with
the first frame, so that a run that fails early leaves what was there before.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.video.paths import opencv_path, printable

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
# What the codecs need: even sides and at least one block.
SMALLEST_SIDE = 16
LONGEST_GAP = 10.0
QUIT_KEYS = (ord("q"), ord("Q"), 27)
# Milliseconds between two looks at the keys while a frame stays.
EVENTS = 50
PROBE = "import cv2; cv2.namedWindow('mlcvtf'); cv2.waitKey(1); cv2.destroyAllWindows()"


def check_writable(path: str, what: str) -> None:
    """Makes sure that a file can be written, without changing it.

    Args:
        path: the file, which need not exist; "-" (standard output) always passes.
        what: what is to be written, for the message.

    Raises:
        InputError: the path cannot be written.
    """
    if path == "-":
        return
    existed = os.path.lexists(path)
    try:
        with open(path, "ab"):
            pass
        if not existed:
            os.unlink(path)
    except OSError as error:
        raise InputError(
            f"{what} must be writable, {printable(path)}: {error.strerror}"
        ) from None


def check_video_path(path: str) -> None:
    """Makes sure that a video can be written to a path, without changing it.

    Raises:
        InputError: the path has a suffix without codec or cannot be written.
    """
    if _suffix(path) not in CODECS:
        raise InputError(
            f"a video output must end in {', '.join(CODECS)}, received "
            f"{printable(path)}"
        )
    check_writable(path, "a video output")


class VideoFile:
    """Writes frames to a video file of the size of its first frame.

    Frames of other sizes are fitted into it with black margins. Of a live source,
    which sends irregularly, a frame is repeated until the next one is due, so that
    the video plays at the speed of the scene.

    Args:
        path: ends in a suffix of `CODECS`. A `.mkv` plays even after the process was
            killed, the others once `close` was called.
        rate: frames per second.
        live: whether frames come irregularly.
    """

    def __init__(self, path: str, rate: float, live: bool = False):
        self.path = path
        self._rate = rate
        self._live = live
        self._writer = None
        self._canvas = None
        self._clean_path = ""
        self._resources = contextlib.ExitStack()
        self._written = 0

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Appends a frame.

        Args:
            seconds: time of the frame in its source.
            image: uint8 `[height, width, 3]` BGR.

        Raises:
            InputError: the file cannot be opened for this size.
        """
        if self._writer is None:
            self._open(image)
        image = self._fit(image)
        copies = 1
        if self._live:
            due = round(seconds * self._rate) + 1 - self._written
            copies = min(max(due, 1), max(1, round(LONGEST_GAP * self._rate)))
        for _ in range(copies):
            self._writer.write(image)
        self._written += copies

    def close(self) -> None:
        """Ends the file, so that every frame written plays.

        Raises:
            InputError: the file holds fewer frames than were written.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with self._resources:
            capture = cv2.VideoCapture(self._clean_path)
            kept = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            capture.release()
        # Matroska states a duration, which may round to a frame fewer.
        if kept < self._written - 1:
            raise InputError(
                f"a video output must take every frame, {printable(self.path)} holds "
                f"{kept} of {self._written} (is the disk full?)"
            )

    def _open(self, image):
        height, width = (
            max(SMALLEST_SIDE, side + side % 2) for side in image.shape[:2]
        )
        self._canvas = np.zeros((height, width, 3), np.uint8)
        self._clean_path = self._resources.enter_context(opencv_path(self.path))
        codec = cv2.VideoWriter_fourcc(*CODECS[_suffix(self.path)])
        size = (width, height)
        self._writer = cv2.VideoWriter(self._clean_path, codec, self._rate, size)
        if not self._writer.isOpened():
            raise InputError(
                f"a video output must be writable, {printable(self.path)} cannot be "
                f"opened for {width}x{height} pixels"
            )

    def _fit(self, image):
        """Returns the image on the canvas of the file."""
        if image.shape == self._canvas.shape:
            return image
        height, width = self._canvas.shape[:2]
        scale = min(1.0, height / image.shape[0], width / image.shape[1])
        if scale < 1.0:
            size = [max(1, int(side * scale)) for side in image.shape[1::-1]]
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self._canvas[:] = 0
        top = (height - image.shape[0]) // 2
        left = (width - image.shape[1]) // 2
        bottom, right = top + image.shape[0], left + image.shape[1]
        self._canvas[top:bottom, left:right] = image
        return self._canvas


class JsonLines:
    """Writes one JSON object per line, each flushed, to a file or standard output.

    Args:
        path: the file, or "-" for standard output.
    """

    def __init__(self, path: str):
        self.path = path
        self._file = None

    def write(self, record: dict) -> None:
        """Writes one line of UTF-8.

        Raises:
            InputError: the disk is full or the file is gone.
        """
        line = json.dumps(record, ensure_ascii=False, separators=(", ", ": "))
        try:
            self._open()
            self._file.write(line.encode("utf-8", "replace") + b"\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InputError(
                f"JSON lines must be writable, {printable(self.path)}: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None and self.path != "-":
            self._file.close()

    def _open(self):
        if self._file is None:
            on_standard_output = self.path == "-"
            self._file = (
                sys.stdout.buffer if on_standard_output else open(self.path, "wb")
            )


class Window:
    """Shows frames in a window. Open one only where `display_problem()` is None.

    Args:
        title: ASCII text.
        seconds: how long a frame stays at least, unless a key is pressed.
    """

    def __init__(self, title: str, seconds: float = 0.0):
        self._title = title
        self._seconds = seconds
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Shows a BGR frame."""
        cv2.imshow(self._title, image)

    def quit_requested(self) -> bool:
        """Handles the window's events; True once `q` was pressed or it was closed."""
        end = time.monotonic() + self._seconds
        while True:
            key = cv2.waitKey(EVENTS if self._seconds else 1)
            closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
            if closed or (key != -1 and key & 0xFF in QUIT_KEYS):
                return True
            if key != -1 or time.monotonic() >= end:
                return False

    def close(self) -> None:
        """Closes the window."""
        cv2.destroyAllWindows()


def display_problem() -> str | None:
    """Says why no window can be opened, or None if one can.

    Without a reachable display `cv2.namedWindow` aborts the process, so a child
    process tries it.
    """
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, variables)):
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:
        with tempfile.TemporaryFile() as errors:
            code = subprocess.run(
                [sys.executable, "-c", PROBE],
                stdout=errors,
                stderr=errors,
                timeout=20,
            ).returncode
            errors.seek(0)
            text = errors.read().decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    if code == 0:
        return None
    if "not implemented" in text:
        return "the installed OpenCV has no windows (pip install 'mlcvtf[gui]')"
    name = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or ""
    return f"the display {printable(name)} cannot be reached"


def _suffix(path):
    return os.path.splitext(printable(path))[1].lower()
