"""A cascade as a Keras model: windows, votes and boxes in one graph (TensorFlow only).

It gives what `Cascade.detect_scores` gives; see `scan_graph.py`.
"""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from mlcvtf.detection.viola_jones import scan
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.detection.viola_jones.grouping import OVERLAP
from mlcvtf.detection.viola_jones.level_graph import Grid, shrink
from mlcvtf.detection.viola_jones.scan_graph import Form, Tables, scan_level

# The largest side of a picture.
LARGEST_SIDE = 1 << 15
MAX_DETECTIONS = 100


@keras.saving.register_keras_serializable(package="mlcvtf")
class CascadeDetector(keras.Model):
    """Finds objects by a cascade in pictures of any size.

    Args:
        window: width and height in pixels.
        stage_trees: number of trees of each stage.
        tree_nodes: number of nodes of each tree.
        pairs: of each node, see `scan_graph.Form`.
        tilted: whether any feature is tilted.
        fraction_bits: votes are whole numbers of 2^-fraction_bits.
        scale_factor: between one size of the window and the next, above 1.
        min_neighbors: windows that a box stands for more than.

    `call(gray)`: uint8 `[batch, height, width]`, sides up to 32768, gives a dict:
    "boxes" float32 `[batch, 100, 4]` x1, y1, x2, y2 in pixels, "scores" float32
    `[batch, 100]` descending and "labels" int32 `[batch, 100]`, 0, or -1 where there is
    nothing. These are the first 100 boxes of `Cascade.detect_scores`, but for what
    `scan_graph.py` says.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        window,
        stage_trees,
        tree_nodes,
        pairs,
        tilted: bool = False,
        fraction_bits: int = 40,
        scale_factor: float = 1.1,
        min_neighbors: int = 3,
        **kwargs,
    ):
        # Half precision would turn down other windows.
        super().__init__(**(kwargs | {"dtype": "float32"}))
        if not scale_factor > 1 or min_neighbors < 0:
            raise ValueError(
                "scale_factor is above 1 and min_neighbors at least 0, received "
                f"{scale_factor} and {min_neighbors}"
            )
        self.form = Form(
            tuple(window),
            tuple(stage_trees),
            tuple(tree_nodes),
            tuple(pairs),
            bool(tilted),
        )
        self.fraction_bits = fraction_bits
        self.scale_factor, self.min_neighbors = scale_factor, min_neighbors
        nodes, trees = sum(tree_nodes), len(tree_nodes)
        last = self.form.blocks()[-1][-1]
        shapes = {
            "corners": ((last.looks.stop, 2), "int32"),
            "factors": ((last.parts.stop,), "float32"),
            "tilts": ((last.looks.stop,), "int32"),
            "thresholds": ((nodes,), "float32"),
            "votes": ((trees, 2 ** max(tree_nodes)), "int64"),
            "stage_thresholds": ((len(stage_trees),), "int64"),
        }
        for name, (shape, dtype) in shapes.items():
            weight = self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                name=name,
                autocast=False,
            )
            setattr(self, name, weight)
        self.built = True

    def build(self, input_shape=None):
        self.built = True

    def call(self, gray, training=None):
        gray = tf.cast(gray, tf.int32)

        def add(number, found):
            one = self._detect(gray[number])
            return number + 1, {
                name: tf.concat([found[name], value[None]], 0)
                for name, value in one.items()
            }

        # LiteRT has no lists of tensors; before the first picture's is a row of none.
        rows = {
            "boxes": tf.zeros([1, MAX_DETECTIONS, 4]),
            "scores": tf.zeros([1, MAX_DETECTIONS]),
            "labels": tf.zeros([1, MAX_DETECTIONS], tf.int32),
        }
        shapes = {name: [None, *value.shape[1:]] for name, value in rows.items()}
        shapes = {name: tf.TensorShape(shape) for name, shape in shapes.items()}
        _, found = tf.while_loop(
            lambda number, _: number < tf.shape(gray)[0],
            add,
            (tf.constant(0), rows),
            shape_invariants=(tf.TensorShape([]), shapes),
        )
        return {name: value[1:] for name, value in found.items()}

    def windows(self, gray, scales=None):
        """Lists the windows that pass all stages, as `Cascade.windows`.

        Args:
            gray: int32 `[height, width]` in 0..255.
            scales: float32 `[n]`, n at least 1, of the windows; None for all.

        Returns:
            int32 `[n, 4]` x, y, width, height; float32 `[n]`, by how much the sum of
            the last stage is above its threshold, below 0 for what is no window, of
            which there is at least one.
        """
        tables = Tables(
            *(
                tf.convert_to_tensor(weight)
                for weight in (
                    self.corners,
                    self.factors,
                    self.tilts,
                    self.thresholds,
                    self.votes,
                    self.stage_thresholds,
                )
            )
        )
        size = tf.shape(gray)[::-1]
        if scales is None:
            scales, sides = _scales(self.form.window, self.scale_factor)
            fits = tf.reduce_all(sides <= size, axis=1)
            number = tf.reduce_sum(tf.cast(fits, tf.int32))
        else:
            number = tf.shape(scales)[0]
        # OpenCV shares the rows of a level out in as many stripes as the first level's
        # width asks for; see `pyramid._count`.
        width = tf.round(tf.cast(size[0], tf.float32) / scales[0])
        stripes = (tf.cast(width, tf.int32) + 1 - self.form.window[0] + 31) // 32

        def add(k, boxes, margins):
            scale = tf.gather(scales, k)
            found, more = self._level(gray, size, scale, stripes, tables)
            return k + 1, tf.concat([boxes, found], 0), tf.concat([margins, more], 0)

        _, boxes, margins = tf.while_loop(
            lambda k, *_: k < number,
            add,
            (tf.constant(0), tf.zeros([1, 4], tf.int32), tf.constant([-1], tf.int64)),
            shape_invariants=(
                tf.TensorShape([]),
                tf.TensorShape([None, 4]),
                tf.TensorShape([None]),
            ),
        )
        return boxes, tf.cast(margins, tf.float32) * 2.0**-self.fraction_bits

    def _level(self, gray, size, scale, stripes, tables):
        """Lists the windows of one size; the last one is none."""
        step = tf.where(scale >= 2, 1, 2)
        width, height = tf.unstack(
            tf.cast(tf.round(tf.cast(size, tf.float32) / scale), tf.int32)
        )
        places = height + 1 - self.form.window[1]
        columns = (width - self.form.window[0] + step) // step
        stripe = tf.maximum((places // step + stripes - 1) // stripes, 1) * step
        rows = (tf.minimum(stripes * stripe, places) + step - 1) // step
        x, y, margins = scan_level(
            shrink(gray, height, width), Grid(step, rows, columns), self.form, tables
        )
        corner = tf.round(tf.cast(tf.stack([x, y], axis=1), tf.float32) * scale)
        sides = tf.round(tf.constant(self.form.window, tf.float32) * scale)
        boxes = tf.concat([corner, tf.zeros_like(corner) + sides], axis=1)
        return tf.cast(boxes, tf.int32), margins

    def _detect(self, gray):
        """Finds the objects of one picture, int32 `[height, width]`."""
        boxes, scores = self.windows(gray)
        chosen, count = _suppress(boxes, scores, self.min_neighbors)
        there = tf.range(MAX_DETECTIONS) < count
        low = tf.gather(boxes, chosen)[:, :2]
        high = tf.minimum(low + tf.gather(boxes, chosen)[:, 2:], tf.shape(gray)[::-1])
        corners = tf.cast(tf.concat([low, high], axis=1), tf.float32)
        return {
            "boxes": tf.where(there[:, None], corners, 0.0),
            "scores": tf.where(there, tf.gather(scores, chosen), 0.0),
            "labels": tf.where(there, 0, -1),
        }

    def get_config(self):
        return super().get_config() | {
            "window": list(self.form.window),
            "stage_trees": list(self.form.stage_trees),
            "tree_nodes": list(self.form.tree_nodes),
            "pairs": list(self.form.pairs),
            "tilted": self.form.tilted,
            "fraction_bits": self.fraction_bits,
            "scale_factor": self.scale_factor,
            "min_neighbors": self.min_neighbors,
        }


def cascade_detector(
    cascade: Cascade, scale_factor: float = 1.1, min_neighbors: int = 3
) -> CascadeDetector:
    """Makes the Keras model of a cascade.

    Args:
        cascade: trained or loaded.
        scale_factor: between one size of the window and the next, above 1.
        min_neighbors: windows that a box stands for more than.

    Returns:
        The model.
    """
    limits = cascade.stage_thresholds - scan.STAGE_SLACK
    largest = np.abs(cascade.tables).max(1).sum() + np.abs(limits).max() + 1
    bits = 61 - math.ceil(math.log2(largest))
    used = cascade.features
    model = CascadeDetector(
        list(cascade.window),
        cascade.stage_trees.tolist(),
        cascade.tree_nodes.tolist(),
        cascade.pairs[0][used].tolist(),
        bool(cascade.tilted[used].any()),
        bits,
        scale_factor,
        min_neighbors,
    )
    blocks = [block for stage in model.form.blocks() for block in stage]
    corners, factors, tilts = zip(*(_look_ups(cascade, b) for b in blocks), strict=True)
    model.corners.assign(np.concatenate(corners))
    model.factors.assign(np.concatenate(factors))
    model.tilts.assign(np.concatenate(tilts))
    order = np.concatenate([block.nodes for block in blocks])
    model.thresholds.assign(cascade.thresholds[order])
    model.votes.assign(np.rint(cascade.tables * 2.0**bits).astype(np.int64))
    whole = np.ceil(limits.astype(np.float64) * 2.0**bits)
    model.stage_thresholds.assign(whole.astype(np.int64))
    return model


def find_windows(cascade: Cascade, gray, scales) -> tuple[np.ndarray, np.ndarray]:
    """Lists the windows that pass; for `Cascade.windows` where there is no numba.

    Args:
        cascade: the cascade.
        gray: uint8 `[height, width]`.
        scales: float32 `[n]` of the windows.

    Returns:
        As `Cascade.windows`.
    """
    if not len(scales):
        return np.zeros((0, 4), np.int32), np.zeros(0, np.float32)
    found = _finder(cascade)(gray.astype(np.int32), scales)
    boxes, margins = (part.numpy() for part in found)
    return boxes[margins >= 0], margins[margins >= 0]


# A training has a new cascade at each stage, a program one or two.
@functools.lru_cache(maxsize=4)
def _finder(cascade):
    model = cascade_detector(cascade)
    signature = [
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None], tf.float32),
    ]
    return tf.function(model.windows, signature, autograph=False)


def _look_ups(cascade, block):
    """Returns a block's corners `[looks, 2]`, factors `[parts]` and tilts `[looks]`."""
    used = cascade.features[block.nodes]
    if block.pairs:
        _, places, factors = (part[used] for part in cascade.pairs)
        places, factors = places[:, : block.pairs], factors[:, : block.pairs]
    else:
        places = scan.rectangle_corners(cascade.rectangles, cascade.tilted)[used]
        factors = cascade.weights[used]
        # The corner of what is no rectangle may lie anywhere.
        places[factors == 0] = 0
    # From [nodes, parts, corners, 2]: corners, then parts, then nodes.
    places = np.transpose(places, (2, 1, 0, 3)).reshape(-1, 2)
    tilts = np.resize(cascade.tilted[used], len(places))
    return places, factors.T.ravel(), tilts


