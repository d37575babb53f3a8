"""The heat map's focal loss by hand."""

import keras
import numpy as np

from mlcvtf.losses.heatmap import HeatmapFocalLoss


def logit(p):
    return np.log(p / (1 - p))


def test_hand_computed():
    target = np.array([1.0, 0.5, 0.0]).reshape(1, 1, 3, 1)
    prediction = np.array([0.8, 0.6, 0.1]).reshape(1, 1, 3, 1)
    expected = -(
        0.2**2 * np.log(0.8) + 0.5**4 * 0.6**2 * np.log(0.4) + 0.1**2 * np.log(0.9)
    )
    found = float(HeatmapFocalLoss()(target, logit(prediction)))
    assert abs(found - expected) < 1e-6


def test_zero_at_the_truth_and_finite_far_away():
    target = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    right = np.array([60.0, -60.0]).reshape(1, 1, 2, 1)
    assert float(HeatmapFocalLoss()(target, right)) < 1e-6
    wrong = keras.Variable(-300 * right / 60)
    assert abs(float(HeatmapFocalLoss()(target, wrong)) - 600) < 1e-2


def test_no_object_is_divided_by_one():
    target = np.zeros((2, 3, 3, 1))
    value = np.full((2, 3, 3, 1), logit(0.3))
    expected = -18 * 0.3**2 * np.log(0.7)
    assert abs(float(HeatmapFocalLoss()(target, value)) - expected) < 1e-5


def test_divided_by_the_number_of_centres():
    generator = np.random.default_rng(0)
    target = np.clip(generator.uniform(0, 1.5, (1, 6, 6, 1)), 0, 1)
    value = generator.normal(size=(1, 6, 6, 1))
    once = float(HeatmapFocalLoss()(target, value))
    twice = float(
        HeatmapFocalLoss()(np.tile(target, (2, 1, 1, 1)), np.tile(value, (2, 1, 1, 1)))
    )
    assert (target == 1).sum() > 1
    np.testing.assert_allclose(once, twice, rtol=1e-5)
