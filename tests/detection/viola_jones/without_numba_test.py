"""Without numba, TensorFlow and NumPy give what the compiled loops give."""

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import (
    boosting_kernels,
    grouping_kernels,
    without_numba,
)
from tests.case import child
from tests.detection.viola_jones import without_numba_child


@pytest.mark.parametrize(
    "name", ["found", pytest.param("trained", marks=pytest.mark.slow)]
)
def test_the_same_where_it_cannot_be_imported(name, tmp_path):
    module = without_numba_child.__name__
    out = tmp_path / "found.npz"
    result = child(["-m", module, name, out, tmp_path / "there"], 300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert [line for line in result.stderr.splitlines() if "numba" in line] == [
        "numba cannot be imported: cascades run through TensorFlow and NumPy, with "
        "equal results, many times slower"
    ]
    wanted = getattr(without_numba_child, name)(tmp_path / "here")
    assert min(map(len, wanted.values())) > 0
    with np.load(out) as arrays:
        assert set(arrays) == set(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(arrays[key], value, key)


def test_loops_of_values_and_bins():
    generator = np.random.default_rng(0)
    images = tuple(generator.integers(0, 30000, (2, 40, 90), dtype=np.int32))
    corners = generator.integers(0, 40, (7, 3, 4), dtype=np.int32)
    weights = generator.integers(-2, 3, (7, 3)).astype(np.float32) * np.float32(0.7)
    tilted = generator.random(7) < 0.5
    norms = generator.random(90).astype(np.float32)
    one, other = np.zeros((2, 7, 90), np.float32)
    for module, out in ((boosting_kernels, one), (without_numba, other)):
        module.fill_values(images, corners, weights, tilted, norms, out)
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) > 300
    one, other = np.zeros((2, 7, 96), np.uint8)
    for module, out in ((boosting_kernels, one), (without_numba, other)):
        module.fill_bins(images, corners, weights, tilted, norms, out)
    np.testing.assert_array_equal(one, other)


def test_loop_of_groups():
    generator = np.random.default_rng(0)
    boxes = generator.integers(0, 60, (150, 4)).astype(np.int32)
    boxes[:, 2:] = generator.integers(18, 30, (150, 1))
    boxes = boxes[np.argsort(boxes[:, 0], kind="stable")]
    one, other = (
        module.connect(boxes, 0.1) for module in (grouping_kernels, without_numba)
    )
    # Which box stands for a group is free.
    same = one[:, None] == one
    np.testing.assert_array_equal(same, other[:, None] == other)
    assert 5 < len(np.unique(one)) < 120