def _scales(window, factor):
    """Lists float32 scales and int32 `[n, 2]` sides of all windows (`pyramid.scales`).

    There are as many as the largest picture has.
    """
    scales, sides, scale = [], [], 1.0
    while max(window) * scale <= LARGEST_SIDE:
        scales.append(scale)
        sides.append(np.rint(np.array(window) * scale))
        scale *= factor
    return np.array(scales, np.float32), np.array(sides, np.int32)


def _suppress(boxes, scores, min_neighbors):
    """Chooses boxes as `grouping.suppress`.

    Returns:
        int32 `[100]` indices and how many of them there are.
    """
    places = tf.range(tf.shape(scores)[0])
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    area = boxes[:, 2] * boxes[:, 3]
    numbers = tf.range(MAX_DETECTIONS)

    def add(left, chosen, count):
        best = tf.equal(left, tf.reduce_max(left))
        one = tf.reduce_min(tf.where(best, places, tf.shape(scores)[0]))
        sides = tf.minimum(high, high[one]) - tf.maximum(low, low[one])
        common = tf.reduce_prod(tf.maximum(sides, 0), axis=1)
        union = area + area[one] - common
        near = (common * OVERLAP[1] >= union * OVERLAP[0]) & (left >= 0)
        enough = tf.reduce_sum(tf.cast(near, tf.int32)) > min_neighbors
        chosen = tf.where(enough & tf.equal(numbers, count), one, chosen)
        return tf.where(near, -1.0, left), chosen, count + tf.cast(enough, tf.int32)

    _, chosen, count = tf.while_loop(
        lambda left, chosen, count: (
            (tf.reduce_max(left) >= 0) & (count < MAX_DETECTIONS)
        ),
        add,
        (scores, tf.zeros([MAX_DETECTIONS], tf.int32), tf.constant(0)),
    )
    return chosen, count
