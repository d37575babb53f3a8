"""Sets as `tf.data.Dataset`, for training on TensorFlow."""

import contextlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from mlcvtf.data.examples import Examples, simplified
from mlcvtf.data.order import Order
from mlcvtf.errors import InputError


def batches(examples: Examples, order: Order, epochs: int = 1, start: int = 0,
            layers: Sequence = ()) -> tf.data.Dataset:
    """Makes a data set of batches of fixed shape.

    The number of batches is always known (`cardinality()`). Every iteration begins at
    `start`, so `fit` gets one data set over all epochs and their length:

        model.fit(batches(examples, order, epochs=5), epochs=5,
                  steps_per_epoch=order.steps, shuffle=False)

    Shards are made by `order`; for a `tf.distribute` strategy over several workers,
    hand it over in `distribute_datasets_from_function`, which does not shard again.

    Args:
        examples: what each record becomes.
        order: which record comes when, on this worker.
        epochs: how many.
        start: number of the first batch, counted from the first epoch's beginning; a
            resumed run's optimizer step.
        layers: of Keras, such as its `RandomFlip`, that change each example
            (see `mlcvtf.data.stateless`), as a function of the order's seed, epoch and
            position. They are this path's alone: `Examples(augment=...)` is both's.

    Returns:
        `epochs * order.steps - start` batches of (images, targets), and weights where
        the order pads: float32 `[batch, height, width, 3]` in 0..255; `{"boxes"
        float32 [batch, max_boxes, 4], "labels" int32 [batch, max_boxes]}` padded with
        -1, or int32 `[batch]` classes, int32 `[batch, height, width]` masks, float32
        `[batch, height, width, 3]` pictures; float32 `[batch]`.

    Raises:
        InputError: the start is not in these epochs, or a layer does not do.
    """
    size = order.batch_size
    data = single_examples(examples, order, epochs, start)
    if layers:
        from mlcvtf.data.stateless import augmented

        data = augmented(data, order, layers, start)
    # Full without exception, by the order; this makes the shape static.
    data = data.batch(size, drop_remainder=True)

    def to_float(values):
        return tf.cast(values, tf.float32)

    def finish(picture, targets, weight):
        # Bytes are batched, and become four times as many only now.
        both = to_float(picture), simplified(targets, to_float)
        return (*both, weight) if order.remainder == "pad" else both

    return data.map(finish, num_parallel_calls=1).prefetch(tf.data.AUTOTUNE)


def single_examples(examples: Examples, order: Order, epochs: int = 1,
                    start: int = 0) -> tf.data.Dataset:
    """Makes the data set that `batches` cuts into batches.

    Args:
        examples: as in `batches`.
        order: as in `batches`.
        epochs: as in `batches`.
        start: number of the first batch.

    Returns:
        For each position a picture, uint8 `[height, width, 3]`; a dict of targets as
        `Examples.example` gives; and its float32 weight.

    Raises:
        InputError: the start is not in these epochs.
    """
    total = epochs * order.steps
    if not 0 <= start <= total:
        raise InputError(f"a run of {total} batches starts at one of them, received "
                         f"{start}")
    image, targets = examples.specification()
    shapes = [image, *targets.values(), ((), np.float32)]

    def load(number):
        step, row = divmod(int(number), order.batch_size)
        epoch, step = divmod(step, order.steps)
        position = order.positions(step)[row]
        picture, made = examples.at(order, epoch, position)
        return (picture, *(made[name] for name in targets),
                np.float32(order.weight(position)))

    def example(number):
        values = tf.numpy_function(load, [number], [dtype for _, dtype in shapes])
        for value, (shape, _) in zip(values, shapes, strict=True):
            value.set_shape(shape)
        picture, *made, weight = values
        return picture, dict(zip(targets, made, strict=True)), weight

    size = order.batch_size
    data = tf.data.Dataset.range(start * size, total * size)
    return data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turns an InputError that `tf.data` wrapped back into itself.

    TensorFlow reports what a Python function raises as an error of its own, with a
    traceback in its text:

        with input_errors():
            model.fit(data)

    Raises:
        InputError: with the message of the one inside.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"InputError: (.*)", error.message)
        if found is None:
            raise
        raise InputError(found[1].strip()) from None
