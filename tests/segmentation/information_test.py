"""Integer information against floating point."""

import numpy as np
import pytest

from mlcvtf.segmentation.body_parts import information

TABLES = information.fixed_point_tables()


@pytest.mark.parametrize(
    "low, high", [(0, 70_000), (2**20, 2**20 + 999), (2**31 - 999, 2**31)]
)
def test_n_log_n(low, high):
    numbers = np.unique(np.linspace(low, high, 1000).astype(np.int64))
    expected = numbers * np.log2(np.maximum(numbers, 1))
    found = information.n_log_n(numbers, TABLES) / 2**information.PLACES
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * high)


def entropy(counts):
    share = counts[counts > 0] / counts.sum()
    return -np.sum(share * np.log2(share))


def test_the_best_split_gains_most():
    random = np.random.default_rng(0)
    histograms = random.integers(0, 9, (5, 4, 7, 3))
    for node, found in zip(
        histograms, information.best_split(histograms, TABLES), strict=True
    ):
        gains = np.zeros((4, 6))
        for f in range(4):
            total = node[f].sum(0)
            for t in range(6):
                left = node[f, : t + 1].sum(0)
                parts = [p.sum() * entropy(p) for p in (left, total - left) if p.sum()]
                gains[f, t] = total.sum() * entropy(total) - sum(parts)
            # Random counts differ by feature; the score is of the children alone.
            gains[f] -= total.sum() * entropy(total)
        best = np.unravel_index(gains.argmax(), gains.shape)
        assert tuple(found[1:]) == best
        np.testing.assert_allclose(
            found[0] / 2**information.PLACES, gains.max(), atol=1e-3
        )


def test_of_equal_splits_the_first_is_taken():
    histogram = np.zeros((1, 3, 4, 2), int)
    histogram[0, 1:, 1, 0] = 5
    histogram[0, 1:, 3, 1] = 5
    histogram[0, 0, 2] = 5
    score, feature, threshold = information.best_split(histogram, TABLES)[0]
    assert (score, feature, threshold) == (0, 1, 1)


def test_a_split_that_separates_nothing_gains_nothing():
    histogram = np.zeros((1, 1, 3, 2), int)
    histogram[0, 0, 2] = 6, 3
    parent = information.node_score(np.array([6, 3]), TABLES)
    assert information.best_split(histogram, TABLES)[0, 0] == parent < 0
