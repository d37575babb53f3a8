"""The windows of a shrunken picture, for `scan_graph.py` (TensorFlow only).

Pixels are OpenCV's, and norms of windows those that `kernels.py` computes in float64,
in whole numbers and pairs of float32.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Bits of OpenCV's weights between two pixels of a row or column.
WEIGHT_BITS = 8


class Grid(NamedTuple):
    """The windows of a level, as tensors.

    Attributes:
        step: pixels from one to the next.
        rows: number of rows of windows, at least 1.
        columns: number of columns of windows, at least 1.
    """

    step: tf.Tensor
    rows: tf.Tensor
    columns: tf.Tensor


def shrink(gray, height, width):
    """Shrinks a picture as OpenCV's INTER_LINEAR_EXACT does.

    OpenCV computes the weights in float64 and rounds them to 1/256; where the size is a
    multiple of 256 they may lie in the middle, and OpenCV's error decides then what is
    rounded to even here.

    Args:
        gray: int32 `[height, width]` in 0..255.
        height: int32, at most that of the picture.
        width: the same.

    Returns:
        int32 `[height, width]`.
    """
    rows, columns = tf.unstack(tf.shape(gray))
    first, second, weight = _neighbours(rows, height)
    one = 1 << WEIGHT_BITS
    weight = weight[:, None]
    mixed = tf.gather(gray, first) * (one - weight) + tf.gather(gray, second) * weight
    first, second, weight = _neighbours(columns, width)
    mixed = (
        tf.gather(mixed, first, axis=1) * (one - weight)
        + tf.gather(mixed, second, axis=1) * weight
    )
    return tf.bitwise.right_shift(mixed + one * one // 2, 2 * WEIGHT_BITS)


def _neighbours(source, target):
    """Returns int32 `[target]` both pixels that are mixed, and the second's weight."""
    # The centre of a pixel among the source's, times twice the target's size.
    place = source * (2 * tf.range(target) + 1) - target
    first = place // (2 * target)
    part = (place - first * 2 * target) * (1 << WEIGHT_BITS)
    weight = (part + target) // (2 * target)
    middle = tf.equal((part + target) % (2 * target), 0)
    weight = weight - tf.where(middle, weight % 2, 0)
    return first, tf.minimum(first + 1, source - 1), weight


def norms(sums, squares, grid: Grid, window: tuple[int, int]):
    """Returns 1 / (area * deviation) of windows, -1 where they are flat.

    As `kernels._norms`: 1 / sqrt(s) rounded to float32, with s the area times the sum
    of squares, less the squared sum. One step of Newton's method from float32's own
    root, whose residual 1 - s y y is computed in two float32 (Dekker, 1971), leaves an
    error of 2^-44 before the last rounding.

    Args:
        sums: int32 `[height + 1, width + 1]`, the integral image.
        squares: int64, the same of squares.
        grid: the windows.
        window: width and height.

    Returns:
        float32 `[rows * columns]`.
    """
    width, height = window
    area = (width - 2) * (height - 2)

    def inner(entries):
        parts = phases(entries[None], grid.step)
        right, down = width - 1, height - 1
        corners = tf.constant([(1, 1), (right, 1), (1, down), (right, down)])
        places = tf.unstack(begins(corners, tf.zeros(4, tf.int32), grid.step))
        a, b, c, d = (look(parts, grid, place) for place in places)
        return tf.cast(a - b - c + d, tf.int64)

    total = inner(sums)
    spread = inner(squares) * area - total * total
    counted = tf.maximum(spread, tf.constant(1, tf.int64))
    high = tf.cast(counted, tf.float32)
    low = tf.cast(counted - tf.cast(high, tf.int64), tf.float32)
    root = 1.0 / tf.sqrt(high)
    square, square_rest = _product(root, root)
    one, one_rest = _product(high, square)
    residual = (1.0 - one) - one_rest - high * square_rest - low * square
    norm = root + root * (residual * 0.5)
    good = (spread > 0) & (norm <= _least_deviation(area))
    return tf.where(good, norm, -1.0)


def _product(a, b):
    """Returns the product of float32 in two parts, whose sum is exact."""
    product = a * b
    (high, low), (other_high, other_low) = _halves(a), _halves(b)
    rest = high * other_high - product + high * other_low + low * other_high
    return product, rest + low * other_low


def _halves(a):
    """Returns two float32 of 12 bits whose sum is `a`."""
    high = 4097.0 * a
    high = high - (high - a)
    return high, a - high


def _least_deviation(area):
    """Returns the largest float32 whose product with the area is below 0.1."""
    norm = np.float32(0.1 / area)
    while not area * np.float64(norm) < 0.1:
        norm = np.nextafter(norm, np.float32(0))
    return norm


def phases(sums, step):
    """Takes integral images apart by the remainders of rows and columns by the step.

    Windows that lie `step` apart look up neighbours in each part.

    Args:
        sums: `[planes, height, width]`.
        step: int32.

    Returns:
        `[planes, step, step, height / step, width / step]`, rounded up.
    """
    planes = sums.shape[0]
    height, width = tf.unstack(tf.shape(sums)[1:])
    sums = tf.pad(sums, [[0, 0], [0, -height % step], [0, -width % step]])
    rows, columns = (height + step - 1) // step, (width + step - 1) // step
    sums = tf.reshape(sums, tf.stack([planes, rows, step, columns, step]))
    return tf.transpose(sums, [0, 2, 4, 1, 3])


def begins(corners, planes, step):
    """Returns where what corners look up begins in `phases`.

    Args:
        corners: int32 `[n, 2]` column and row in a window.
        planes: int32 `[n]`.
        step: int32.

    Returns:
        int32 `[n, 5]`.
    """
    column, row = tf.unstack(corners, axis=-1)
    place = [planes, row % step, column % step, row // step, column // step]
    return tf.stack(place, axis=1)


def look(parts, grid: Grid, begin):
    """Looks up one corner of all windows.

    Args:
        parts: from `phases`.
        grid: the windows.
        begin: int32 `[5]`, from `begins`.

    Returns:
        `[rows * columns]`.
    """
    size = tf.stack([1, 1, 1, grid.rows, grid.columns])
    return tf.reshape(tf.slice(parts, begin, size), [-1])
