"""The scan of a cascade in operations that LiteRT has built in (TensorFlow only).

It follows `pyramid.py` and `scan.py`, and gives the same windows and scores. LiteRT has
no float64; what they compute in it is computed otherwise here: spreads and sums of
votes in int64, the reciprocal of a root in two float32. Nothing in a loop is ever
empty, which LiteRT does not take: a list of windows ends with one that nobody looks at.

What may differ: where a side of a shrunken picture is a multiple of 256, a pixel by 1
(`shrink`); the norm of one window in about 2^19 by its last bit (`norms`); and sums of
votes, which are exact here, where one vote is more than 2^29 times another.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mlcvtf.ops import integral

# Bits of OpenCV's weights between two pixels of a row or column.
WEIGHT_BITS = 8
# Nodes of a first stage up to which each is an operation of its own over whole rows.
DENSE_NODES = 64


class Tables(NamedTuple):
    """A cascade node by node, in the order of `Form.blocks`, as tensors.

    Attributes:
        corners: int32 `[looks, 2]` column and row of what is looked up in a window.
        factors: float32 `[parts]`, of pairs of corners or of rectangles.
        tilted: int32 `[looks]`, 1 where tilted.
        thresholds: float32 `[nodes]`.
        votes: int64 `[trees, n]`, `Cascade.tables` as whole numbers.
        stage_thresholds: int64 `[stages]`, the same.
    """

    corners: tf.Tensor
    factors: tf.Tensor
    tilted: tf.Tensor
    thresholds: tf.Tensor
    votes: tf.Tensor
    stage_thresholds: tf.Tensor


class Block(NamedTuple):
    """Nodes of a stage that are computed alike.

    Attributes:
        nodes: int `[n]`, their numbers.
        pairs: how many pairs of corners each has (`scan.corner_pairs`), 0 where
            features are summed by rectangles.
        looks: slice of `Tables.corners`: the first corners of the first pairs, of the
            second and so on, then all second corners; or the four corners in turn of
            first rectangles, then second and third ones.
        parts: slice of `Tables.factors`, in the same order.
        places: slice of `Tables.thresholds`.
    """

    nodes: np.ndarray
    pairs: int
    looks: slice
    parts: slice
    places: slice


class Form(NamedTuple):
    """What a graph is built by.

    Attributes:
        window: width and height in pixels.
        stage_trees: number of trees of each stage.
        tree_nodes: number of nodes of each tree.
        pairs: number of each node's pairs of corners.
        tilted: whether any feature is.
    """

    window: tuple[int, int]
    stage_trees: tuple[int, ...]
    tree_nodes: tuple[int, ...]
    pairs: tuple[int, ...]
    tilted: bool

    def trees(self, stage: int) -> slice:
        """Returns the trees of a stage."""
        first = sum(self.stage_trees[:stage])
        return slice(first, first + self.stage_trees[stage])

    def blocks(self) -> list[list[Block]]:
        """Returns the blocks of each stage."""
        stages, pairs = [], np.array(self.pairs)
        look = part = place = 0
        for stage in range(len(self.stage_trees)):
            trees, blocks = self.trees(stage), []
            first, last = (
                sum(self.tree_nodes[:end]) for end in (trees.start, trees.stop)
            )
            for count in np.unique(pairs[first:last]).tolist():
                nodes = first + np.flatnonzero(pairs[first:last] == count)
                ends = (
                    look + (2 * count or 12) * len(nodes),
                    part + (count or 3) * len(nodes),
                    place + len(nodes),
                )
                slices = map(slice, (look, part, place), ends)
                blocks.append(Block(nodes, count, *slices))
                look, part, place = ends
            stages.append(blocks)
        return stages


class Level(NamedTuple):
    """A picture at one size, as tensors.

    Attributes:
        sums: int32 `[planes, height + 1, width + 1]`, the integral image and, where it
            is needed, the tilted one.
        lookup: the same, flat.
        offsets: int32 `[looks]`, where corners are from a window's first entry.
    """

    sums: tf.Tensor
    lookup: tf.Tensor
    offsets: tf.Tensor


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


def prepare(picture, form: Form, tables: Tables) -> Level:
    """Integrates a picture.

    Args:
        picture: int32 `[height, width]`.
        form: of the cascade.
        tables: its numbers.
    """
    sums = integral.integral(picture)[None]
    height, width = tf.unstack(tf.shape(sums)[1:])
    column, row = tf.unstack(tables.corners, axis=-1)
    offsets = row * width + column
    if form.tilted:
        sums = tf.concat([sums, integral.tilted_integral(picture)[None]], 0)
        offsets += tables.tilted * (height * width)
    return Level(sums, tf.reshape(sums, [-1]), offsets)


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
        phases = _phases(entries[None], grid.step)
        right, down = width - 1, height - 1
        corners = tf.constant([(1, 1), (right, 1), (1, down), (right, down)])
        begins = tf.unstack(_begins(corners, tf.zeros(4, tf.int32), grid.step))
        a, b, c, d = (_look(phases, grid, begin) for begin in begins)
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


def _phases(sums, step):
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


def _begins(corners, planes, step):
    """Returns where corners begin in `_phases`, int32 `[n, 5]`."""
    column, row = tf.unstack(corners, axis=-1)
    place = [planes, row % step, column % step, row // step, column // step]
    return tf.stack(place, axis=1)


def _look(phases, grid, begin):
    """Looks up one corner of all windows; returns `[rows * columns]`."""
    size = tf.stack([1, 1, 1, grid.rows, grid.columns])
    return tf.reshape(tf.slice(phases, begin, size), [-1])


def dense_values(level: Level, grid: Grid, blocks: list[Block], tables: Tables):
    """Computes features of all windows of a level.

    Args:
        level: from `prepare`.
        grid: the windows.
        blocks: of a stage.
        tables: numbers of the cascade.

    Returns:
        float32 `[nodes, rows * columns]`, in the order of the blocks.
    """
    phases = _phases(level.sums, grid.step)
    values = []
    for block in blocks:
        begins = _begins(
            tables.corners[block.looks], tables.tilted[block.looks], grid.step
        )
        for node in range(len(block.nodes)):
            own = begins[node :: len(block.nodes)]
            looks = len(range(block.looks.start, block.looks.stop)) // len(block.nodes)
            entries = [_look(phases, grid, own[look]) for look in range(looks)]
            factors = tables.factors[block.parts][node :: len(block.nodes)]
            values.append(_add_up(tf.stack(entries), factors, block.pairs))
    return tf.concat(values, 0)


def listed_values(level: Level, places, blocks: list[Block], tables: Tables):
    """Computes features of listed windows, int32 `[n]`; the rest as `dense_values`."""
    values = []
    for block in blocks:
        places_of = level.offsets[block.looks, None] + places
        entries = tf.gather(level.lookup, places_of)
        values.append(_add_up(entries, tables.factors[block.parts], block.pairs))
    return tf.concat(values, 0)


def _add_up(entries, factors, pairs):
    """Computes features of a block.

    Args:
        entries: int32 `[looks, n]`.
        factors: float32 `[parts]`.
        pairs: see `Block`.

    Returns:
        float32 `[nodes, n]`, as `value_kernels` has it: in whole numbers by pairs, or
        rectangle by rectangle.
    """
    if pairs:
        plus, minus = tf.split(entries, 2)
        weighted = (plus - minus) * tf.cast(factors, tf.int32)[:, None]
        return tf.cast(tf.add_n(tf.split(weighted, pairs)), tf.float32)
    a, b, c, d = tf.split(entries, 4)
    weighted = tf.cast(a - b - c + d, tf.float32) * factors[:, None]
    first, second, third = tf.split(weighted, 3)
    return first + second + third


def votes(values, norms, stage: int, form: Form, blocks: list[Block], tables: Tables):
    """Sums the votes of a stage.

    Args:
        values: float32 `[nodes, n]`, in the order of the blocks.
        norms: float32 `[n]`.
        stage: its number.
        form: of the cascade.
        blocks: of the stage.
        tables: numbers of the cascade.

    Returns:
        int64 `[n]`.
    """
    trees = form.trees(stage)
    places = slice(blocks[0].places.start, blocks[-1].places.stop)
    below = tf.cast(values * norms < tables.thresholds[places, None], tf.int32)
    order = np.concatenate([block.nodes for block in blocks])
    bits = _bits(below, np.argsort(order), np.array(form.tree_nodes[trees]))
    width = tables.votes.shape[1]
    rows = width * np.arange(trees.stop - trees.start, dtype=np.int32)
    chosen = tf.gather(tf.reshape(tables.votes[trees], [-1]), bits + rows[:, None])
    return tf.reduce_sum(chosen, axis=0)


def _bits(below, places, sizes):
    """Returns int32 `[trees, n]`, the columns of `Cascade.tables`.

    Args:
        below: int32 `[nodes, n]` of 0 and 1.
        places: int `[nodes]`, a node's row in it.
        sizes: int `[trees]`, number of nodes of each tree.
    """
    first = np.cumsum(sizes) - sizes
    bits = 0
    for node in range(max(sizes)):
        there = node < sizes
        row = places[np.where(there, first + node, 0)].astype(np.int32)
        factor = np.where(there, 1 << node, 0).astype(np.int32)
        bits = bits + tf.gather(below, row) * factor[:, None]
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


def scan_level(picture, grid: Grid, form: Form, tables: Tables):
    """Lists the windows of a level that pass all stages.

    Args:
        picture: int32 `[height, width]`.
        grid: the windows.
        form: of the cascade.
        tables: its numbers.

    Returns:
        int32 `[n]` column and int32 `[n]` row of the windows; int64 `[n]` by how much
        the sum of the last stage is above its threshold. The last window is none, and
        its number -1.
    """
    level = prepare(picture, form, tables)
    norm = norms(level.sums[0], integral.squared_integral(picture), grid, form.window)
    stride = tf.shape(picture)[1] + 1
    places = tf.range(grid.rows)[:, None] * (grid.step * stride)
    places = tf.reshape(places + tf.range(grid.columns) * grid.step, [-1])
    blocks = form.blocks()
    if sum(form.tree_nodes[form.trees(0)]) <= DENSE_NODES:
        values = dense_values(level, grid, blocks[0], tables)
    else:
        values = listed_values(level, places, blocks[0], tables)
    sums = votes(values, norm, 0, form, blocks[0], tables)
    good, low = norm >= 0, sums < tables.stage_thresholds[0]
    kept = good & ~low & seen(low, good, grid.rows, grid.columns)
    places, norm, sums = (tf.pad(one, [[0, 1]]) for one in (places, norm, sums))
    for stage in range(1, len(form.stage_trees)):
        places, norm = (tf.boolean_mask(one, _and_last(kept)) for one in (places, norm))
        values = listed_values(level, places, blocks[stage], tables)
        sums = votes(values, norm, stage, form, blocks[stage], tables)
        kept = (sums >= tables.stage_thresholds[stage])[:-1]
    kept = _and_last(kept)
    places, sums = tf.boolean_mask(places, kept), tf.boolean_mask(sums, kept)
    margins = sums - tables.stage_thresholds[-1]
    margins = tf.concat([margins[:-1], tf.constant([-1], tf.int64)], 0)
    return places % stride, places // stride, margins


def _and_last(kept):
    return tf.concat([kept, [True]], 0)
