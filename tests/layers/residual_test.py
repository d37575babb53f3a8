"""Residual blocks against the papers' formulas, in NumPy around `keras.ops.conv`."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.aggregated_transformations import AggregatedTransformations
from mlcvtf.layers.residual import BasicBlock, BottleneckBlock, PreActivationBlock
from mlcvtf.layers.squeeze_excite import SqueezeExcite


def prepared(layer, channels):
    layer.build((None, None, None, channels))
    generator = np.random.default_rng(0)
    for variable in layer.variables:
        low, high = (0.3, 1.5) if variable.ndim == 1 else (-0.5, 0.5)
        variable.assign(generator.uniform(low, high, variable.shape))
    return {v.path.split("/", 1)[-1] if v.path.startswith(layer.name) else v.path:
            np.asarray(v) for v in layer.variables}


def step(weights, name, x, stride=1, rate=1, groups=1, epsilon=1e-5):
    """Convolves, symmetrically padded, and normalises."""
    kernel = weights[f"{name}/kernel"]
    margin = rate * (kernel.shape[0] // 2)
    x = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    x = np.concatenate([
        np.asarray(keras.ops.conv(a, b, 1, "valid", dilation_rate=rate))
        for a, b in parts
    ], -1)[:, ::stride, ::stride]
    x = x + weights.get(f"{name}/bias", 0)
    gamma, beta, mean, variance = (
        weights[f"{name}_normalisation/{key}"]
        for key in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def relu(x):
    return np.maximum(x, 0)


def images(channels, seed=1):
    draw = np.random.default_rng(seed).normal(size=(2, 7, 6, channels))
    return draw.astype("float32")


def check(layer, x, expected):
    assert layer.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(
        layer(x, training=False), expected, atol=2e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("stride, rate, channels", [(1, 1, 4), (2, 1, 4), (1, 2, 6)])
def test_basic_block(stride, rate, channels):
    layer = BasicBlock(4, stride, rate, use_bias=True, epsilon=0.1)
    weights, x = prepared(layer, channels), images(channels)
    y = relu(step(weights, "conv1", x, stride, rate, epsilon=0.1))
    y = step(weights, "conv2", y, 1, rate, epsilon=0.1)
    same = stride == 1 and channels == 4
    shortcut = x if same else step(weights, "shortcut", x, stride, epsilon=0.1)
    check(layer, x, relu(y + shortcut))


def test_a_shortcut_by_padding_has_no_parameters():
    layer = BasicBlock(6, 2, shortcut="padding")
    weights, x = prepared(layer, 4), images(4)
    assert not any("shortcut" in name for name in weights)
    y = step(weights, "conv2", relu(step(weights, "conv1", x, 2)))
    y[..., :4] += x[:, ::2, ::2]
    check(layer, x, relu(y))
    with pytest.raises(ValueError, match="adds channels, received 8 for 6"):
        BasicBlock(6, shortcut="padding").build((None, 4, 4, 8))


@pytest.mark.parametrize("strided", ["conv1", "conv2"])
@pytest.mark.parametrize("groups, stride, rate", [(1, 2, 1), (2, 2, 1), (3, 1, 2)])
def test_bottleneck_block(strided, groups, stride, rate):
    layer = BottleneckBlock(8, 6, stride, rate, groups, strided, squeeze_ratio=4)
    weights, x = prepared(layer, 8), images(8)
    first, second = (stride, 1) if strided == "conv1" else (1, stride)
    y = relu(step(weights, "conv1", x, first))
    y = relu(step(weights, "conv2", y, second, rate, groups))
    y = step(weights, "conv3", y)
    z = y.mean((1, 2)) @ weights["squeeze_excite/squeeze/kernel"]
    z = relu(z + weights["squeeze_excite/squeeze/bias"])
    z = z @ weights["squeeze_excite/excite/kernel"]
    gate = 1 / (1 + np.exp(-z - weights["squeeze_excite/excite/bias"]))
    assert weights["squeeze_excite/squeeze/kernel"].shape == (8, 2)
    y = y * gate[:, None, None]
    shortcut = x if stride == 1 else step(weights, "shortcut", x, stride)
    check(layer, x, relu(y + shortcut))


@pytest.mark.parametrize("layer", [
    BasicBlock(6, 2), BottleneckBlock(8, 4, 2, groups=2), PreActivationBlock(6, 2),
    AggregatedTransformations(8, 2, 2, "summed"), AggregatedTransformations(8, 2, 2),
], ids=lambda layer: layer.name)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_frozen_block_keeps_its_statistics(layer, when):
    layer = type(layer).from_config(layer.get_config())
    layer.trainable = when != "before"
    # A block that was saved frozen is built frozen.
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, None, None, 4))
    if when == "after":
        layer.trainable = False
    weights, x = layer.get_weights(), images(4)
    layer(x, training=True)
    assert all(map(np.array_equal, weights, layer.get_weights()))
    layer.trainable = True
    layer(x, training=True)
    assert not all(map(np.array_equal, weights, layer.get_weights()))


def test_pre_activation_block_drops_while_it_trains():
    layer = PreActivationBlock(4, dropout=0.9)
    x = images(4)
    layer.build(x.shape)
    layer.trainable = False  # The statistics stay; dropout does not follow it.
    plain = np.asarray(layer(x, training=False))
    assert np.abs(np.asarray(layer(x, training=True)) - plain).max() > 1e-3
    np.testing.assert_array_equal(layer(x, training=False), plain)


def test_zero_gamma_is_of_the_last_normalisation_alone():
    for layer in (BasicBlock(4, zero_gamma=True),
                  BottleneckBlock(4, 2, zero_gamma=True)):
        layer.build((None, 5, 5, 4))
        zero = [v.path for v in layer.variables
                if v.path.endswith("gamma") and not np.any(v)]
        last = "conv2" if isinstance(layer, BasicBlock) else "conv3"
        assert len(zero) == 1 and f"{last}_normalisation" in zero[0]
        x = images(4)
        np.testing.assert_allclose(layer(x), relu(x), atol=1e-6)


def test_squeeze_excite_takes_other_activations():
    layer = SqueezeExcite(2, "silu", "hard_sigmoid")
    x = images(4)
    result = np.asarray(layer(x))
    ratio = result / x
    # One weight per picture and channel.
    assert np.ptp(ratio, axis=(1, 2)).max() < 1e-4
    z = x.mean((1, 2)) @ np.asarray(layer.squeeze.kernel)
    z = z / (1 + np.exp(-z)) @ np.asarray(layer.excite.kernel)
    np.testing.assert_allclose(ratio[:, 0, 0], np.clip(z / 6 + 0.5, 0, 1), atol=1e-4)


@pytest.mark.parametrize("build, message", [
    (lambda: BasicBlock(0), "filters is at least 1, received 0"),
    (lambda: BasicBlock(4, 0), "stride is at least 1, received 0"),
    (lambda: BasicBlock(4, shortcut="a"), "projection, padding, received 'a'"),
    (lambda: BottleneckBlock(4, 6, groups=4), "4 groups of 6 channels"),
    (lambda: BottleneckBlock(4, 2, strided="conv3"), "conv1, conv2, received 'conv3'"),
    (lambda: PreActivationBlock(4, dropout=-0.1), "dropout is 0 to below 1"),
    (lambda: SqueezeExcite(0), "channels is at least 1, received 0"),
])
def test_refuses_what_it_cannot_build(build, message):
    with pytest.raises(ValueError, match=message):
        build()
