"""A forest as a Keras model: a loop of gathers over the levels (TensorFlow only).

Shotton et al., 2011 (see `features.py`). Every operation is one that LiteRT has built
in, and all arithmetic on depth is single operations in float32, so SavedModel, LiteRT
and the compiled path of `compiled_forest.py` give equal results. The arrays keep their
small types; nothing in here learns by gradients (`forest_training.py` does).
"""

import keras
import numpy as np
import tensorflow as tf

from mlcvtf.segmentation.body_parts.features import (
    BACKGROUND,
    FARTHEST,
    OFFSET_STEPS,
    THRESHOLD_STEPS,
)
from mlcvtf.segmentation.body_parts.forest import FULL, Forest


@keras.saving.register_keras_serializable(package="mlcvtf")
class BodyPartForest(keras.Model):
    """Gives every pixel of a depth picture a distribution over body parts.

    Args:
        splits: number of splits of all trees.
        rows: number of different leaves.
        classes: number of parts.
        trees: how many.
        levels: splits on the longest way down.

    `call(depth)`: float32 `[batch, height, width]` in metres, 0 where missing or
    background, gives a dict: "parts" int32 `[batch, height, width]`, 0 where depth is
    missing, parts from 1, and "probabilities" float32 `[batch, height, width,
    classes]`, 0 where depth is missing. What is no number or beyond 100 metres
    counts as missing.

    Raises:
        ValueError: there is no class, leaf or tree.
    """

    def __init__(
        self, splits: int, rows: int, classes: int, trees: int, levels: int, **kwargs
    ):
        # Half precision would take other pixels.
        super().__init__(**(kwargs | {"dtype": "float32"}))
        if min(rows, classes, trees) < 1 or min(splits, levels) < 0:
            raise ValueError(
                "A forest has leaves, classes and trees, received "
                f"{rows}, {classes}, {trees}"
            )
        self.splits, self.rows, self.classes = splits, rows, classes
        self.trees, self.levels = trees, levels
        # A forest of single leaves still has a split to gather, which none reaches.
        shapes = {
            "offsets": ((max(splits, 1), 4), "int16"),
            "thresholds": ((max(splits, 1),), "int16"),
            "children": ((2 * max(splits, 1),), "int32"),
            "roots": ((trees,), "int32"),
            "leaves": ((rows, classes), "uint8"),
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

    def call(self, depth, training=None):
        depth = tf.cast(depth, "float32")
        # NaN compares false and so is missing.
        known = (depth > 0) & (depth <= FARTHEST)
        filled = tf.where(known, depth, BACKGROUND)
        there = tf.cast(tf.reshape(known, (-1,)), "int32")
        # Behind the known pixels comes one that nobody looks at: LiteRT has no empty
        # tensors.
        pixels = tf.reshape(tf.cast(tf.where(there > 0), tf.int32), [-1])
        pixels = tf.pad(pixels, [[0, 1]])
        sums = 0
        for rows in self._leaves(filled, pixels):
            sums = sums + tf.cast(tf.gather(self.leaves, rows), "int32")
        parts = tf.argmax(sums, axis=-1, output_type=tf.int32) + 1
        probabilities = tf.cast(sums, "float32") / float(FULL * self.trees)
        place = tf.maximum(tf.cumsum(there) - 1, 0)
        shape = tf.unstack(tf.shape(depth))
        parts = tf.gather(parts, place) * there
        probabilities = tf.gather(probabilities, place) * tf.reshape(
            tf.cast(there, "float32"), (-1, 1)
        )
        return {
            "parts": tf.reshape(parts, tf.stack(shape)),
            "probabilities": tf.reshape(
                probabilities, tf.stack([*shape, self.classes])
            ),
        }

    def _leaves(self, filled, pixels):
        """Returns the row of `leaves` of every pixel, for each tree int32 `[n]`."""
        _, height, width = tf.unstack(tf.shape(filled))
        padded = tf.pad(filled, [[0, 0], [1, 1], [1, 1]], constant_values=BACKGROUND)
        flat = tf.reshape(padded, (-1,))
        image, rest = pixels // (height * width), pixels % (height * width)
        first = image * ((height + 2) * (width + 2))
        column = tf.cast(rest % width, "float32") + 1.5
        row = tf.cast(rest // width, "float32") + 1.5
        reciprocal = 1.0 / tf.gather(tf.reshape(filled, (-1,)), pixels)
        right = tf.cast(width + 1, "float32")
        bottom = tf.cast(height + 1, "float32")

        def probe(x, y):
            x = tf.minimum(tf.maximum(column + x * reciprocal, 0.0), right)
            y = tf.minimum(tf.maximum(row + y * reciprocal, 0.0), bottom)
            place = tf.cast(y, "int32") * (width + 2) + tf.cast(x, "int32")
            return tf.gather(flat, first + place)

        found = []
        for tree in range(self.trees):
            node = tf.zeros_like(pixels) + self.roots[tree]
            for _ in range(self.levels):
                # A leaf stays where it is.
                split = tf.maximum(node, 0)
                offsets = tf.cast(tf.gather(self.offsets, split), "float32")
                offsets = offsets / OFFSET_STEPS
                value = probe(offsets[:, 0], offsets[:, 1])
                value = value - probe(offsets[:, 2], offsets[:, 3])
                threshold = tf.cast(tf.gather(self.thresholds, split), "float32")
                side = tf.cast(value * THRESHOLD_STEPS >= threshold, "int32")
                below = tf.gather(self.children, 2 * split + side)
                node = tf.where(node < 0, node, below)
            found.append(-1 - node)
        return found

    def get_config(self):
        return super().get_config() | {
            "splits": self.splits,
            "rows": self.rows,
            "classes": self.classes,
            "trees": self.trees,
            "levels": self.levels,
        }


def forest_model(forest: Forest) -> BodyPartForest:
    """Makes the Keras model of a forest.

    Args:
        forest: grown or loaded.

    Returns:
        The model.
    """
    model = BodyPartForest(
        len(forest.offsets),
        len(forest.leaves),
        forest.classes,
        len(forest.roots),
        forest.depth,
    )
    if len(forest.offsets):
        model.offsets.assign(forest.offsets)
        model.thresholds.assign(forest.thresholds)
        model.children.assign(forest.children.reshape(-1))
    model.roots.assign(forest.roots)
    model.leaves.assign(forest.leaves)
    return model


def model_forest(model: BodyPartForest) -> Forest:
    """Takes the forest out of a model, for the compiled path.

    Args:
        model: of `forest_model`, or loaded.

    Returns:
        The forest.
    """
    arrays = {
        name: np.array(keras.ops.convert_to_numpy(getattr(model, name)))
        for name in Forest._fields
    }
    splits = model.splits
    return Forest(
        arrays["offsets"][:splits],
        arrays["thresholds"][:splits],
        arrays["children"].reshape(-1, 2)[:splits],
        arrays["roots"],
        arrays["leaves"],
    )
