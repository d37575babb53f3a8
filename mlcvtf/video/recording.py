"""Pictures and video files as sources: read whole and in order."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator

import cv2

from mlcvtf.errors import InputError
from mlcvtf.video.frame import Ended, Frame, frame_rate
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import read_picture

VIDEO_CUT = 4


class Pictures:
    """Picture files as frames; of several, those that cannot be read are skipped.

    Args:
        paths: files to read, in order.
        notify: receives one line for each picture that is skipped.
    """

    live = False
    still = True
    rate = 1.0

    def __init__(self, paths: list[str], notify: Callable[[str], None]):
        self.length = len(paths)
        self._paths = paths
        self._notify = notify

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Yields every so-manieth picture.

        Raises:
            InputError: the only picture, or each of several, cannot be read.
        """
        read = 0
        for index in range(0, len(self._paths), every):
            try:
                image = read_picture(self._paths[index])
            except InputError as error:
                if len(self._paths) == 1:
                    raise
                self._notify(f"skipped: {error}")
                continue
            read += 1
            yield Frame(index, float(index), image, still=True)
        if not read:
            raise InputError(
                f"a source folder must hold a readable picture, none of the "
                f"{len(self._paths)} in {printable(os.path.dirname(self._paths[0]))} is"
            )

    def close(self) -> None:
        """Does nothing: no file is kept open."""


class Video:
    """A recording, read whole and in order.

    Args:
        capture: an open `cv2.VideoCapture`.
        name: what to call it in messages.
        tolerance: how many frames fewer than stated are still the whole; None if
            the container does not state its length.
        resources: closed together with the capture.
    """

    live = False
    still = False

    def __init__(
        self,
        capture: cv2.VideoCapture,
        name: str,
        tolerance: float | None,
        resources: contextlib.ExitStack,
    ):
        self._capture = capture
        self._name = name
        self._tolerance = tolerance
        self._resources = resources
        stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        trusted = tolerance is not None and 0 < stated < 1e9
        self.length = int(stated) if trusted else None
        self.rate = frame_rate(capture)

    def frames(self, every: int = 1) -> Iterator[Frame]:
        """Yields every so-manieth frame.

        Raises:
            Ended: (exit code 4) it ended before the length that it states.
            InputError: it has no frame.
        """
        read = 0
        last_time = -1.0
        while self._capture.grab():
            index, read = read, read + 1
            if index % every:
                continue
            decoded, image = self._capture.retrieve()
            if not decoded:
                continue
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if not math.isfinite(seconds) or seconds <= last_time:
                seconds = max(index / self.rate, last_time)
            last_time = seconds
            yield Frame(index, seconds, cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        if self.length is not None and read < self.length - self._tolerance:
            raise Ended(
                f"a video must be whole, {self._name} ends early: read {read} of "
                f"{self.length} frames",
                VIDEO_CUT,
            )
        if not read:
            raise InputError(f"a video must have frames, {self._name} has none")

    def close(self) -> None:
        """Releases the file."""
        self._capture.release()
        self._resources.close()
