"""A picture with all that is known about it, moved as one.

Coordinates of boxes and landmarks are continuous: the pixel in column 0 reaches from
0 to 1, its middle is at 0.5. NumPy and OpenCV; nothing is changed in place, so that a
sample may come out of a cache.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

# What a mask says where there is no picture; as labels, it is never a class.
NOTHING = -1
# An object is kept when this share of its box is still in the picture ...
VISIBLE = 0.25
# ... and the sides of what is left have so many pixels.
MIN_SIDE = 2.0
# Augmentation takes means of areas below this scale, or small things were noise.
AREA_BELOW = 0.6


class Sample(NamedTuple):
    """A picture and its targets, without padding.

    Attributes:
        image: uint8 `[height, width, 3]` RGB.
        boxes: float32 `[n, 4]` xyxy in pixels.
        labels: int32 `[n]`.
        crowd: bool `[n]`, regions that are ignored.
        landmarks: float32 `[n, k, 2]` xy in pixels, NaN where unknown, or None.
        masks: uint8 `[n, height, width]`, 1 on the object, or None; all 0 where an
            object has a box alone.
        label: class of the whole picture, or -1.
        mask: int32 `[height, width]`, a class per pixel, or None.
        pair: uint8 `[height, width, 3]`, the picture that belongs to it, or None.
    """

    image: np.ndarray
    boxes: np.ndarray = np.zeros((0, 4), np.float32)
    labels: np.ndarray = np.zeros(0, np.int32)
    crowd: np.ndarray = np.zeros(0, bool)
    landmarks: np.ndarray | None = None
    masks: np.ndarray | None = None
    label: int = -1
    mask: np.ndarray | None = None
    pair: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[:2]


class Draw(NamedTuple):
    """What an augmentation may draw on.

    Attributes:
        generator: source of all randomness.
        size: height and width in pixels that the picture is to have in the end.
        other: gives another sample of the set, drawn with `generator`.
    """

    generator: np.random.Generator
    size: tuple[int, int]
    other: Callable[[], Sample]


class OnPicture(NamedTuple):
    """An augmentation that changes the picture alone, and no geometry.

    Args:
        change: maps (uint8 `[height, width, 3]`, generator) to a picture of that
            shape, such as those of `mlcvtf.data.augment`.
        probability: share of pictures that are changed.
    """

    change: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    probability: float = 1.0

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        if draw.generator.random() >= self.probability:
            return sample
        return sample._replace(image=self.change(sample.image, draw.generator))


def select(sample: Sample, keep: np.ndarray) -> Sample:
    """Keeps some objects.

    Args:
        sample: whose objects.
        keep: bool `[n]`, or int indices.
    """
    return sample._replace(
        **{
            name: values[keep]
            for name in ("boxes", "labels", "crowd", "landmarks", "masks")
            if (values := getattr(sample, name)) is not None
        }
    )


def clip(
    sample: Sample,
    visible: float = VISIBLE,
    min_side: float = MIN_SIDE,
    tight: bool = False,
) -> Sample:
    """Cuts objects to the picture and drops those of which too little is left.

    Landmarks outside become NaN, unknown.

    Args:
        sample: whose boxes may reach out of the picture.
        visible: share of a box's area that must lie in the picture.
        min_side: smallest side in pixels of what is left of a box.
        tight: whether the box of an object that has a mask is cut to its mask.
    """
    height, width = sample.size
    whole = sample.boxes
    boxes = np.clip(whole, 0, np.array([width, height] * 2, np.float32))
    share = _area(boxes) / np.maximum(_area(whole), 1e-6)
    if tight and sample.masks is not None:
        around = extents(sample.masks)
        masked = around[:, 2] > around[:, 0]
        inner = np.concatenate(
            [
                np.maximum(boxes[:, :2], around[:, :2]),
                np.minimum(boxes[:, 2:], around[:, 2:]),
            ],
            axis=1,
        )
        boxes = np.where(masked[:, None], inner, boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    sample = sample._replace(boxes=boxes)
    if sample.landmarks is not None:
        points = sample.landmarks
        inside = ((points >= 0) & (points <= (width, height))).all(-1, keepdims=True)
        sample = sample._replace(landmarks=np.where(inside, points, np.nan))
    return select(sample, (share >= visible) & (sides >= min_side).all(axis=1))


def extents(masks: np.ndarray) -> np.ndarray:
    """Frames masks.

    Args:
        masks: uint8 `[n, height, width]`.

    Returns:
        float32 `[n, 4]` xyxy, zeros where a mask is empty.

    >>> extents(np.array([[[0, 0, 0], [0, 1, 1]]], np.uint8)).tolist()
    [[1.0, 1.0, 3.0, 2.0]]
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        x, y, width, height = cv2.boundingRect(mask)
        box[:] = x, y, x + width, y + height
    return boxes


