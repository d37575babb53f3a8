"""Grows a forest with TensorFlow operations, on the replicas of a `tf.distribute`.

Pictures are sharded over replicas (and workers): each counts its own pixels, and the
integer histograms are added up over all, so every worker picks the same splits, which
are those of `compiled_growth.CompiledEngine`. Blocks of pictures stream through; where
a pixel is in the tree is found anew by walking down what there is of it, so a replica
holds one block and one set of histograms.
"""

import math

import numpy as np
import tensorflow as tf

from mlcvtf.segmentation.body_parts import information
from mlcvtf.segmentation.body_parts.candidates import candidates
from mlcvtf.segmentation.body_parts.features import OFFSET_STEPS, THRESHOLD_STEPS

# Pixels of a block, features that are computed at once, and integers of the histograms
# that are filled in one pass over the pictures.
BLOCK = 1 << 15
FEATURES = 32
HISTOGRAMS = 1 << 24
# A child of a growing tree: a split's number, a leaf, or an open node, whose number is
# taken off this.
LEAF, OPEN = -1, -2

FLOATS, INTS = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)
# Depth of a block's people; of its pixels row and column, address of the frame's
# corner and length of a line, bounds, and class.
SIGNATURE = (
    FLOATS,
    tf.TensorSpec([None, 2], tf.float32),
    tf.TensorSpec([None, 2], tf.int32),
    tf.TensorSpec([None, 4], tf.float32),
    INTS,
)


