"""Verification: by hand, by loops, and as scikit-learn draws the curve."""

import doctest
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mlcvtf.metrics import verification

FIXTURE = pathlib.Path(__file__).with_name("roc_case.json")


def random_pairs(seed, pairs=300, ties=True):
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.4
    scores = rng.normal(0, 1, pairs) + 1.5 * same
    return (scores.round(1) if ties else scores), same


def test_curve_equals_the_stored_one_of_scikit_learn():
    case = json.loads(FIXTURE.read_text())
    curve = verification.roc(case["scores"], case["same"])
    np.testing.assert_allclose(curve.far, case["far"], atol=1e-12)
    np.testing.assert_allclose(curve.tar, case["tar"], atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds[1:], case["thresholds"])
    assert curve.thresholds[0] == np.inf


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(10))
def test_curve_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, same = random_pairs(seed, ties=seed % 2 == 0)
    curve = verification.roc(scores, same)
    far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.far, far, atol=1e-12)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("far", [0.05, 0.1, 0.3, 1.0])
def test_rates_at_a_threshold_equal_counting(seed, far):
    scores, same = random_pairs(seed)
    threshold = verification.threshold_at(scores, same, far)
    accepted = scores >= threshold
    assert accepted[~same].mean() <= far
    lower = scores[scores < threshold]
    if len(lower):
        assert (scores >= lower.max())[~same].mean() > far
    assert verification.tar_at_far(scores, same, far) == accepted[same].mean()


def test_a_rate_is_refused_where_pairs_are_too_few():
    scores, same = random_pairs(0, pairs=100)
    same[:] = np.arange(100) >= 50
    assert 0 < verification.tar_at_far(scores, same, 0.1) <= 1
    with pytest.raises(ValueError, match="50 x 0.01"):
        verification.tar_at_far(scores, same, 0.01)
    assert verification.is_measurable(50, 0.1)
    assert not verification.is_measurable(49, 0.1)
    assert verification.is_measurable(5000, 1e-3)
    assert not verification.is_measurable(600, 1e-3)


def test_equal_error_rate_by_hand():
    # Above 0.5: one of four impostors; below: one of four clients.
    scores = [0.9, 0.8, 0.7, 0.4, 0.6, 0.3, 0.2, 0.1]
    same = [True] * 4 + [False] * 4
    assert verification.equal_error_rate(scores, same) == 0.25
    assert verification.equal_error_rate([1, 1, 0, 0], [True, True, False, False]) == 0
    assert verification.equal_error_rate([0, 0, 1, 1], [True, True, False, False]) == 1
    assert verification.equal_error_rate([1, 1, 1], [True, True, False]) == 0.5


def test_equal_error_rate_of_two_gaussians():
    rng = np.random.default_rng(3)
    scores = np.concatenate([rng.normal(2, 1, 40000), rng.normal(0, 1, 40000)])
    same = np.arange(80000) < 40000
    # The normal distribution's tail beyond one standard deviation.
    rate = verification.equal_error_rate(scores, same)
    assert rate == pytest.approx(0.1587, abs=3e-3)


@pytest.mark.parametrize("seed", range(20))
def test_best_threshold_is_best(seed):
    scores, same = random_pairs(seed, pairs=40)

    def right(threshold):
        return np.sum((scores >= threshold) == same)

    grid = np.concatenate([[-9, 9], np.unique(scores), np.unique(scores) + 0.05])
    best = max(right(t) for t in grid)
    assert right(verification.best_threshold(scores, same)) == best


def test_best_threshold_of_kinds_that_are_mixed_up():
    assert 3 < verification.best_threshold([1.0, 2, 3], [True, False, False]) < 3.1
    assert verification.best_threshold([2.0, 2.0, 2.0], [True, True, False]) == 2.0
    assert 2 < verification.best_threshold([2.0, 2, 2], [True, False, False]) < 2.1


def test_each_fold_is_judged_by_the_others():
    # Alone, each fold would be right everywhere; the other's threshold is too high
    # for fold "a" (one client of two lost) and too low for "b" (an impostor passes).
    scores = np.array([0.5, 0.3, 0.2, 0.0, 0.9, 0.8, 0.4, 0.1])
    same = np.array([True, True, False, False] * 2)
    folds = np.array(["a"] * 4 + ["b"] * 4)
    result = verification.k_fold_accuracy(scores, same, folds)
    assert result.folds["a"] == (0.5, pytest.approx(0.6))
    assert result.folds["b"] == (0.75, pytest.approx(0.25))
    assert result.mean == pytest.approx(0.625)
    # Standard deviation of (0.5, 0.75) with n - 1, over the root of 2.
    assert result.standard_error == pytest.approx(0.125)


def test_a_fold_does_not_choose_its_own_threshold():
    scores, same = random_pairs(1, pairs=120)
    folds = np.repeat([1, 2, 3], 40)
    before = verification.k_fold_accuracy(scores, same, folds).folds[2][1]
    changed = np.where(folds == 2, scores * 7 - 3, scores)
    assert verification.k_fold_accuracy(changed, same, folds).folds[2][1] == before


@pytest.mark.parametrize("scores, same, message", [
    ([1, 2], [True], r"\[2\] and \[1\]"),
    ([1, np.nan], [True, False], "nan"),
    ([1, 2], [True, True], "2 of one among 2"),
    ([], [], "0 of one among 0"),
])
def test_what_cannot_be_measured_is_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        verification.roc(scores, same)
    with pytest.raises(ValueError, match=message):
        verification.k_fold_accuracy(scores, same, [1] * len(scores))


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        verification.k_fold_accuracy([1, 0], [True, False], [1, 1])


def test_module_imports_neither_keras_nor_tensorflow():
    code = ("import sys, mlcvtf.metrics.verification, mlcvtf.metrics.identification, "
            "mlcvtf.metrics.average_precision; "
            "sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_examples():
    assert doctest.testmod(verification).failed == 0