def warp(
    sample: Sample,
    matrix: np.ndarray,
    size: tuple[int, int],
    visible: float = VISIBLE,
    min_side: float = MIN_SIDE,
    fill: int = 0,
) -> Sample:
    """Moves a sample onto a canvas.

    A box becomes the box around its four moved corners, cut by `clip`; under a
    rotation or a shear that is larger than the object, so where there is a mask the
    box is cut to the moved mask.

    Args:
        sample: picture and targets.
        matrix: float `[2, 3]`, from old to new coordinates.
        size: height and width in pixels of the canvas.
        visible: as in `clip`.
        min_side: as in `clip`.
        fill: value of the canvas where there is no picture; it is `NOTHING` in a mask.
    """
    matrix = np.asarray(matrix, np.float64)
    boxes, landmarks, masks = sample.boxes, sample.landmarks, sample.masks
    corners = _move(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), matrix)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    if landmarks is not None:
        landmarks = _move(landmarks, matrix)
    if masks is not None:
        masks = _nearest(masks, matrix, size, 0)
    mask, pair = sample.mask, sample.pair
    moved = sample._replace(
        image=_warp(sample.image, matrix, size, fill),
        boxes=boxes,
        landmarks=landmarks,
        masks=masks,
        mask=None if mask is None else _nearest(mask, matrix, size, NOTHING),
        pair=None if pair is None else _warp(pair, matrix, size, fill),
    )
    turned = abs(matrix[0, 1]) + abs(matrix[1, 0]) > 1e-6
    return clip(moved, visible, min_side, tight=turned)


def resize(sample: Sample, size: tuple[int, int], area_below: float = 1.0) -> Sample:
    """Resizes a sample: pictures by area or linearly, masks by the nearest value.

    Args:
        sample: picture and targets.
        size: new height and width in pixels.
        area_below: scale under which a pixel is the mean of an area, which is several
            times slower than linear interpolation.
    """
    if sample.size == tuple(size):
        return sample
    height, width = sample.size
    scale = np.array([size[1] / width, size[0] / height], np.float32)
    landmarks, masks = sample.landmarks, sample.masks
    mask, pair = sample.mask, sample.pair
    return sample._replace(
        image=_resize(sample.image, size, area_below),
        boxes=sample.boxes * np.tile(scale, 2),
        landmarks=None if landmarks is None else landmarks * scale,
        masks=None if masks is None else _resize_nearest(masks, size),
        mask=None if mask is None else _resize_nearest(mask, size),
        pair=None if pair is None else _resize(pair, size, area_below),
    )


def place(sample: Sample, size: tuple[int, int], corner=(0, 0)) -> Sample:
    """Puts a sample into a larger, black picture, `NOTHING` in its mask.

    Args:
        sample: picture and targets.
        size: height and width in pixels of the larger one.
        corner: row and column of its upper left corner there.
    """
    if sample.size == tuple(size):
        return sample
    top, left = corner
    bottom, right = top + sample.size[0], left + sample.size[1]

    def canvas(values, fill):
        shape = (*values.shape[:-2], *size)
        larger = np.full(shape, fill, values.dtype)
        larger[..., top:bottom, left:right] = values
        return larger

    def picture(values):
        larger = np.zeros((*size, 3), np.uint8)
        larger[top:bottom, left:right] = values
        return larger

    shift = np.array([left, top], np.float32)
    landmarks, masks = sample.landmarks, sample.masks
    mask, pair = sample.mask, sample.pair
    return sample._replace(
        image=picture(sample.image),
        boxes=sample.boxes + np.tile(shift, 2),
        landmarks=None if landmarks is None else landmarks + shift,
        masks=None if masks is None else canvas(masks, 0),
        mask=None if mask is None else canvas(mask, NOTHING),
        pair=None if pair is None else picture(pair),
    )


def _area(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _move(points, matrix):
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _centres(matrix):
    """Returns the matrix between numbers of pixels, whose middles are at + 0.5."""
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return shifted


def _nearest(masks, matrix, size, fill):
    """Moves `[..., height, width]`, each pixel to what lies at its middle."""
    height, width = masks.shape[-2:]
    back = np.linalg.inv(matrix[:, :2])
    x, y = np.arange(size[1]) + 0.5, np.arange(size[0])[:, None] + 0.5
    x, y = x - matrix[0, 2], y - matrix[1, 2]
    columns = np.floor(back[0, 0] * x + back[0, 1] * y).astype(int)
    rows = np.floor(back[1, 0] * x + back[1, 1] * y).astype(int)
    outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
    moved = masks.reshape(*masks.shape[:-2], height * width)[
        ..., np.where(outside, 0, rows * width + columns)
    ]
    moved[..., outside] = fill
    return moved


def _warp(image, matrix, size, fill):
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < AREA_BELOW:
        height, width = image.shape[:2]
        smaller = max(1, round(height * scale)), max(1, round(width * scale))
        image = _resize(image, smaller)
        back = np.diag([width / smaller[1], height / smaller[0], 1.0])
        matrix = matrix @ back
    return cv2.warpAffine(
        image,
        _centres(matrix),
        size[::-1],
        flags=cv2.INTER_LINEAR,
        borderValue=(fill,) * 3,
    )


def _resize(image, size, area_below=1.0):
    scale = np.sqrt(np.prod(np.divide(size, image.shape[:2])))
    way = cv2.INTER_AREA if scale < area_below else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=way)


def _resize_nearest(values, size):
    """Takes the nearest pixel's value, which alone is one that occurs."""
    height, width = values.shape[-2:]
    down = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(int)
    across = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(int)
    return values[..., down[:, None], across]