class TensorFlowEngine:
    """Searches the splits of a tree's open nodes, as `CompiledEngine` does.

    Args:
        people: `training_pixels.People`.
        pixels: int32 `[n, 4]`, by image.
        classes: how many.
        options: `forest_training.Options`.
        threads: not used; TensorFlow has its own.
        tree: number of the tree.
        pool: int16 `[k, 4]`, or None.
        strategy: of `tf.distribute`; the current one by default.
    """

    def __init__(
        self, people, pixels, classes, options, threads, tree, pool=None, strategy=None
    ):
        self._people, self._pixels, self._classes = people, pixels, classes
        self._options, self._tree, self._pool = options, tree, pool
        self._strategy = strategy or tf.distribute.get_strategy()
        self._tables = information.fixed_point_tables()
        self._offsets = np.zeros((0, 4), np.int16)
        self._thresholds = np.zeros(0, np.int16)
        self._children = np.zeros((0, 2), np.int32)
        self._root, self._open, self._levels = OPEN, 1, 0
        self._blocks = self._strategy.distribute_datasets_from_function(self._shard)
        self._reduced_histograms = self._over_replicas(_histograms)
        self._reduced_counts = self._over_replicas(_counts)

    def root_counts(self) -> np.ndarray:
        """Counts the pixels of each class, int64 `[classes]`."""
        return self._count()[0]

    def search(self, index, paths):
        """Finds the best candidate of open nodes; see `CompiledEngine.search`."""
        count = self._options.features
        bins = self._options.thresholds + 1
        per_feature = bins * self._classes
        # As many features of a node as fit, and then as many nodes.
        some = max(1, min(count, HISTOGRAMS // per_feature))
        nodes = max(1, HISTOGRAMS // (per_feature * some))
        scores = np.full(len(index), np.iinfo(np.int64).min, np.int64)
        offsets = np.zeros((len(index), 4), np.int16)
        thresholds = np.zeros(len(index), np.int16)
        for start in range(0, len(index), nodes):
            part = slice(start, start + nodes)
            tried, at = candidates(self._options, self._tree, paths[part], self._pool)
            each, rows = np.arange(len(at)), np.arange(len(at)) + start
            for low in range(0, count, some):
                found = self._fill(index[part], tried[:, low : low + some], at)
                best = information.best_split(found, self._tables)
                better = best[:, 0] > scores[part]
                chosen = tried[each, low + best[:, 1]], at[each, best[:, 2]]
                scores[rows[better]] = best[better, 0]
                offsets[rows[better]] = chosen[0][better]
                thresholds[rows[better]] = chosen[1][better]
        return scores, offsets, thresholds

    def split(self, index, offsets, thresholds):
        """Splits some of the open nodes; see `CompiledEngine.split`."""
        becomes = np.full(self._open, LEAF, np.int32)
        becomes[index] = len(self._children) + np.arange(len(index))
        below = self._children
        below = np.where(below <= OPEN, becomes[np.maximum(OPEN - below, 0)], below)
        if self._root <= OPEN:
            self._root = int(becomes[0])
        new = OPEN - np.arange(2 * len(index), dtype=np.int32).reshape(-1, 2)
        self._children = np.concatenate([below, new]).astype(np.int32)
        self._offsets = np.concatenate([self._offsets, offsets])
        self._thresholds = np.concatenate([self._thresholds, thresholds])
        self._open, self._levels = 2 * len(index), self._levels + 1
        return self._count().reshape(-1, 2, self._classes).astype(np.int32)

    def _growing(self):
        """Returns the tree so far, for `_slots`."""
        return (
            tf.constant(self._offsets),
            tf.constant(self._thresholds),
            tf.constant(self._children.reshape(-1)),
            tf.constant(self._root),
            tf.constant(self._levels),
        )

    def _count(self):
        total = np.zeros((self._open, self._classes), np.int64)
        sizes = tf.constant([self._open, self._classes])
        for block in self._blocks:
            total += self._reduced_counts(block, self._growing(), sizes).numpy()
        return total

    def _fill(self, index, offsets, thresholds):
        """Counts over all pictures, int64 `[nodes, features, bins, classes]`."""
        number = np.full(self._open, -1, np.int32)
        number[index] = np.arange(len(index))
        steps = np.arange(-THRESHOLD_STEPS, THRESHOLD_STEPS)
        bins = np.stack([np.searchsorted(own, steps, "right") for own in thresholds])
        sizes = (*offsets.shape[:2], thresholds.shape[1] + 1, self._classes)
        total = np.zeros(sizes, np.int64)
        tried = tf.constant(offsets.astype(np.float32) / np.float32(OFFSET_STEPS))
        arguments = (
            self._growing(),
            tf.constant(number),
            tried,
            tf.constant(bins.astype(np.int32)),
            tf.constant(sizes),
        )
        for block in self._blocks:
            total += self._reduced_histograms(block, *arguments).numpy()
        return total

    def _over_replicas(self, function):
        """Compiles a count of a block, added up over the replicas."""

        @tf.function(reduce_retracing=True)
        def reduced(block, *arguments):
            counts = self._strategy.run(function, args=(block, *arguments))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, counts, axis=None)

        return reduced

    def _shard(self, context):
        """Makes the blocks of this worker, one after the other for its replicas."""
        workers, own = context.num_input_pipelines, context.input_pipeline_id
        replicas = self._strategy.num_replicas_in_sync
        bounds = _block_bounds(self._pixels[:, 0])
        # Empty blocks at the end, so that all replicas have equally many.
        rounds = math.ceil(len(bounds) / replicas)
        bounds += [(0, 0)] * (rounds * replicas - len(bounds))

        def blocks():
            for start, stop in bounds[own::workers]:
                yield _block(self._people, self._pixels[start:stop])

        return tf.data.Dataset.from_generator(blocks, output_signature=SIGNATURE)


def _block_bounds(images):
    """Cuts pixels into blocks of whole pictures, at least one each."""
    ends = np.flatnonzero(np.diff(images)) + 1
    bounds, start = [], 0
    for end in [*ends.tolist(), len(images)]:
        if end - start >= BLOCK or end == len(images):
            bounds.append((start, end))
            start = end
    return bounds


def _block(people, pixels):
    """Makes the tensors of `SIGNATURE` as arrays."""
    images, number = np.unique(pixels[:, 0], return_inverse=True)
    cut = [people.depth_of(image).ravel() for image in images.tolist()]
    depth = np.concatenate([np.zeros(0, np.float32), *cut])
    first = np.cumsum([0, *map(len, cut)])[:-1][number.reshape(-1)]
    _, top, left, height, width = people.place[pixels[:, 0], :5].T
    lines = width + 2
    return (
        depth,
        (pixels[:, 1:3] + 1.5).astype(np.float32),
        np.stack([first - top * lines - left, lines], 1).astype(np.int32),
        np.stack([top, left, top + height + 1, left + width + 1], 1).astype(np.float32),
        pixels[:, 3],
    )


def _values(block, offsets, pixels=None):
    """Computes features in whole steps of a threshold, within -512..511.

    Args:
        block: of `SIGNATURE`.
        offsets: float32 `[n, f, 4]` in pixel metres.
        pixels: int32 `[n]`; all by default.

    Returns:
        int32 `[n, f]`.
    """
    depth, places, addresses, bounds, _ = block
    if pixels is not None:
        places, addresses, bounds = (
            tf.gather(part, pixels) for part in (places, addresses, bounds)
        )
    here = tf.cast(places, tf.int32)
    here = addresses[:, 0] + here[:, 0] * addresses[:, 1] + here[:, 1]
    reciprocal = (1.0 / tf.gather(depth, here))[:, None]

    def probe(x, y):
        row = tf.maximum(places[:, :1] + y * reciprocal, bounds[:, :1])
        column = tf.maximum(places[:, 1:] + x * reciprocal, bounds[:, 1:2])
        row = tf.cast(tf.minimum(row, bounds[:, 2:3]), tf.int32)
        column = tf.cast(tf.minimum(column, bounds[:, 3:]), tf.int32)
        return tf.gather(depth, addresses[:, :1] + row * addresses[:, 1:] + column)

    value = probe(offsets[..., 0], offsets[..., 1])
    value = (value - probe(offsets[..., 2], offsets[..., 3])) * float(THRESHOLD_STEPS)
    least, most = float(-THRESHOLD_STEPS), float(THRESHOLD_STEPS - 1)
    return tf.cast(tf.floor(tf.clip_by_value(value, least, most)), tf.int32)


def _slots(block, growing):
    """Finds the open node of each pixel, int32 `[n]`; -1 where it is in a leaf."""
    offsets, thresholds, children, root, levels = growing
    node = tf.zeros_like(block[4]) + root
    for _ in tf.range(levels):
        split = tf.maximum(node, 0)
        steps = tf.cast(tf.gather(offsets, split), tf.float32) / OFFSET_STEPS
        value = _values(block, steps[:, None])[:, 0]
        right = value >= tf.cast(tf.gather(thresholds, split), tf.int32)
        below = tf.gather(children, 2 * split + tf.cast(right, tf.int32))
        node = tf.where(node >= 0, below, node)
    return OPEN - node


def _counts(block, growing, sizes):
    """Counts a block's pixels by open node and class."""
    slots = _slots(block, growing)
    open_ = slots >= 0
    flat = tf.boolean_mask(slots * sizes[1] + block[4], open_)
    return tf.reshape(_bincount(flat, sizes[0] * sizes[1]), sizes)


def _histograms(block, growing, number, offsets, bins, sizes):
    """Counts a block's pixels by node, feature, bin and class."""
    slots = _slots(block, growing)
    nodes = tf.where(slots >= 0, tf.gather(number, tf.maximum(slots, 0)), -1)
    pixels = tf.reshape(tf.cast(tf.where(nodes >= 0), tf.int32), [-1])
    nodes, labels = tf.gather(nodes, pixels), tf.gather(block[4], pixels)
    bins = tf.reshape(bins, [-1])
    parts = tf.TensorArray(tf.int32, 0, dynamic_size=True, infer_shape=False)
    count = sizes[1]
    for low in tf.range(0, count, FEATURES):
        high = tf.minimum(low + FEATURES, count)
        tried = tf.gather(offsets[:, low:high], nodes)
        steps = _values(block, tried, pixels) + THRESHOLD_STEPS
        place = tf.gather(bins, nodes[:, None] * (2 * THRESHOLD_STEPS) + steps)
        # Features first, so that their parts follow each other.
        some = tf.range(high - low)[None]
        flat = (some * sizes[0] + nodes[:, None]) * sizes[2] + place
        flat = tf.reshape(flat * sizes[3] + labels[:, None], [-1])
        counted = _bincount(flat, (high - low) * sizes[0] * sizes[2] * sizes[3])
        parts = parts.write(low // FEATURES, counted)
    total = parts.concat()
    by_feature = tf.stack([count, sizes[0], sizes[2], sizes[3]])
    return tf.transpose(tf.reshape(total, by_feature), [1, 0, 2, 3])


def _bincount(values, size):
    return tf.math.unsorted_segment_sum(tf.ones_like(values), values, size)
