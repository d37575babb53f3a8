"""Counts worked out by hand, and Keras's own metrics as the other opinion."""

import keras
import numpy as np
import pytest

from mlcvtf.metrics import confusion


@pytest.fixture
def pixels():
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, (20, 30))
    predicted = np.where(
        generator.random((20, 30)) < 0.6, true, generator.integers(0, 4, (20, 30))
    )
    return true, predicted


def test_mean_intersection_over_union_is_that_of_keras(pixels):
    true, predicted = pixels
    # A fifth class that never occurs does not count, in either.
    metric = keras.metrics.MeanIoU(5)
    metric.update_state(true, predicted)
    matrix = confusion.confusion_matrix(true, predicted, 5)
    shares = confusion.intersection_over_union(matrix)
    assert np.isnan(shares[4]) and matrix.sum() == 600
    assert np.nanmean(shares) == pytest.approx(float(metric.result()), abs=1e-6)


def test_rows_are_the_truth():
    matrix = confusion.confusion_matrix([2, 2, 0, 255, -1], [1, 2, 0, 0, 1], 3)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert confusion.recall(matrix).tolist() == pytest.approx(
        [1, np.nan, 0.5], nan_ok=True
    )
    shares = confusion.intersection_over_union(matrix)
    assert shares.tolist() == [1, 0, 0.5]


def test_nothing_is_no_error():
    matrix = confusion.confusion_matrix(np.zeros((0, 3)), np.zeros((0, 3)), 2)
    assert matrix.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(confusion.recall(matrix)).all()


@pytest.mark.parametrize(
    "true, predicted, message",
    [
        ([0, 1], [0], r"\[2\] and \[1\]"),
        ([0], [3], r"0\.\.2, received 3\.\.3"),
        ([0], [-1], "received -1"),
    ],
)
def test_what_does_not_fit_is_refused(true, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion.confusion_matrix(true, predicted, 3)


def test_in_top_is_that_of_keras():
    generator = np.random.default_rng(1)
    scores = generator.random((50, 9)).astype(np.float32)
    true = generator.integers(0, 9, 50)
    for k in (1, 3, 9):
        metric = keras.metrics.SparseTopKCategoricalAccuracy(k)
        metric.update_state(true, scores)
        assert confusion.in_top(scores, true, k).mean() == pytest.approx(
            float(metric.result()), abs=1e-6
        )
