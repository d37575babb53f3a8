"""Where depth comes from: a folder of 16-bit PNGs, a 16-bit grey video, or made here.

The same interface as `mlcvtf.video.source` has for pictures; a frame has its depth
besides an image of it to draw on.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import drawing, picture_folder, synthetic_motion
from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.video.frame import frame_rate
from mlcvtf.video.paths import opencv_path, printable

SYNTHETIC = "synthetic"
SYNTHETIC_FRAMES = 100
SYNTHETIC_RATE = 10.0
# A picture of 320x240 is drawn this much larger, so that lines and dots can be seen.
SCALE = 2
SUFFIX = "_depth.png"


class DepthFrame(NamedTuple):
    """One depth picture of a source; see `mlcvtf.video.frame.Frame`.

    Attributes:
        index: number of the frame, from 0.
        time: seconds since the first frame; pictures count as one second apart.
        image: uint8 `[SCALE height, SCALE width, 3]` RGB: grey where depth is known.
        depth: float32 `[height, width]` metres, 0 where missing.
        still: it is a picture of its own, not a moment of a scene.
    """

    index: int
    time: float
    image: np.ndarray
    depth: np.ndarray
    still: bool = False


class Depths:
    """Depth pictures as frames.

    Args:
        pictures: makes an iterator over float32 `[h, w]` metres.
        length: of it, or None where it is unknown.
        rate: frames per second.
        still: whether each is a picture of its own.
    """

    live = False

    def __init__(self, pictures, length, rate, still):
        self._pictures, self.length = pictures, length
        self.rate, self.still = rate, still

    def frames(self, every: int = 1) -> Iterator[DepthFrame]:
        """Yields every so-manieth picture.

        Raises:
            InputError: one cannot be read.
        """
        for index, depth in enumerate(self._pictures()):
            if index % every == 0:
                image = drawing.depth_picture(depth)
                image = image.repeat(SCALE, 0).repeat(SCALE, 1)
                yield DepthFrame(index, index / self.rate, image, depth, self.still)

    def close(self) -> None:
        """Does nothing: files are closed by who reads them."""


def open_depth(text: str) -> Depths:
    """Opens what `--source` names.

    Args:
        text: a folder of 16-bit PNGs in millimetres (of body_render's, the depth
            alone), one such PNG, a grey video of 16 bits, or "synthetic".

    Returns:
        The source.

    Raises:
        InputError: it is not there or is no depth.
    """
    if text == SYNTHETIC:
        return Depths(
            lambda: synthetic_motion.depth_pictures(SYNTHETIC_FRAMES, SYNTHETIC_RATE),
            SYNTHETIC_FRAMES,
            SYNTHETIC_RATE,
            False,
        )
    if os.path.isdir(text):
        return _folder(text)
    try:
        with open(text, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InputError(
            "a source is a folder of depth pictures, a 16-bit video or "
            f"{SYNTHETIC}, {printable(text) or repr(text)}: {error.strerror}"
        ) from None
    if head == b"\x89PNG\r\n\x1a\n":
        return Depths(lambda: [picture_folder.read_depth(text)], 1, 1.0, True)
    return _video(text)


def _folder(path):
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(".png"))
    # A folder of body_render has labels beside the depth.
    names = [name for name in names if name.endswith(SUFFIX)] or names
    if not names:
        raise InputError(
            f"a source folder holds PNGs of depth, {printable(path)} has none"
        )
    paths = [os.path.join(path, name) for name in names]
    return Depths(lambda: map(picture_folder.read_depth, paths), len(paths), 1.0, True)


def _video(path):
    with _opened(path) as capture:
        rate = frame_rate(capture)
        length = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def pictures():
        with _opened(path) as capture:
            while True:
                there, image = capture.read()
                if not there:
                    return
                yield _metres(image, path)

    # A first look, before anything else is loaded.
    if next(pictures(), None) is None:
        raise InputError(f"a video has frames, {printable(path)} has none")
    return Depths(pictures, length if 0 < length < 1e9 else None, rate, False)


def _metres(image, path):
    if image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(
            "a video of depth is grey of 16 bits that FFmpeg decodes as such, as FFV1 "
            f"in .mkv or .avi (not as PNG in a video), {printable(path)} is not"
        )
    return image * np.float32(picture_folder.MILLIMETRE)


@contextlib.contextmanager
def _opened(path):
    """Opens a video without conversion to 8 bits."""
    with opencv_path(path) as clean:
        # OpenCV warns of every format that it did not test.
        capture = cv2.VideoCapture(clean, cv2.CAP_FFMPEG, [cv2.CAP_PROP_CONVERT_RGB, 0])
        try:
            if not capture.isOpened():
                raise InputError(
                    f"a source is depth as PNG or a 16-bit video, {printable(path)} "
                    "is neither"
                )
            yield capture
        finally:
            capture.release()


def camera_of(depth: np.ndarray) -> Camera:
    """Returns Kinect's camera for pictures of this size."""
    return Camera.of_size(depth.shape[1], depth.shape[0])
