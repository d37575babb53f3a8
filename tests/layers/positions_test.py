"""Positions: the paper's formula in loops, and stretching against Pillow."""

import keras
import numpy as np
import pytest
from PIL import Image

from mlcvtf.layers.positions import (
    LearnedPositions,
    LearnedPositions2D,
    SinusoidalPositions,
)
from mlcvtf.ops import positions


def test_sinusoids_are_the_formula():
    actual = np.asarray(positions.sinusoidal_positions(np.arange(50), 8))
    for place, i in np.ndindex(50, 4):
        angle = place / 10000 ** (2 * i / 8)
        assert actual[place, 2 * i] == pytest.approx(np.sin(angle), abs=1e-5)
        assert actual[place, 2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-5)


def test_a_shift_is_a_rotation():
    # Section 3.5: pe(pos + k) is a linear function of pe(pos).
    code = np.asarray(positions.sinusoidal_positions(np.arange(20), 2)).astype(float)
    turn = np.linalg.lstsq(code[:10], code[3:13], rcond=None)[0]
    np.testing.assert_allclose(code[:17] @ turn, code[3:], atol=1e-5)


def test_half_of_the_channels_is_the_row_and_half_the_column():
    grid = np.asarray(positions.sinusoidal_grid(3, 5, 8))
    rows = np.asarray(positions.sinusoidal_positions(np.arange(3), 4))
    columns = np.asarray(positions.sinusoidal_positions(np.arange(5), 4))
    for y, x in np.ndindex(3, 5):
        np.testing.assert_allclose(
            grid[y, x], np.concatenate([rows[y], columns[x]]), atol=1e-6)


def test_layers_add_the_code():
    layer, zeros = SinusoidalPositions(), np.zeros((2, 4, 6), "float32")
    code = np.asarray(positions.sinusoidal_positions(np.arange(9), 6))
    np.testing.assert_allclose(layer(zeros)[1], code[:4], atol=1e-6)
    np.testing.assert_allclose(layer(zeros, start=5)[0], code[5:9], atol=1e-6)
    grid = layer(np.zeros((1, 3, 5, 8), "float32"))[0]
    np.testing.assert_allclose(grid, positions.sinusoidal_grid(3, 5, 8), atol=1e-6)


def test_learned_positions_start_where_they_should():
    layer = LearnedPositions(7)
    zeros = np.zeros((2, 3, 4), "float32")
    layer(zeros)
    table = layer.get_weights()[0]
    assert table.std() > 0.005
    np.testing.assert_array_equal(layer(zeros)[0], table[:3])
    np.testing.assert_array_equal(layer(zeros, start=2)[1], table[2:5])
    with pytest.raises(ValueError, match="at most 7 places, received 8"):
        layer(np.zeros((1, 8, 4), "float32"))


def test_learned_positions_stretch_as_numpy_interpolates():
    layer = LearnedPositions(5, interpolate=True)
    longer = np.zeros((1, 12, 3), "float32")
    found = np.asarray(layer(longer))[0]
    table = layer.get_weights()[0]
    centres = (np.arange(12) + 0.5) * 5 / 12 - 0.5
    for channel in range(3):
        expected = np.interp(centres, np.arange(5), table[:, channel])
        np.testing.assert_allclose(found[:, channel], expected, atol=1e-6)


@pytest.mark.parametrize(("kernel", "resample"), [
    ("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)])
@pytest.mark.parametrize("size", [(14, 14), (7, 9), (20, 31), (5, 40), (1, 1)])
def test_grids_stretch_as_pillow_does(kernel, resample, size):
    table = np.random.default_rng(0).normal(size=(14, 14, 3)).astype("float32")
    actual = np.asarray(positions.resize_grid(table, *size, kernel))
    for channel in range(3):
        image = Image.fromarray(table[..., channel])
        expected = np.asarray(image.resize(size[::-1], resample))
        np.testing.assert_allclose(actual[..., channel], expected, atol=1e-5)


def test_a_grid_of_its_own_size_is_kept_bit_for_bit():
    # Of unknown size in the graph, of known in eager mode.
    matrix = np.asarray(positions.resize_matrix(14, keras.ops.convert_to_tensor(14)))
    np.testing.assert_array_equal(matrix, np.eye(14))
    layer = LearnedPositions2D((3, 4))
    found = layer(np.zeros((1, 3, 4, 5), "float32"))[0]
    np.testing.assert_array_equal(found, layer.get_weights()[0])
    assert layer(np.zeros((1, 6, 9, 5), "float32")).shape == (1, 6, 9, 5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="base is above 1, received 1"):
        SinusoidalPositions(1.0)
    with pytest.raises(ValueError, match="dimension is even .*, received 3"):
        positions.sinusoidal_positions(np.arange(2), 3)
    with pytest.raises(ValueError, match="a multiple of 4, received 6"):
        positions.sinusoidal_grid(2, 2, 6)
    with pytest.raises(ValueError, match="length is at least 1, received 0"):
        LearnedPositions(0)
    with pytest.raises(ValueError, match="two positive sides, received \\(3, 0\\)"):
        LearnedPositions2D((3, 0))
    with pytest.raises(ValueError, match="kernel is one of .*, received nearest"):
        LearnedPositions2D((3, 2), "nearest")
