"""Grid pooling against the paper's pooling and PyTorch's rule; the head by hand."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.auxiliary_head import AuxiliaryHead, GridPooling


def images(height, width, channels=3):
    values = np.random.default_rng(0).normal(0, 1, (2, height, width, channels))
    return values.astype("float32")


def test_on_14_by_14_it_is_the_papers_pooling():
    x = images(14, 14)
    expected = keras.layers.AveragePooling2D(5, 3)(x)
    assert expected.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(GridPooling()(x), expected, atol=1e-6)


def adaptive(x, grid):
    """PyTorch's rule: window i is from floor(i n / grid) to ceil((i + 1) n / grid)."""
    spans = [[(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)]
             for n in x.shape[1:3]]
    return np.array([[x[:, a:b, c:d].mean((1, 2)) for c, d in spans[1]]
                     for a, b in spans[0]]).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("size", [(14, 14), (7, 5), (4, 4), (1, 3), (30, 17)])
@pytest.mark.parametrize("grid", [4, 3])
def test_adaptive_windows(size, grid):
    x = images(*size)
    found = GridPooling(grid, "adaptive")(x)
    np.testing.assert_allclose(found, adaptive(x, grid), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 4, 7, 13, 15, 28, 41])
def test_overlapping_windows_cover_every_place(side):
    # A picture of one place each shows which windows count it.
    rows = np.eye(side, dtype="float32")[:, :, None, None]
    shares = np.asarray(GridPooling()(rows))[..., 0, 0]
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-5)
    assert (shares.sum(1) > 0).all()
    # All windows are of one size, and a place is once or not in a window.
    size = -(-5 * side // 14)
    assert set(np.round(shares[shares > 0] * size, 4)) == {1.0}


def test_unknown_sizes_at_building():
    symbol = keras.Input((None, None, 3))
    model = keras.Model(symbol, GridPooling()(symbol))
    x = images(14, 14)
    np.testing.assert_allclose(model.predict(x, verbose=0), GridPooling()(x), atol=1e-6)


def test_head_counts_features_channel_by_channel():
    x = images(4, 4)
    head = AuxiliaryHead(5, 2, 6)
    found = head(x)
    kernel, bias, kernel1, bias1, kernel2, bias2 = head.get_weights()
    y = np.maximum(x @ kernel[0, 0] + bias, 0).transpose(0, 3, 1, 2).reshape(2, -1)
    y = np.maximum(y @ kernel1 + bias1, 0) @ kernel2 + bias2
    np.testing.assert_allclose(found, y, atol=1e-5)


def test_head_drops_in_training_only():
    x = images(4, 4)
    head = AuxiliaryHead(5, 4, 64, dropout=0.7)
    plain = np.asarray(head(x))
    np.testing.assert_array_equal(plain, head(x, training=False))
    assert np.abs(np.asarray(head(x, training=True)) - plain).max() > 1e-2


def test_a_head_that_was_saved_frozen_is_built_frozen():
    head = AuxiliaryHead(5, 2, 6, batch_normalisation=True)
    head.trainable = False
    head = AuxiliaryHead.from_config(head.get_config())
    before = (head.build((None, 4, 4, 3)), head.get_weights())[1]
    head(images(4, 4), training=True)
    assert not head.trainable_variables
    assert all(map(np.array_equal, before, head.get_weights()))


@pytest.mark.parametrize("options, message", [
    ({"classes": 1}, "classes is at least 2, received 1"),
    ({"channels": 0}, "at least 1, received 0 and 1024"),
    ({"dropout": 1.0}, "dropout is 0 to below 1, received 1.0"),
])
def test_head_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        AuxiliaryHead(**{"classes": 3} | options)


def test_pooling_refuses():
    with pytest.raises(ValueError, match="windows is one of .*, received 'all'"):
        GridPooling(windows="all")
    with pytest.raises(ValueError, match="grid is at least 2, received 1"):
        GridPooling(1)
