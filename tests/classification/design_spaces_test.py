"""Design spaces: counts against TensorFlow's profiler, bands against the binomial."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from mlcvtf.backbones.regnet import Stage
from mlcvtf.classification.design_spaces import (
    MOST,
    SPACES,
    STRIDES,
    anynet,
    error_distribution,
    multiply_adds,
    sample,
    study,
)
from mlcvtf.classification.trials import Schedule, TrialLog, train
from tests.classification.trials_test import made_up

ROWS = [Stage(8, 1, 8), Stage(16, 2, 8), Stage(16, 1, 16), Stage(32, 1, 32)]


def profiled(model, side):
    """Multiply-adds of the convolutions, as TensorFlow's own profiler counts them."""
    function = tf.function(model).get_concrete_function(
        tf.TensorSpec((1, side, side, 3), tf.float32))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    found = tf.compat.v1.profiler.profile(function.graph, cmd="op", options=options)
    count, nodes = 0, [found]
    while nodes:
        node = nodes.pop()
        count += node.float_ops if node.name == "Conv2D" else 0
        nodes += node.children
    return count // 2


@pytest.mark.parametrize("side", [32, 27])
def test_multiply_adds_are_those_that_run(side):
    model = anynet(ROWS, (side, side, 3))
    assert multiply_adds(ROWS, side) == profiled(model, side)


def test_multiply_adds_by_hand():
    rows = [Stage(8, 1, 8)] + [Stage(8, 1, 8)] * 3
    # Stem at 8x8, then 4x4, 2x2, 1x1, 1x1: 1x1 before the stride, 3x3, 1x1, shortcut.
    expected = 64 * 9 * 3 * 16 + 64 * 16 * 8 + 16 * 8 * (72 + 8) + 16 * 16 * 8
    for before, after in ((16, 4), (4, 1), (1, 1)):
        expected += before * 64 + after * 8 * (72 + 8) + after * 64
    assert multiply_adds(rows, 8) == expected


def test_a_network_has_its_stages():
    model = anynet(ROWS)
    maps = model(np.zeros((1, 32, 20, 3), "float32"))
    assert {k: v.shape for k, v in maps.items()} == {
        "P1": (1, 16, 10, 8), "P2": (1, 8, 5, 16), "P3": (1, 4, 3, 16),
        "P4": (1, 2, 2, 32)}
    with pytest.raises(ValueError, match="4 stages, received 1"):
        anynet(ROWS[:1])


@pytest.mark.parametrize("space", SPACES)
def test_samples_are_of_their_space(space):
    drawn = [sample(space, np.random.default_rng((0, i))) for i in range(60)]
    for rows in drawn:
        assert len(rows) == len(STRIDES)
        assert MOST / 2 <= multiply_adds(rows) <= MOST
        assert all(row.width % row.group_width == 0 for row in rows)
    widths = np.array([[row.width for row in rows] for rows in drawn])
    rising = (np.diff(widths, axis=1) >= 0).all(1)
    groups = [len({row.group_width for row in rows}) for rows in drawn]
    if space == "RegNet":
        assert rising.all()
        # One group width, but for stages that are narrower than it.
        assert all(row.group_width in (max(r.group_width for r in rows), row.width)
                   for rows in drawn for row in rows)
    else:
        assert not rising.all() and max(groups) > 2
    assert len({tuple(rows) for rows in drawn}) == 60


def test_an_unknown_space_is_said():
    with pytest.raises(ValueError, match="AnyNet, RegNet, received 'VGG'"):
        sample("VGG", np.random.default_rng(0))


def test_the_distribution_by_hand():
    found = error_distribution([0.5, 0.25, 0.75, 0.5], [0.2, 0.5, 0.6, 0.8])
    np.testing.assert_array_equal(found.share, [0, 0.25, 0.75, 1])
    np.testing.assert_array_equal(found.low[[0, 3]], [0, 1])
    np.testing.assert_array_equal(found.high[[0, 3]], [0, 1])
    with pytest.raises(ValueError, match="received 0"):
        error_distribution([], [0.5])


def test_bands_are_the_binomial_s_percentiles():
    """A resample has a share that is binomial: n draws with the probability F(e)."""
    errors = np.linspace(0, 1, 100, endpoint=False)
    points = [0.1, 0.305, 0.5, 0.9]
    found = error_distribution(errors, points, 0.9, 20_000)
    for share, low, high in zip(*found, strict=True):
        limits = scipy.stats.binom.ppf([0.05, 0.95], 100, share) / 100
        np.testing.assert_allclose([low, high], limits, atol=0.0101)


def test_bands_cover_the_truth_as_often_as_they_say():
    generator, covered = np.random.default_rng(0), []
    for _ in range(200):
        found = error_distribution(generator.beta(5, 3, 100), [0.6], 0.9, 500)
        truth = scipy.stats.beta.cdf(0.6, 5, 3)
        covered.append(found.low[0] <= truth <= found.high[0])
    assert 0.83 <= np.mean(covered) <= 0.97


def test_a_study_goes_on_with_the_models_that_it_would_have_had(tmp_path):
    def evaluate(rows):
        return {"accuracy": rows[0].width / 512}

    whole = study("AnyNet", 6, evaluate, TrialLog(tmp_path / "whole"), seed=3)
    study("AnyNet", 2, evaluate, TrialLog(tmp_path / "parts"), seed=3)
    parts = study("AnyNet", 6, evaluate, TrialLog(tmp_path / "parts"), seed=3)
    assert parts == whole and [trial["model"] for trial in parts] == list(range(6))
    first = whole[0]
    assert first["error"] == 1 - first["stages"][0][0] / 512
    assert first["multiply_adds"] == multiply_adds(
        [Stage(*row) for row in first["stages"]])
    assert study("AnyNet", 3, evaluate, TrialLog(tmp_path / "parts")) == whole[:3]


@pytest.mark.slow
def test_a_model_learns():
    keras.utils.set_random_seed(0)
    result = train(anynet(ROWS, (8, 8, 3)), made_up(), Schedule(4, 10, 0.05))
    assert result["accuracy"] > 0.8
