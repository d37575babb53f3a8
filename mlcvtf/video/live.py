"""Cameras and streams as sources: only the latest frame, and connected again if lost.

A thread reads, so that an app slower than the source shows the present and not a
growing past.
"""

import threading
import time
from collections.abc import Callable, Iterator

import cv2

from mlcvtf.video.frame import Ended, Frame, frame_rate

SOURCE_GONE = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
IDLE = 0.1


class Live:
    """A camera or stream of which only the latest frame is kept.

    Args:
        capture: an open `cv2.VideoCapture`.
        reopen: opens the source again within so many seconds; a closed capture if
            that fails.
        name: what to call it in messages.
        reconnect: seconds without a frame after which the source is given up.
        notify: receives one line when the source is lost and when it is back.
    """

    live = True
    still = False
    length = None

    def __init__(
        self,
        capture: cv2.VideoCapture,
        reopen: Callable[[float], cv2.VideoCapture],
        name: str,
        reconnect: float,
        notify: Callable[[str], None],
    ):
        self.rate = frame_rate(capture)
        self._reopen = reopen
        self._name = name
        self._reconnect = reconnect
        self._notify = notify
        self._changed = threading.Condition()
        self._latest = None
        self._received = 0
        self._gone = False
        self._closing = threading.Event()
        # A daemon: a read that hangs in a driver must not keep the process alive.
        self._thread = threading.Thread(
            target=self._read_all, args=(capture,), daemon=True
        )
        self._thread.start()

    def frames(self, every: int = 1) -> Iterator[Frame | None]:
        """Yields the latest frame, each at most once, or None after 0.1 s of waiting.

        None lets the caller look at keys and files while nothing comes.

        Raises:
            Ended: (exit code 3) nothing came for `reconnect` seconds.
        """
        next_index = 0
        start = None
        while True:
            with self._changed:
                if self._received <= next_index and not self._gone:
                    self._changed.wait(IDLE)
                received, latest, gone = self._received, self._latest, self._gone
            if received > next_index:
                arrival, image = latest
                start = arrival if start is None else start
                index = received - 1
                next_index = index + every
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                yield Frame(index, arrival - start, image)
            elif gone:
                raise Ended(
                    f"a live source must keep sending, {self._name} has sent nothing "
                    f"for {self._reconnect:g} s",
                    SOURCE_GONE,
                )
            else:
                yield None

    def close(self) -> None:
        """Stops the reader; one that hangs in a read is left behind."""
        self._closing.set()
        self._thread.join(1.0)

    def _read_all(self, capture):
        """Reads until closed or until the source has been silent for too long."""
        last_frame = time.monotonic()
        while True:
            while not self._closing.is_set():
                image = _read(capture)
                if image is None:
                    break
                last_frame = time.monotonic()
                with self._changed:
                    self._latest = (last_frame, image)
                    self._received += 1
                    self._changed.notify()
            capture.release()
            if self._closing.is_set():
                return
            capture = self._connect_again(last_frame)
            if capture is None:
                break
        with self._changed:
            self._gone = True
            self._changed.notify()

    def _connect_again(self, last_frame):
        """Returns a capture that delivers, or None when it is too late."""
        self._notify(
            f"{self._name} stopped, trying again for {self._reconnect:g} s after its "
            f"last frame"
        )
        waits = pauses()
        while not self._closing.is_set():
            left = last_frame + self._reconnect - time.monotonic()
            if left <= 0:
                return None
            capture = self._reopen(left)
            image = _read(capture) if capture.isOpened() else None
            if image is not None:
                now = time.monotonic()
                with self._changed:
                    self._latest = (now, image)
                    self._received += 1
                    self._changed.notify()
                self._notify(f"{self._name} is back after {now - last_frame:.1f} s")
                return capture
            capture.release()
            left = last_frame + self._reconnect - time.monotonic()
            self._closing.wait(max(0.0, min(next(waits), left)))
        return None


def pauses() -> Iterator[float]:
    """Yields the seconds to wait before each further attempt."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


def _read(capture):
    """Returns the next frame as BGR, or None."""
    try:
        return capture.read()[1]
    except cv2.error:
        # A damaged picture in a stream; the connection is made anew.
        return None
