"""The scan of a cascade in operations that LiteRT has built in (TensorFlow only).

It follows `pyramid.py` and `scan.py`, and gives the same windows and scores. LiteRT has
no float64; what they compute in it is computed otherwise here: spreads and sums of
votes in int64, the reciprocal of a root in two float32. Nothing in a loop is ever
empty, which LiteRT does not take: a list of windows ends with one that nobody looks at.

What may differ: where a side of a shrunken picture is a multiple of 256, a pixel by 1
(`level_graph.shrink`); the norm of one window in about 2^19 by its last bit
(`level_graph.norms`); and sums of votes, which are exact here, where one vote is more
than 2^29 times another.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mlcvtf.detection.viola_jones.level_graph import Grid, begins, look, norms, phases
from mlcvtf.ops import integral

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
    parts = phases(level.sums, grid.step)
    values = []
    for block in blocks:
        count = len(block.nodes)
        looks = (block.looks.stop - block.looks.start) // count
        places = begins(
            tables.corners[block.looks], tables.tilted[block.looks], grid.step
        )
        places = tf.reshape(places, [looks, count, 5])
        factors = tf.reshape(tables.factors[block.parts], [-1, count])
        for node in range(count):
            entries = [look(parts, grid, places[i, node]) for i in range(looks)]
            values.append(_add_up(tf.stack(entries), factors[:, node], block.pairs))
    return tf.concat(values, 0)


def listed_values(level: Level, places, blocks: list[Block], tables: Tables):
    """Computes features of listed windows, int32 `[n]`; the rest as `dense_values`."""
    values = []
    for block in blocks:
        index = level.offsets[block.looks][:, None] + places
        entries = tf.gather(level.lookup, index)
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
    below = tf.cast(values * norms < tables.thresholds[places][:, None], tf.int32)
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
