"""The scan of a cascade in operations that LiteRT has built in (TensorFlow only).

It follows `pyramid.py` and `scan.py`. LiteRT has no float64, so that what these compute
in it is computed otherwise here, with the same results: spreads and sums of votes in
int64, the reciprocal of a root in two float32. Nothing in a loop is ever empty, which
LiteRT does not take: a list of windows ends with one that nobody looks at.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mlcvtf.ops import integral

# Bits of OpenCV's weights between two pixels of a row or column.
WEIGHT_BITS = 8


class Tables(NamedTuple):
    """A cascade node by node, as tensors.

    Attributes:
        rectangles: int `[nodes, 3, 4]` x, y, width and height, 0 where there is none.
        weights: float32 `[nodes, 3]`.
        tilted: int `[nodes]`, 1 where tilted.
        thresholds: float32 `[nodes]`.
        votes: int64 `[trees, n]`, `Cascade.tables` as whole numbers.
        stage_thresholds: int64 `[stages]`, the same.
    """

    rectangles: tf.Tensor
    weights: tf.Tensor
    tilted: tf.Tensor
    thresholds: tf.Tensor
    votes: tf.Tensor
    stage_thresholds: tf.Tensor


class Form(NamedTuple):
    """What a graph is built by.

    Attributes:
        window: width and height in pixels.
        stage_trees: number of trees of each stage.
        tree_nodes: number of nodes of each tree.
        tilted: whether any feature is.
    """

    window: tuple[int, int]
    stage_trees: tuple[int, ...]
    tree_nodes: tuple[int, ...]
    tilted: bool


class Level(NamedTuple):
    """A picture at one size, as tensors.

    Attributes:
        lookup: int32 `[n]`, the integral image and, behind it, the tilted one.
        stride: entries from one row to the next.
        offsets: int32 `[4, 3, nodes]`, corners of rectangles from a window's first.
    """

    lookup: tf.Tensor
    stride: tf.Tensor
    offsets: tf.Tensor


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


def prepare(picture, form: Form, tables: Tables):
    """Integrates a picture.

    Args:
        picture: int32 `[height, width]`.
        form: of the cascade.
        tables: its numbers.

    Returns:
        A `Level`, and int64 `[(height + 1) * (width + 1)]`, the integrals of squares.
    """
    sums = tf.reshape(integral.integral(picture), [-1])
    squares = tf.reshape(integral.squared_integral(picture), [-1])
    stride = tf.shape(picture)[1] + 1
    x, y, w, h = tf.unstack(tf.cast(tables.rectangles, tf.int32), axis=-1)
    right, down = x + w, y + h
    corners = [(x, y), (right, y), (x, down), (right, down)]
    turned = tf.cast(tables.tilted, tf.int32)[:, None]
    start = 0
    if form.tilted:
        start = turned * tf.shape(sums)[0]
        sums = tf.concat([sums, tf.reshape(integral.tilted_integral(picture), [-1])], 0)
        rotated = [(x, y), (x - h, y + h), (x + w, y + w), (right - h, down + w)]
        corners = [
            [tf.where(turned > 0, a, b) for a, b in zip(one, other, strict=True)]
            for one, other in zip(rotated, corners, strict=True)
        ]
    offsets = tf.stack([row * stride + column + start for column, row in corners])
    return Level(sums, stride, tf.transpose(offsets, [0, 2, 1])), squares


def norms(level: Level, squares, places, window: tuple[int, int]):
    """Returns 1 / (area * deviation) of windows, -1 where they are flat.

    As `kernels._norms`: 1 / sqrt(s) rounded to float32, with s the area times the sum
    of squares, less the squared sum. One step of Newton's method from float32's own
    root, whose residual 1 - s y y is computed in two float32 (Dekker, 1971), leaves an
    error of 2^-44 before the last rounding.

    Args:
        level: from `prepare`.
        squares: the same.
        places: int32 `[n]`.
        window: width and height.
    """
    width, height = window
    area = (width - 2) * (height - 2)

    def inner(entries):
        a, b, c, d = (
            tf.gather(entries, places + (row * level.stride + column))
            for row in (1, height - 1)
            for column in (1, width - 1)
        )
        return tf.cast(a - b - c + d, tf.int64)

    total = inner(level.lookup)
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


def stage_sums(number, level: Level, places, norms, form: Form, tables: Tables):
    """Sums the votes of a stage.

    Args:
        number: of the stage.
        level: from `prepare`.
        places: int32 `[n]`.
        norms: float32 `[n]`.
        form: of the cascade.
        tables: its numbers.

    Returns:
        int64 `[n]`.
    """
    first = sum(form.stage_trees[:number])
    trees = slice(first, first + form.stage_trees[number])
    sizes = form.tree_nodes[trees]
    start = sum(form.tree_nodes[:first])
    count = sum(sizes)
    nodes = slice(start, start + count)
    a, b, c, d = (
        tf.gather(
            level.lookup,
            places[:, None] + tf.reshape(level.offsets[corner, :, nodes], [-1]),
        )
        for corner in range(4)
    )
    # The weighted sums of first rectangles, then second, then third.
    factors = tf.reshape(tf.transpose(tables.weights[nodes]), [-1])
    sums = tf.cast(a - b - c + d, tf.float32) * factors
    values = sums[:, :count] + sums[:, count : 2 * count] + sums[:, 2 * count :]
    below = values * norms[:, None] < tables.thresholds[nodes]
    bits = _bits(tf.cast(below, tf.int32), sizes)
    width = tables.votes.shape[1]
    rows = width * np.arange(len(sizes), dtype=np.int32)
    votes = tf.gather(tf.reshape(tables.votes[trees], [-1]), bits + rows)
    return tf.reduce_sum(votes, axis=1)


def _bits(below, sizes):
    """Returns int32 `[n, trees]`, the columns of `Cascade.tables`.

    Args:
        below: int32 `[n, nodes]` of 0 and 1.
        sizes: number of nodes of each tree.
    """
    widest = max(sizes)
    if widest == 1:
        return below
    places = np.zeros((len(sizes), widest), np.int32)
    factors = np.zeros((len(sizes), widest), np.int32)
    start = 0
    for tree, size in enumerate(sizes):
        places[tree, :size] = np.arange(start, start + size)
        factors[tree, :size] = 1 << np.arange(size)
        start += size
    bits = 0
    for node in range(widest):
        bits = bits + tf.gather(below, places[:, node], axis=1) * factors[:, node]
    return bits


def seen(low, good, rows, columns):
    """Says which windows OpenCV looks at: after one turned down it skips the next.

    In a row of windows that would all be turned down it skips every other one.

    Args:
        low: bool `[rows * columns]`, which the first stage would turn down.
        good: bool `[rows * columns]`, which are not flat.
        rows: number of rows.
        columns: number of columns.

    Returns:
        bool `[rows * columns]`.
    """
    down = tf.cast(low & good, tf.int32)
    # A column in front, in which nothing is turned down, begins each row anew.
    down = tf.reshape(down, tf.stack([rows, columns]))
    down = tf.reshape(tf.pad(down, [[0, 0], [1, 0]]), [-1])
    stays = tf.reshape(tf.cast(tf.where(down < 1), tf.int32), [-1])
    last = tf.gather(stays, tf.cumsum(1 - down) - 1)
    run = tf.range(tf.shape(down)[0]) - last
    run = tf.reshape(run, tf.stack([rows, columns + 1]))[:, :-1]
    return tf.reshape(tf.equal(run % 2, 0), [-1])


def scan_level(picture, step, rows, columns, form: Form, tables: Tables):
    """Lists the windows of a level that pass all stages.

    Args:
        picture: int32 `[height, width]`.
        step: pixels between windows.
        rows: number of rows of windows, at least 1.
        columns: number of columns of windows, at least 1.
        form: of the cascade.
        tables: its numbers.

    Returns:
        int32 `[n]` column and int32 `[n]` row of the windows; int64 `[n]` by how much
        the sum of the last stage is above its threshold. The last window is none, and
        its number -1.
    """
    level, squares = prepare(picture, form, tables)
    places = tf.range(rows)[:, None] * (step * level.stride) + tf.range(columns) * step
    places = tf.reshape(places, [-1])
    norm = norms(level, squares, places, form.window)
    sums = stage_sums(0, level, places, norm, form, tables)
    good, low = norm >= 0, sums < tables.stage_thresholds[0]
    kept = good & ~low & seen(low, good, rows, columns)
    places, norm, sums = (tf.pad(one, [[0, 1]]) for one in (places, norm, sums))
    for number in range(1, len(form.stage_trees)):
        places, norm = (tf.boolean_mask(one, _and_last(kept)) for one in (places, norm))
        sums = stage_sums(number, level, places, norm, form, tables)
        kept = (sums >= tables.stage_thresholds[number])[:-1]
    kept = _and_last(kept)
    places, sums = tf.boolean_mask(places, kept), tf.boolean_mask(sums, kept)
    margins = sums - tables.stage_thresholds[-1]
    margins = tf.concat([margins[:-1], tf.constant([-1], tf.int64)], 0)
    return places % level.stride, places // level.stride, margins


def _and_last(kept):
    return tf.concat([kept, [True]], 0)
