"""Grouped convolution and its gradients against loops over the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.layers import grouped_convolution
from mlcvtf.layers.grouped_convolution import GroupedConv2D

# Channels, filters, groups, kernel, stride, rate.
CASES = [
    (6, 4, 2, 3, 1, 1),
    (6, 9, 3, 3, 2, 1),
    (4, 8, 2, 3, 1, 2),
    (4, 8, 4, 3, 2, 1),
    (4, 4, 4, 3, 1, 2),
    (4, 6, 1, 5, 2, 1),
    (4, 6, 2, 1, 2, 1),
]
SIDES = (7, 6)


def margins(side, kernel, stride, rate, padding):
    """Returns the zeros before and after one side."""
    reach = rate * (kernel - 1)
    if padding == "symmetric":
        return reach // 2, reach // 2
    if padding == "valid":
        return 0, 0
    total = max(0, (-(-side // stride) - 1) * stride + reach + 1 - side)
    return total // 2, total - total // 2


def oracle(x, kernel, groups, stride, rate, padding, upstream=None):
    """Returns the output and the gradients of sum(upstream * output)."""
    size = kernel.shape[0]
    around = [margins(s, size, stride, rate, padding) for s in x.shape[1:3]]
    padded = np.pad(x, [(0, 0), *around, (0, 0)])
    sides = [(s - rate * (size - 1) - 1) // stride + 1 for s in padded.shape[1:3]]
    inputs, filters = kernel.shape[2], kernel.shape[3] // groups
    result = np.zeros((len(x), *sides, kernel.shape[3]))
    by_input, by_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for row, column, i, j, group in np.ndindex(*sides, size, size, groups):
        y, z = row * stride + i * rate, column * stride + j * rate
        read = slice(group * inputs, (group + 1) * inputs)
        write = slice(group * filters, (group + 1) * filters)
        weights = kernel[i, j, :, write]
        result[:, row, column, write] += padded[:, y, z, read] @ weights
        if upstream is not None:
            flow = upstream[:, row, column, write]
            by_input[:, y, z, read] += flow @ weights.T
            by_kernel[i, j, :, write] += padded[:, y, z, read].T @ flow
    cut = [slice(a, a + s) for (a, _), s in zip(around, x.shape[1:3], strict=True)]
    return result, by_input[:, cut[0], cut[1]], by_kernel


@pytest.mark.parametrize("padding", ["same", "valid", "symmetric"])
@pytest.mark.parametrize("case", CASES)
def test_equals_loops_with_its_gradients(case, padding):
    channels, filters, groups, size, stride, rate = case
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *SIDES, channels))
    kernel = generator.normal(size=(size, size, channels // groups, filters))
    shape = oracle(x, kernel, groups, stride, rate, padding)[0].shape
    upstream = generator.normal(size=shape)
    expected = oracle(x, kernel, groups, stride, rate, padding, upstream)
    for split in (True, False, None):
        layer = GroupedConv2D(filters, size, groups, stride, padding, rate,
                              split=split, dtype="float64")
        assert layer.compute_output_shape((2, *SIDES, channels)) == shape
        layer.build((2, *SIDES, channels))
        layer.set_weights([kernel])
        images = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(images)
            result = layer(images)
            total = tf.reduce_sum(result * upstream)
        sources = [images, layer.trainable_variables[0].value]
        found = [result, *tape.gradient(total, sources)]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_default_is_split_on_tensorflow_without_a_gpu(monkeypatch):
    def operations():
        layer = GroupedConv2D(6, 3, 3)
        layer.build((1, 5, 5, 6))
        graph = tf.function(layer).get_concrete_function(tf.zeros((1, 5, 5, 6))).graph
        definition = graph.as_graph_def()
        parts = [definition.node, *(f.node_def for f in definition.library.function)]
        return sum(node.op == "Conv2D" for nodes in parts for node in nodes)

    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["CPU:0"])
    assert operations() == 3
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["CPU:0", "GPU:0"])
    assert operations() == 1
    with grouped_convolution.lowering(split=True) as asked:
        assert operations() == 3
        assert asked and set(asked) == {True}
    assert operations() == 1
    monkeypatch.setattr(grouped_convolution.keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0"])
    assert operations() == 1


def test_bias_activation_and_any_size():
    layer = GroupedConv2D(4, 3, 2, 2, "symmetric", use_bias=True, activation="relu",
                          bias_initializer="ones")
    assert layer.compute_output_shape((None, None, 9, 4)) == (None, None, 5, 4)
    layer.build((None, None, None, 4))
    assert [w.shape for w in layer.weights] == [(3, 3, 2, 4), (4,)]
    np.testing.assert_array_equal(layer(np.zeros((1, 7, 4, 4))), np.ones((1, 4, 2, 4)))


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="number of filters must be evenly divisible"):
        GroupedConv2D(7, 3, 2)
    with pytest.raises(ValueError, match="evenly divisible by the number of groups"):
        GroupedConv2D(6, 3, 3).build((None, 8, 8, 4))
    with pytest.raises(ValueError, match="symmetric padding is for odd kernels"):
        GroupedConv2D(4, 2, padding="symmetric")
