"""Flips, affine maps and crops that move boxes, landmarks and masks along.

Each is called as `augmentation(sample, draw)`; every random number comes from
`draw.generator`. What happens to boxes is said in `samples.warp` and `samples.clip`.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from mlcvtf.data import samples
from mlcvtf.data.samples import MIN_SIDE, VISIBLE, Draw, Sample
from mlcvtf.errors import InputError


@dataclasses.dataclass(frozen=True)
class RandomFlip:
    """Mirrors a picture.

    Args:
        horizontal: probability of exchanging left and right.
        vertical: probability of exchanging top and bottom.
        pairs: numbers of landmarks that change places when mirrored, such as left and
            right eye: `((0, 1), (3, 4))`. They do at a flip of either kind, not at
            both, which is a rotation.
    """

    horizontal: float = 0.5
    vertical: float = 0.0
    pairs: Sequence[tuple[int, int]] = ()

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        across, down = draw.generator.random(2) < (self.horizontal, self.vertical)
        return flip(sample, across, down, self.pairs)


@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """Rotates, scales, shears and shifts about the picture's middle.

    The canvas keeps the picture's size.

    Args:
        rotation: largest angle in degrees, either way.
        scale: smallest and largest factor; its logarithm is drawn evenly.
        shear: largest angle in degrees, either way, along each axis.
        translation: largest shift as a share of each side, either way.
        probability: share of pictures that are changed.
        visible: share of a box that must stay in the picture (`samples.clip`).
        min_side: smallest side in pixels that a box may have (`samples.clip`).
        fill: value of pixels from beyond the picture.

    Raises:
        InputError: the scale is no range of positive numbers.
    """

    rotation: float = 10.0
    scale: tuple[float, float] = (0.5, 1.5)
    shear: float = 2.0
    translation: float = 0.1
    probability: float = 1.0
    visible: float = VISIBLE
    min_side: float = MIN_SIDE
    fill: int = 0

    def __post_init__(self):
        check_range("scale", self.scale)

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        if draw.generator.random() >= self.probability:
            return sample
        matrix = self.matrix(sample.size, draw.generator)
        return samples.warp(
            sample, matrix, sample.size, self.visible, self.min_side, self.fill
        )

    def matrix(self, size: tuple[int, int], generator) -> np.ndarray:
        """Draws a matrix.

        Args:
            size: height and width of the picture in pixels.
            generator: source of randomness.

        Returns:
            float64 `[2, 3]`, from old to new coordinates.
        """
        angle = np.deg2rad(generator.uniform(-self.rotation, self.rotation))
        factor = np.exp(generator.uniform(*np.log(self.scale)))
        shear = np.tan(np.deg2rad(generator.uniform(-self.shear, self.shear, 2)))
        shift = generator.uniform(-self.translation, self.translation, 2)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        linear = factor * turn @ np.array([[1, shear[0]], [shear[1], 1]])
        sides = np.array(size[::-1], float)
        middle = sides / 2
        return np.column_stack([linear, middle + shift * sides - linear @ middle])


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Cuts out a part of the picture, which is then fitted as the whole would be.

    As in Szegedy et al., 2014, "Going Deeper with Convolutions", arXiv:1409.4842, with
    a share of the area and an aspect ratio; a part in which nothing is left of any
    object is drawn again.

    Args:
        area: smallest and largest share of the picture's area.
        aspect: smallest and largest ratio of width to height of the part, relative to
            the picture's.
        probability: share of pictures that are cut.
        visible: share of a box that must stay in the picture (`samples.clip`).
        min_side: smallest side in pixels that a box may have (`samples.clip`).
        attempts: how often a part is drawn until the picture stays whole.

    Raises:
        InputError: area or aspect is no range of positive numbers.
    """

    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    probability: float = 0.5
    visible: float = VISIBLE
    min_side: float = MIN_SIDE
    attempts: int = 10

    def __post_init__(self):
        check_range("area", self.area, 1.0)
        check_range("aspect", self.aspect)

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        if draw.generator.random() >= self.probability:
            return sample
        for _ in range(self.attempts):
            part = crop(
                sample,
                *self.window(sample.size, draw.generator),
                self.visible,
                self.min_side,
            )
            if len(part.boxes) or not len(sample.boxes):
                return part
        return sample

    def window(self, size: tuple[int, int], generator) -> tuple[int, int, int, int]:
        """Draws top, left, height and width in whole pixels."""
        share = generator.uniform(*self.area)
        root = np.sqrt(np.exp(generator.uniform(*np.log(self.aspect))))
        # A part that is wider than the picture is as wide as it.
        sides = np.sqrt(share) * np.array([size[0] / root, size[1] * root])
        height, width = np.clip(sides.round().astype(int), 1, size)
        top = generator.integers(0, size[0] - height + 1)
        left = generator.integers(0, size[1] - width + 1)
        return int(top), int(left), int(height), int(width)


