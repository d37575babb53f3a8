"""The search for the best split as TensorFlow ops, under any `tf.distribute` strategy.

Samples or features are shared out over the replicas. Histograms are whole numbers that
float64 holds exactly, the type that every device adds up and every kind of all-reduce
takes, so that neither the number of replicas nor the order of additions changes a bit:
the splits are those of `boosting.HistogramSearch`.
"""

import numpy as np
import tensorflow as tf

from mlcvtf.detection.viola_jones.boosting import BINS, Split

# Features whose histograms are made at a time.
BLOCK = 512


class TensorSearch:
    """Searches the best split as TensorFlow ops; a `search` for `boosting.Booster`.

    Args:
        bins: uint8 `[features, n]`, the same on every worker.
        samples: number of samples, the first of the n.
        strategy: a `tf.distribute.Strategy`; None for the default device.
        shard: "samples", and histograms are all-reduced, or "features", and each
            replica looks at its own.
        block: features whose histograms are made at a time on a replica.

    Raises:
        ValueError: there is no such way to share.
    """

    def __init__(
        self, bins, samples: int, strategy=None, shard="samples", block: int = BLOCK
    ):
        if shard not in ("samples", "features"):
            raise ValueError(f"samples or features are shared, received {shard!r}")
        self.bins = np.asarray(bins)[:, :samples]
        self.features, self.samples = self.bins.shape
        self._strategy = strategy or tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        self._by_samples = shard == "samples"
        self._block = min(block, self.features)
        parts = self._replicas if self._by_samples else 1
        self._columns = -(-samples // parts)
        self._padded = self._columns * parts
        data = self._strategy.distribute_datasets_from_function(self._shares)
        self._data = list(data)
        self._step = tf.function(self._search)

    def best(self, packed, rows=None, gentle: bool = False) -> Split:
        """Finds the best split; as `boosting.HistogramSearch.best`."""
        packed = np.asarray(packed)
        signed = (packed + 2**31) % 2**32 - 2**31
        both = np.zeros((self._padded, 2))
        both[: self.samples] = np.stack([(packed - signed) >> 32, signed], axis=-1)
        both = tf.constant(both)
        # Features beyond the last fill the last block.
        allowed = np.zeros(self.features + self._block * self._replicas, bool)
        allowed[: self.features] = rows is None
        if rows is not None:
            allowed[np.asarray(rows)] = True
        allowed = tf.constant(allowed)
        found = [self._step(share, both, allowed, gentle) for share in self._data]
        found = np.concatenate([part.numpy() for part in found])
        found = found[found[:, 0] == found[:, 0].max()]
        score, feature, split = found[found[:, 1].argmin()]
        return Split(float(score), int(feature), int(split))

    def _shares(self, context):
        """Makes the data set of a worker: for each block, one share per replica."""
        here = self._replicas // context.num_input_pipelines
        replicas = range(
            here * context.input_pipeline_id, here * (context.input_pipeline_id + 1)
        )
        together = self._block * (1 if self._by_samples else self._replicas)

        def shares():
            for start in range(0, self.features, together):
                for replica in replicas:
                    first, column = start, replica * self._columns
                    if not self._by_samples:
                        first, column = start + replica * self._block, 0
                    part = self.bins[
                        first : first + self._block, column : column + self._columns
                    ]
                    full = np.zeros((self._block, self._columns), np.uint8)
                    full[: part.shape[0], : part.shape[1]] = part
                    yield full, first, column

        return tf.data.Dataset.from_generator(
            shares,
            output_signature=(
                tf.TensorSpec((self._block, self._columns), tf.uint8),
                tf.TensorSpec((), tf.int32),
                tf.TensorSpec((), tf.int32),
            ),
        )

    def _search(self, share, both, allowed, gentle):
        """Returns float64 `[replicas, 3]`: score, feature and bin of each's best."""

        def on_replica(bins, first, column):
            context = tf.distribute.get_replica_context()
            histogram = _histogram(bins, both[column : column + self._columns])
            if self._by_samples:
                histogram = context.all_reduce(tf.distribute.ReduceOp.SUM, histogram)
            usable = allowed[first : first + self._block]
            best = _best(histogram, usable, first, gentle)
            # Each replica has its own row, so that a sum puts them together.
            own = tf.one_hot(
                context.replica_id_in_sync_group, self._replicas, dtype=tf.float64
            )
            return own[:, None] * best

        found = self._strategy.run(on_replica, args=share)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)


def _histogram(bins, both):
    """Adds up weights by feature and bin.

    Args:
        bins: uint8 `[features, samples]`.
        both: float64 `[samples, 2]`, weight and weight times class.

    Returns:
        float64 `[features, 256, 2]`.
    """
    count = tf.shape(bins)[0]
    places = tf.cast(bins, tf.int32) + BINS * tf.range(count)[:, None]
    every = tf.tile(both, [count, 1])
    sums = tf.math.unsorted_segment_sum(every, tf.reshape(places, [-1]), count * BINS)
    return tf.reshape(sums, [count, BINS, 2])


def _best(histogram, usable, first, gentle):
    """Returns float64 `[3]`: score, feature and bin of the best split."""
    below = tf.cumsum(histogram, axis=1)[:, :-1]
    above = tf.reduce_sum(histogram, axis=1, keepdims=True) - below
    weight, signed = tf.stack([above, below])[..., 0], tf.stack([above, below])[..., 1]
    if gentle:
        parts = signed * signed / tf.maximum(weight, 1)
        score = tf.where(tf.reduce_all(weight > 0, axis=0), parts[0] + parts[1], -1)
    else:
        score = tf.abs(signed[0] - signed[1])
    score = tf.reshape(tf.where(usable[:, None], score, -2), [-1])
    best = tf.reduce_max(score)
    # `tf.argmax` does not promise the first of equal ones.
    places = tf.range(tf.shape(score)[0])
    place = tf.reduce_min(tf.where(score == best, places, places[-1]))
    feature, split = place // (BINS - 1) + first, place % (BINS - 1) + 1
    return tf.stack([best, tf.cast(feature, tf.float64), tf.cast(split, tf.float64)])
