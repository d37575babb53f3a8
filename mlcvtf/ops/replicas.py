"""Counts over the replicas of TensorFlow's `tf.distribute`, for losses.

Keras adds the gradients of the replicas up. So a loss that is a sum over pictures,
objects or faces, divided by how many there are in the batch, stays what it is on one
device if each replica divides its own sum by the count of all. On JAX, and on one
device, a loss sees the whole batch anyway.
"""

import keras
from keras import ops


def sum_over_replicas(value):
    """Adds a tensor up over all replicas that train together.

    Args:
        value: float tensor of any shape, computed from this replica's part of a batch.

    Returns:
        The sum, of the same shape; `value` itself where there is one replica.

    >>> float(sum_over_replicas(keras.ops.sum(keras.ops.ones((3,)))))
    3.0
    """
    if keras.backend.backend() != "tensorflow":
        return value
    import tensorflow as tf

    # Outside any replica, where a model is built, there is no batch to share.
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def mean_over_replicas(values):
    """Gives this replica's share of the mean of all values of a batch.

    Args:
        values: float tensor of any shape, from this replica's part of the batch.

    Returns:
        A float scalar; the shares of all replicas add up to the mean.

    >>> float(mean_over_replicas(keras.ops.convert_to_tensor([1.0, 2.0, 6.0])))
    3.0
    """
    total = ops.sum(values)
    return total / sum_over_replicas(ops.cast(ops.size(values), total.dtype))