def flip(
    sample: Sample,
    horizontal: bool,
    vertical: bool = False,
    pairs: Sequence[tuple[int, int]] = (),
) -> Sample:
    """Mirrors a sample.

    Args:
        sample: picture and targets.
        horizontal: whether left and right change places.
        vertical: whether top and bottom do.
        pairs: as in `RandomFlip`.
    """
    if not horizontal and not vertical:
        return sample
    (height, width), (x1, y1, x2, y2) = sample.size, sample.boxes.T
    if horizontal:
        x1, x2 = width - x2, width - x1
    if vertical:
        y1, y2 = height - y2, height - y1

    def mirrored(values):
        if values is None:
            return None
        rows, columns = (
            slice(None, None, -1 if turn else 1) for turn in (vertical, horizontal)
        )
        return np.ascontiguousarray(values[..., rows, columns])

    def mirrored_picture(values):
        # Ten times as fast as NumPy on three channels.
        way = -1 if horizontal and vertical else int(horizontal)
        return None if values is None else cv2.flip(values, way)

    landmarks = sample.landmarks
    if landmarks is not None:
        sign = np.where([horizontal, vertical], -1, 1).astype(np.float32)
        offset = np.multiply([horizontal, vertical], (width, height))
        landmarks = landmarks * sign + offset.astype(np.float32)
        if horizontal != vertical:
            order = np.arange(landmarks.shape[1])
            for one, other in pairs:
                order[[one, other]] = other, one
            landmarks = landmarks[:, order]
    return sample._replace(
        image=mirrored_picture(sample.image),
        boxes=np.stack([x1, y1, x2, y2], 1),
        landmarks=landmarks,
        masks=mirrored(sample.masks),
        mask=mirrored(sample.mask),
        pair=mirrored_picture(sample.pair),
    )


def crop(
    sample: Sample,
    top: int,
    left: int,
    height: int,
    width: int,
    visible: float = VISIBLE,
    min_side: float = MIN_SIDE,
) -> Sample:
    """Cuts out a part.

    Args:
        sample: picture and targets.
        top: first row.
        left: first column.
        height: number of rows.
        width: number of columns.
        visible: as in `samples.clip`.
        min_side: as in `samples.clip`.
    """
    rows, columns = slice(top, top + height), slice(left, left + width)
    shift = np.array([left, top], np.float32)
    landmarks, masks = sample.landmarks, sample.masks
    mask, pair = sample.mask, sample.pair
    part = sample._replace(
        image=sample.image[rows, columns],
        boxes=sample.boxes - np.tile(shift, 2),
        landmarks=None if landmarks is None else landmarks - shift,
        masks=None if masks is None else masks[:, rows, columns],
        mask=None if mask is None else mask[rows, columns],
        pair=None if pair is None else pair[rows, columns],
    )
    return samples.clip(part, visible, min_side)


def check_range(name: str, limits: tuple[float, float], most: float = np.inf) -> None:
    """Makes sure that two numbers are a range above 0.

    Raises:
        InputError: they are not, or the second is over `most`.
    """
    low, high = limits
    if not 0 < low <= high <= most:
        raise InputError(
            f"{name} goes from a number over 0 to no smaller one"
            + ("" if most == np.inf else f" up to {most:g}")
            + f", received {low:g} to {high:g}"
        )
