"""Where frames come from: webcam, video file, pictures, or a stream behind a URL.

A file or a folder is read whole and in order (`recording`); of a camera or stream only
the latest frame counts (`live`).
"""

import contextlib
import os
import re
import time
from collections.abc import Callable

import cv2

from mlcvtf.errors import InputError
from mlcvtf.video import pictures
from mlcvtf.video.live import SOURCE_GONE, Live, pauses
from mlcvtf.video.paths import opencv_path, printable
from mlcvtf.video.recording import VIDEO_CUT, Pictures, Video

URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://", re.IGNORECASE)
# Containers that state how long they are. The first two count their frames, the
# last states a duration, from which a count can be a frame or so off.
COUNTED = (b"ftyp", b"RIFF")
TIMED = (b"\x1aE\xdf\xa3",)
# Half a second is the shortest wait that a busy server answers in.
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.5, 5.0


def open_source(
    text: str, reconnect: float = 10.0, notify: Callable[[str], None] = print
) -> Pictures | Video | Live:
    """Opens what `--source` names.

    Args:
        text: a webcam's index, a URL, a folder of pictures, a picture or a video.
        reconnect: seconds without a frame after which a live source is given up.
        notify: receives one line for each event that does not end the reading: a
            picture that is skipped, a stream that is lost or back.

    Returns:
        A source, to be closed: `frames(every)` is its generator of frames; `length`
        the number of frames, None where it is unknown; `rate` the frames per second;
        `live` whether frames are dropped; `still` whether each frame is a picture
        of its own instead of a moment of one scene.

    Raises:
        InputError: it is not there or nothing that can be read.
    """
    if re.fullmatch(r"[0-9]+", text):
        return _open_webcam(int(text), reconnect, notify)
    if URL.match(text):
        return _open_url(text, reconnect, notify)
    path = _path(text)
    if os.path.isdir(path):
        names = sorted(
            name
            for name in os.listdir(path)
            if pictures.has_picture_suffix(name) and not name.startswith(".")
        )
        if not names:
            raise InputError(
                f"a source folder must hold pictures, {printable(path)} has none"
            )
        return Pictures([os.path.join(path, name) for name in names], notify)
    with _opened(path) as file:
        head = file.read(12)
        file.seek(0)
        is_picture = pictures.has_picture_suffix(path) or pictures.is_picture(file)
    if is_picture:
        return Pictures([path], notify)
    return _open_video(path, head)


def check_source(text: str) -> None:
    """Makes sure that a source that is a file or a folder is there.

    Raises:
        InputError: it is not.
    """
    is_file = not re.fullmatch(r"[0-9]+", text) and not URL.match(text)
    if is_file and not os.path.isdir(_path(text)):
        _opened(_path(text)).close()


def _path(text):
    return re.sub(r"^file://", "", text, flags=re.IGNORECASE)


def _opened(path):
    """Opens a file of a source for reading bytes."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(
            f"a source must be a webcam index, URL, picture, folder or video, "
            f"{printable(path) or repr(path)}: {error.strerror}"
        ) from None


def _open_webcam(index, reconnect, notify):
    """Opens a camera of this machine."""

    def reopen(_seconds):
        # Time-outs are refused by camera drivers, which have their own.
        return cv2.VideoCapture(index)

    capture = reopen(0)
    if not capture.isOpened():
        raise InputError(f"a webcam index must name a camera, there is none at {index}")
    return Live(capture, reopen, f"webcam {index}", reconnect, notify)


def _open_url(url, reconnect, notify):
    """Opens a stream, or a recording behind a URL if it states its length."""
    name = _without_password(printable(url))
    if not url.isascii() or not url.isprintable():
        raise InputError(f"a URL must be printable ASCII, received {name}")

    def reopen(seconds):
        timeout = min(max(reconnect / 3, SHORTEST_TIMEOUT), LONGEST_TIMEOUT)
        milliseconds = round(1000 * max(min(timeout, seconds), SHORTEST_TIMEOUT))
        # Both time-outs are honoured only here, not when they are set later.
        return cv2.VideoCapture(
            url,
            cv2.CAP_FFMPEG,
            [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                milliseconds,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                milliseconds,
            ],
        )

    end = time.monotonic() + reconnect
    waits = pauses()
    capture = reopen(reconnect)
    if not capture.isOpened() and reconnect > 0:
        notify(f"{name} does not answer, trying for {reconnect:g} s")
    while not capture.isOpened():
        left = end - time.monotonic()
        if left <= 0:
            raise InputError(
                f"a stream must answer, {name} did not within {reconnect:g} s",
                SOURCE_GONE,
            )
        time.sleep(min(next(waits), left))
        capture = reopen(left)
    if 0 < capture.get(cv2.CAP_PROP_FRAME_COUNT) < 1e9:
        return Video(capture, name, 1.0, contextlib.ExitStack())
    return Live(capture, reopen, name, reconnect, notify)


def _open_video(path, head):
    """Opens a video file of which the first bytes are known."""
    name = printable(path)
    with contextlib.ExitStack() as resources:
        clean = resources.enter_context(opencv_path(path))
        # The other backends of OpenCV print what they think of a broken file.
        capture = cv2.VideoCapture(clean, cv2.CAP_FFMPEG)
        if not capture.isOpened():
            if head[4:8] == b"ftyp":
                # Such files have their index at the end unless made for streaming.
                raise InputError(
                    f"a video must be whole, {name} lacks its index: read 0 frames",
                    VIDEO_CUT,
                )
            raise InputError(
                f"a source must be a picture or a video that FFmpeg reads, {name} "
                f"({os.path.getsize(path)} bytes) is neither"
            )
        tolerance = None
        if head[4:8] in COUNTED or head[:4] in COUNTED:
            tolerance = 0.0
        elif head[:4] in TIMED:
            tolerance = max(1.0, 0.01 * capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return Video(capture, name, tolerance, resources.pop_all())


def _without_password(url):
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
