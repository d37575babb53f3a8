"""Keras's augmentation layers as functions of seed, epoch and position (TensorFlow).

By themselves they draw from a state that every call changes, which in `Dataset.map` is
neither saved with a checkpoint nor the same with another number of threads. Here the
numbers of a call are derived from where its picture stands.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from mlcvtf.data.order import Order
from mlcvtf.errors import InputError

# They mix the pictures of a batch.
JOINING = ("CutMix", "MixUp")
NOTHING = -1


class _Seeds(keras.random.SeedGenerator):
    """Gives the n-th draw of a call a seed of its own, without a state.

    Args:
        base: int64 `[2]`.
    """

    def __init__(self, base):
        # No variable is made: it would be one per picture.
        self.base, self.draws = base, 0

    def next(self, ordered: bool = True):
        self.draws += 1
        return tf.random.fold_in(self.base, self.draws)


def stateless(layer: keras.Layer, seed: int, number: int = 0) -> Callable:
    """Makes a Keras layer that changes pictures a pure function of the position.

    Args:
        layer: one of Keras's layers such as `RandomFlip`, with
            `bounding_box_format="xyxy"` where there are boxes. docs/data.md says which
            of them move boxes rightly.
        seed: of all randomness; the layer's own is not used.
        number: tells layers apart that are given the same seed.

    Returns:
        A function `(data, epoch, position)`, for `Dataset.map` too: `data` is Keras's
        dict of one example, without a batch: "images" `[height, width, 3]`, and as
        there are "bounding_boxes" {"boxes" `[m, 4]`, "labels" `[m]`}, "labels" and
        "segmentation_masks" `[height, width, 1]`; epoch and position are int64. It
        returns the changed dict, images as float32, boxes and labels of the types that
        they had.

    Raises:
        InputError: the layer is none that changes pictures, mixes the pictures of a
            batch, or is made of others with states of their own.
    """
    name = type(layer).__name__
    if not hasattr(layer, "get_random_transformation"):
        raise InputError(
            "what is made stateless is a layer of Keras that changes pictures, "
            f"received {name}"
        )
    if name in JOINING:
        raise InputError(f"a picture is changed by itself, {name} mixes several")
    inner = [v for v in vars(layer).values() if isinstance(v, keras.Layer)]
    if inner:
        raise InputError(
            f"{name} draws from states of the layers that it is made of "
            f"({', '.join(sorted({type(v).__name__ for v in inner}))}): use these"
        )

    def change(data, epoch, position):
        base = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])
        for one in (position, number):
            base = tf.random.fold_in(base, tf.cast(one, tf.int64))
        # Where Keras runs on JAX, its layers compute in TensorFlow here.
        layer.backend.set_backend("tensorflow")
        try:
            return _changed(layer, data, _Seeds(base))
        finally:
            layer.backend.reset()

    return change


def _changed(layer, data, seeds):
    """Draws once for all parts of an example, and changes each."""
    batch = tf.nest.map_structure(lambda x: tf.convert_to_tensor(x)[None], data)
    batch["images"] = tf.cast(batch["images"], tf.float32)
    drawn = layer.get_random_transformation(batch, training=True, seed=seeds)
    ways = {
        "images": layer.transform_images,
        "bounding_boxes": layer.transform_bounding_boxes,
        "labels": layer.transform_labels,
        "segmentation_masks": layer.transform_segmentation_masks,
    }
    found = {}
    for key, values in batch.items():
        # Some layers change the dict that they are given.
        given = dict(values) if isinstance(values, dict) else values
        made = ways[key](given, transformation=drawn, training=True)
        found[key] = tf.nest.map_structure(
            lambda new, old: tf.cast(new, old.dtype)[0], made, values
        )
    return found


def augmented(
    data: tf.data.Dataset,
    order: Order,
    layers: Sequence[keras.Layer],
    start: int = 0,
) -> tf.data.Dataset:
    """Sends single examples through Keras's layers.

    Args:
        data: what `datasets.single_examples` gave.
        order: its order; the layers draw by its seed.
        layers: one after the other; see `stateless`.
        start: its first batch.

    Returns:
        The data set with pictures as float32; rows of padding among the boxes are -1
        as before.

    Raises:
        InputError: a layer that `stateless` refuses, or targets that Keras's layers
            do not move: landmarks, crowds, instance masks, partners.
    """
    targets = data.element_spec[1]
    strange = sorted(set(targets) - {"boxes", "labels", "label", "mask"})
    if strange:
        raise InputError(
            "Keras's layers move boxes, a class and a mask of classes; received "
            f"{', '.join(strange)}"
        )
    changes = [stateless(one, order.seed, i) for i, one in enumerate(layers)]
    size, first = order.batch_size, start * order.batch_size

    def example(number, element):
        picture, targets, weight = element
        step, row = tf.math.floordiv(number, size), tf.math.floormod(number, size)
        epoch = tf.math.floordiv(step, order.steps)
        step = tf.math.floormod(step, order.steps) * order.shard_count
        position = (step + order.shard_index) * size + row
        found = _to_keras(picture, targets)
        for change in changes:
            found = change(found, epoch, position)
        return (*_from_keras(found), weight)

    data = data.enumerate(np.int64(first))
    return data.map(
        example,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def _to_keras(picture, targets):
    """Names an example's parts as Keras does."""
    found = {"images": picture}
    if "boxes" in targets:
        found["bounding_boxes"] = dict(targets)
    if "label" in targets:
        found["labels"] = targets["label"]
    if "mask" in targets:
        # Beside the picture it is -1, and a layer fills with 0, which is a class.
        found["segmentation_masks"] = targets["mask"][..., None] - NOTHING
    return found


def _from_keras(found):
    """Undoes `_to_keras`."""
    targets = {}
    if "bounding_boxes" in found:
        targets = dict(found["bounding_boxes"])
        there = targets["labels"][:, None] >= 0
        targets["boxes"] = tf.where(there, targets["boxes"], float(NOTHING))
    if "labels" in found:
        targets["label"] = found["labels"]
    if "segmentation_masks" in found:
        targets["mask"] = found["segmentation_masks"][..., 0] + NOTHING
    return found["images"], targets
