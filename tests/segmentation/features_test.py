"""Depth comparison features against a slow loop, and the checks of a picture."""

import math

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import features
from mlcvtf.segmentation.body_parts.candidates import sample_pool
from tests.segmentation.scenes import scene


def slow_feature(depth, row, column, offset):
    """Equation 1, one pixel at a time, in float32 as the library's."""
    one = np.float32

    def d(y, x):
        inside = 0 <= y < depth.shape[0] and 0 <= x < depth.shape[1]
        return depth[y, x] if inside and depth[y, x] > 0 else one(features.BACKGROUND)

    def probe(x, y):
        z = one(1) / depth[row, column]
        return d(
            math.floor(one(row + 0.5) + one(y / 128) * z),
            math.floor(one(column + 0.5) + one(x / 128) * z),
        )

    return probe(*offset[:2]) - probe(*offset[2:])


def test_equal_a_slow_loop():
    depth, labels = scene(3)
    rows, columns = np.nonzero((labels > 0) & (depth > 0))
    rows, columns = rows[::37], columns[::37]
    offsets = sample_pool(0, 40, 129.0)
    values = features.depth_features(depth, rows, columns, offsets)
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        for j, offset in enumerate(offsets.tolist()):
            assert values[i, j] == slow_feature(depth, row, column, offset)
    inner = np.abs(values) < 1
    assert inner.mean() > 0.1 and (values > 900).any() and (values < -900).any()


def test_offsets_reach_equally_far_at_any_depth():
    # A step of 0.3 m that is 20 pixel metres to the right of a pixel.
    for metres, pixels in ((2.0, 10), (4.0, 5)):
        depth = np.full((5, 60), metres, np.float32)
        depth[:, 20 + pixels :] += 0.3
        offsets = np.array([[20 * 128, 0, 0, 0], [17 * 128, 0, 0, 0]], np.int16)
        values = features.depth_features(depth, [2], [20], offsets)[0]
        np.testing.assert_allclose(values, [0.3, 0.0], atol=1e-6)


def test_what_is_missing_or_outside_is_far_away():
    depth = np.full((4, 4), 1.0, np.float32)
    depth[0, 0] = 0
    far = np.float32(features.BACKGROUND)
    offsets = np.array([[-128, -128, 0, 0], [0, 0, 600, 0], [600, 0, 0, 600]], np.int16)
    values = features.depth_features(depth, [1], [1], offsets)[0]
    np.testing.assert_array_equal(values, [far - 1, 1 - far, 0])


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.full((4, 4), 2500.0), "in metres.*received 2500 .millimetres"),
        (np.full((4, 4), 2500, np.uint16), "floating point in metres, received uint16"),
        (np.array([[1.0, np.nan]]), "received NaN or infinity"),
        (np.array([[1.0, np.inf]]), "received NaN or infinity"),
        (np.array([[1.0, -0.5]]), "0 or larger, received -0.5"),
        (np.ones((2, 4, 4)), r"height and width, received shape \(2, 4, 4\)"),
        (np.ones((0, 4)), r"received shape \(0, 4\)"),
    ],
)
def test_bad_depth_is_one_line(depth, words):
    with pytest.raises(InputError, match=words) as raised:
        features.check_depth(depth)
    assert "\n" not in str(raised.value)
