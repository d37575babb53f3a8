"""The inverted residual block."""

import numpy as np
import pytest

from mlcvtf.layers.inverted_residual import InvertedResidual, round_channels


def test_round_channels_never_loses_a_tenth():
    for channels in np.linspace(1, 400, 800):
        rounded = round_channels(channels)
        assert rounded % 8 == 0 and rounded >= 0.9 * channels
        assert rounded <= max(8, channels + 8)


def test_residual_only_where_shapes_agree():
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype(np.float32)
    same = InvertedResidual(16, 6, 1)
    same(x)
    for weight in same.weights:
        if "project" in weight.path and "kernel" in weight.path:
            weight.assign(np.zeros(weight.shape))
    # With a zero projection only the shortcut is left.
    np.testing.assert_allclose(np.asarray(same(x)), x, atol=1e-6)
    assert not InvertedResidual(24)(x).shape[-1] == 16
    strided = InvertedResidual(16, stride=2)
    assert strided(x).shape == (1, 4, 4, 16) and not strided.residual


def test_first_block_has_no_expansion():
    layer = InvertedResidual(8, expansion=1)
    layer.build((None, 8, 8, 32))
    assert len(layer.steps) == 5


@pytest.mark.parametrize("padding, first", [("same", 0), ("symmetric", -1)])
def test_padding_of_an_even_side(padding, first):
    """PyTorch's first window starts before the picture, TensorFlow's within."""
    layer = InvertedResidual(1, 1, 2, padding=padding)
    layer.build((1, 4, 4, 1))
    depthwise, project = (
        next(step for step in layer.steps if step.name == name)
        for name in ("depthwise", "project")
    )
    corner = np.zeros((3, 3, 1, 1), np.float32)
    corner[0, 0] = 1.0
    depthwise.kernel.assign(corner)
    project.kernel.assign(np.ones((1, 1, 1, 1)))
    x = np.arange(1, 5, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    rows = np.asarray(layer(x[None, :, :, None]))[0, :, 1, 0]
    # The upper left pixel of windows that start at rows `first` and `first + 2`.
    expected = [0 if row < 0 else x[row, 0] for row in (first, first + 2)]
    np.testing.assert_allclose(rows, expected, rtol=2e-3)


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="stride is 1 or 2, received 3"):
        InvertedResidual(8, stride=3)
    with pytest.raises(ValueError, match="at least 1, received 0 and 6"):
        InvertedResidual(0)
    with pytest.raises(ValueError, match="padding is .* received 'valid'"):
        InvertedResidual(8, padding="valid")


def test_a_block_that_is_built_frozen_keeps_its_statistics():
    layer = InvertedResidual(8, trainable=False)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert not any(variable.trainable for variable in layer.variables)
