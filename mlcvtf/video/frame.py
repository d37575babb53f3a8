"""What every source gives: numbered frames with their time."""

import math
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.errors import InputError

DEFAULT_RATE = 25.0


class Frame(NamedTuple):
    """One picture of a source.

    Attributes:
        index: number of the frame in its source, from 0; frames that a live source
            sent and nobody looked at are counted too.
        time: seconds since the first frame; pictures count as one second apart.
        image: uint8 `[height, width, 3]` RGB.
        still: it is a picture of its own, not a moment of a scene.
    """

    index: int
    time: float
    image: np.ndarray
    still: bool = False


class Ended(InputError):
    """Says that a source ended too early; what was read before stays good."""


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Returns the frames per second that a source states, or a usual number."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else DEFAULT_RATE
