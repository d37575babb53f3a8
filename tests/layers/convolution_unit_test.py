"""Convolution units: paddings against loops, rectifiers, freezing."""

import numpy as np
import pytest

from mlcvtf.layers.convolution_unit import ConvolutionUnit, pair


def images(height=7, width=8, channels=3):
    values = np.random.default_rng(0).normal(0, 1, (2, height, width, channels))
    return values.astype("float32")


def convolve(x, kernel, stride, before, after):
    """Convolves by loops, with zeros before and after each side."""
    x = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    size = kernel.shape[0]
    places = [range(0, side - size + 1, stride) for side in x.shape[1:3]]
    rows = [[np.einsum("bhwc,hwcd->bd", x[:, i:i + size, j:j + size], kernel)
             for j in places[1]] for i in places[0]]
    return np.array(rows).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("padding, stride, before, after", [
    ("valid", 1, 0, 0), ("valid", 2, 0, 0), ("same", 1, 1, 1), ("symmetric", 1, 1, 1),
    ("symmetric", 2, 1, 1), ("same", 2, 0, 1), ("symmetric", 3, 1, 1),
])
@pytest.mark.parametrize("slope", [None, 0.0, 0.1])
def test_equals_loops(padding, stride, before, after, slope):
    # Of an even side, "same" with stride 2 and three rows lacks one, at the end.
    x = images(8, 8)
    layer = ConvolutionUnit(4, 3, stride, padding, False, slope=slope)
    found = np.asarray(layer(x))
    kernel, bias = layer.get_weights()
    expected = convolve(x, kernel, stride, before, after) + bias
    if slope is not None:
        expected = np.where(expected < 0, slope * expected, expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == layer.compute_output_shape(x.shape)


def test_normalises_between_convolution_and_rectifier():
    layer = ConvolutionUnit(4, 3, slope=0.1, epsilon=0.5)
    x = images()
    layer.build(x.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.uniform(0.5, 1.5, v.shape) for v in layer.weights])
    kernel, gamma, beta, mean, variance = layer.get_weights()
    y = convolve(x, kernel, 1, 1, 1)
    y = (y - mean) / np.sqrt(variance + 0.5) * gamma + beta
    np.testing.assert_allclose(layer(x), np.where(y < 0, 0.1 * y, y), atol=1e-4)


def test_scale_is_gamma():
    layers = [ConvolutionUnit(4, scale=scale) for scale in (True, False)]
    for layer in layers:
        layer.build((None, None, None, 3))
    assert [len(layer.weights) for layer in layers] == [5, 4]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_frozen_unit_keeps_its_statistics(when):
    layer = ConvolutionUnit(4, 3)
    layer.trainable = when != "before"
    layer = ConvolutionUnit.from_config(layer.get_config())
    x = images()
    layer.build(x.shape)
    layer.trainable = False if when == "after" else layer.trainable
    assert not layer.trainable_variables
    before = layer.get_weights()
    layer(x, training=True)
    assert all(map(np.array_equal, before, layer.get_weights()))
    layer.trainable = True
    layer(x, training=True)
    assert not all(map(np.array_equal, before, layer.get_weights()))


@pytest.mark.parametrize("arguments, message", [
    ((4, 3, 1, "full"), "padding is one of .*, received 'full'"),
    ((0, 3), "filters and stride are at least 1, received 0 and 1"),
    ((4, 3, 0), "filters and stride are at least 1, received 4 and 0"),
    ((4, 2, 2, "symmetric"), "symmetric padding is for odd kernels, received 2"),
    ((4, (3, 0)), r"one or two positive numbers, received \(3, 0\)"),
])
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionUnit(*arguments)


def test_pair_refuses_three_numbers():
    with pytest.raises(ValueError, match="one or two positive numbers"):
        pair((1, 2, 3))


def test_a_unit_without_normalisation_has_a_bias():
    layer = ConvolutionUnit(2, batch_normalisation=False, name="unit")
    layer.build((None, 4, 4, 3))
    assert [v.path for v in layer.weights] == [
        "unit/convolution/kernel", "unit/convolution/bias"]
