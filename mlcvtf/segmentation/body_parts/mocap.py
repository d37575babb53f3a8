"""What motion capture of every format becomes: bones, rotations, positions."""

from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

# A recording of an hour at 120 frames per second has 432,000 frames and the largest
# skeletons about 150 bones; whatever is far beyond is no recording of a person.
MAX_BONES = 512
MAX_FRAMES = 500_000
# Frames times bones, so that the rotations fit in memory.
MAX_SIZE = 20_000_000


class Motion(NamedTuple):
    """A skeleton and what it does.

    Attributes:
        names: of the bones (ASF) or joints (BVH), parents before children.
        starts: float64 `[frames, bones, 3]`, where each bone starts, in metres; y is
            up.
        ends: the same, where it ends; a BVH joint ends where its first child starts.
        rotations: float64 `[frames, bones, 3, 3]`, from the bone's rest orientation
            (ASF) or own axes (BVH) to the world.
    """

    names: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    rotations: np.ndarray


def rotation(axis: str, degrees) -> np.ndarray:
    """Returns the matrices that rotate by angles about one axis.

    Args:
        axis: "x", "y" or "z".
        degrees: float `[...]`.

    Returns:
        float64 `[..., 3, 3]`.
    """
    angle = np.radians(np.asarray(degrees, np.float64))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[...] = np.eye(3)
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -matrix[..., second, first]
    return matrix


def check_size(frames: int, bones: int, name: str) -> None:
    """Refuses a recording that no person can have made.

    Raises:
        InputError: there are too many frames or bones, or no frame.
    """
    if not 1 <= bones <= MAX_BONES:
        raise InputError(f"a skeleton has 1 to {MAX_BONES} bones, {name} has {bones}")
    if not 1 <= frames <= min(MAX_FRAMES, MAX_SIZE // bones):
        raise InputError(
            f"a recording of {bones} bones has 1 to "
            f"{min(MAX_FRAMES, MAX_SIZE // bones)} frames, {name} has "
            f"{frames}"
        )


def numbers(words: list[str], name: str) -> np.ndarray:
    """Converts words to finite numbers.

    Raises:
        InputError: a word is none.
    """
    try:
        values = np.array(words, np.float64)
    except ValueError:
        values = np.array([np.nan])
    # Not even a kilometre or a hundred thousand degrees: their products stay finite.
    if not (np.abs(values) < 1e5).all():
        raise InputError(
            f"expected numbers below 100000 in {name}, received "
            f"{printable(' '.join(words)[:60])}"
        )
    return values
