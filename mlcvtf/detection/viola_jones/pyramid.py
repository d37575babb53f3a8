"""Integral images of a picture at all sizes, in one buffer.

Sizes, rounding and the places of windows are those of OpenCV 4. All levels share one
row stride, so that a rectangle's corners have the same offsets everywhere. Where a
window moves by two pixels, even and odd columns lie apart: the windows of a row are
neighbours in memory then, as they are where it moves by one.
"""

import threading
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.detection.viola_jones import scan

_buffers = threading.local()


class Level(NamedTuple):
    """A picture at one size.

    Attributes:
        scale: float32, by how much the picture was shrunk.
        step: pixels between windows, 2 below scale 2, else 1.
        start: index of the level's first element in the buffers.
        rows: number of rows of windows.
        columns: number of columns of windows.
    """

    scale: np.float32
    step: int
    start: int
    rows: int
    columns: int


class Pyramid(NamedTuple):
    """All levels.

    Attributes:
        levels: list of `Level`.
        stride: elements from one row to the next, an even number.
        sums: int32 `[n]`, integral images.
        squares: int32 `[n]`, integrals of squares, modulo 2^32.
        tilted: int32 `[n]`, tilted integral images, or `[1]` where not needed.
    """

    levels: list
    stride: int
    sums: np.ndarray
    squares: np.ndarray
    tilted: np.ndarray


def scales(size, window, factor, min_size=None, max_size=None) -> np.ndarray:
    """Lists the scales at which a window is tried.

    Args:
        size: width and height of the picture.
        window: width and height of the window.
        factor: between scales, above 1.
        min_size: smallest scaled window; None for any.
        max_size: largest scaled window; None for the picture's size.

    Returns:
        float32 `[n]`. Where no scale lies between `min_size` and `max_size`, the one
        whose window is nearest to `min_size`, as in OpenCV.
    """
    size, window = np.array(size), np.array(window)
    every, scale = [], 1.0
    while (np.rint(window * scale) <= size).all():
        every.append(scale)
        scale *= factor
    every = np.array(every, np.float32)
    if not len(every):
        return every
    sides = np.rint(window.astype(np.float32) * every[:, None])
    least = np.zeros(2) if min_size is None else np.array(min_size)
    # OpenCV takes a zero for no limit.
    most = size if max_size is None or 0 in tuple(max_size) else np.array(max_size)
    chosen = (sides >= least).all(1) & (sides <= most).all(1)
    if not chosen.any():
        chosen[np.argmin(np.square(sides - least).sum(1))] = True
    return every[chosen]


def build(gray, window, factor, min_size=None, max_size=None, tilted=False) -> Pyramid:
    """Shrinks a picture and integrates it at every scale.

    Args:
        gray: uint8 `[height, width]`.
        window: width and height of the window.
        factor: between scales, above 1.
        min_size: see `scales`.
        max_size: see `scales`.
        tilted: whether tilted integral images are needed.

    Returns:
        A `Pyramid`. Its arrays are valid until the thread builds the next one.
    """
    height, width = gray.shape
    found = scales((width, height), window, factor, min_size, max_size)
    sizes = [
        tuple(int(np.rint(np.float32(side) / scale)) for side in (width, height))
        for scale in found
    ]
    stride = max([w + 1 for w, _ in sizes], default=0)
    stride += stride % 2
    lengths = [(h + 1) * stride for _, h in sizes]
    # A block of windows may look beyond the last.
    sums, squares, rotated = _reserve(sum(lengths) + scan.BEYOND, bool(tilted))
    levels, start, stripes = [], 0, 0
    for scale, (w, h), length in zip(found, sizes, lengths, strict=True):
        step = 1 if scale >= 2 else 2
        rows, columns = h + 1 - window[1], w + 1 - window[0]
        if not levels:
            stripes = -(-max(columns, 0) // 32)
        rows, columns = _count(rows, step, stripes), -(-max(columns, 0) // step)
        levels.append(Level(scale, step, start, rows, columns))
        if rows and columns:
            _integrate(
                cv2.resize(gray, (w, h), interpolation=cv2.INTER_LINEAR_EXACT),
                step,
                [
                    buffer[start : start + length].reshape(h + 1, stride)
                    for buffer in (sums, squares, rotated)[: 3 if tilted else 2]
                ],
            )
        start += length
    return Pyramid(levels, stride, sums, squares, rotated)


def _count(places, step, stripes):
    """Counts rows of windows as OpenCV does, which shares them out in stripes.

    A row that is left over where `places` is odd and the step is 2 may be lost.
    """
    if places <= 0 or not stripes:
        return 0
    stripe = max((places // step + stripes - 1) // stripes, 1) * step
    return -(-min(stripes * stripe, places) // step)


def _integrate(image, step, targets):
    depth = cv2.CV_32S
    if len(targets) == 3:
        integrals = cv2.integral3(image, sdepth=depth, sqdepth=depth)
    else:
        integrals = cv2.integral2(image, sdepth=depth, sqdepth=depth)
    for integral, target in zip(integrals, targets, strict=True):
        if step == 1:
            target[:, : integral.shape[1]] = integral
        else:
            scan.split_columns(integral, target)


def _reserve(count, tilted):
    """Gives three buffers, those of the thread's last call where they are as large."""
    kept = getattr(_buffers, "kept", None)
    if kept is None or len(kept[0]) < count:
        kept = _buffers.kept = (np.empty(count, np.int32), np.empty(count, np.int32))
    if not tilted:
        return *kept, np.zeros(1, np.int32)
    other = getattr(_buffers, "tilted", None)
    if other is None or len(other) < count:
        other = _buffers.tilted = np.empty(count, np.int32)
    return *kept, other
