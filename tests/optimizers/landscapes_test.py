"""Surfaces against finite differences and scipy, and the ways of optimizers on them."""

import numpy as np
import pytest
import scipy.optimize

from mlcvtf.optimizers.landscapes import EXAMPLES, SURFACES, noise, trajectories


def distances(surface, points):
    """How far points are from the nearest minimum."""
    minima = np.array(surface.minima)
    return np.linalg.norm(points[:, None] - minima, axis=-1).min(1)


@pytest.mark.parametrize("name", SURFACES)
def test_minima_are_minima_inside_the_window(name):
    surface = SURFACES[name]
    left, right, low, high = surface.window
    for x, y in (*surface.minima, surface.start):
        assert left < x < right and low < y < high
    for point in surface.minima:
        found = scipy.optimize.minimize(
            lambda w: surface.value(*w), np.add(point, 0.05), tol=1e-12)
        np.testing.assert_allclose(found.x, point, atol=1e-4)
        around = np.random.default_rng(0).normal(point, 0.1, (100, 2))
        assert (surface.value(*around.T) > surface.value(*point)).all()


def test_values_by_hand():
    def at(name, x, y):
        return SURFACES[name].value(x, y)

    assert at("rosenbrock", -1.0, 2.0) == 104 and at("saddle", 1.0, 2.0) == 1
    assert at("beale", 1.0, 2.0) == 126.453125
    assert at("rosenbrock", -1.2, 1.0) == pytest.approx(
        scipy.optimize.rosen([-1.2, 1.0]))


def test_the_saddle_is_one():
    value = SURFACES["saddle"].value
    assert value(0.1, 0.0) > value(0.0, 0.0) > value(0.0, 0.1)


def test_noise_has_mean_zero_over_an_epoch_and_falls_with_the_batch():
    batches = noise(3.0, 32)
    epoch = np.array([next(batches) for _ in range(EXAMPLES // 32)])
    np.testing.assert_allclose(epoch.mean(0), 0, atol=1e-6)
    assert np.abs(epoch).min() > 0
    whole = next(noise(3.0, EXAMPLES))
    np.testing.assert_allclose(whole, 0, atol=1e-6)
    spread = {size: np.std([next(batches) for batches in [noise(3.0, size)]
                            for _ in range(2000)]) for size in (1, 16)}
    assert spread[1] == pytest.approx(3.0, rel=0.1)
    assert spread[1] / spread[16] == pytest.approx(4.0, rel=0.1)


@pytest.fixture(scope="module")
def sphere():
    return trajectories(SURFACES["sphere"], batch_size=EXAMPLES, steps=40)


def test_without_noise_the_ways_are_those_of_the_formulas(sphere):
    rate, start = SURFACES["sphere"].rate, np.array(SURFACES["sphere"].start)
    steps = np.arange(41)[:, None]
    np.testing.assert_allclose(
        sphere["SGD"], start * (1 - 2 * rate) ** steps, rtol=1e-4)
    # Adam's first step has the length of the rate in every direction.
    first = sphere["Adam"][1] - sphere["Adam"][0]
    np.testing.assert_allclose(
        first, -SURFACES["sphere"].adaptive_rate * np.sign(start), rtol=1e-4)
    for name in ("Newton", "truncated Newton"):
        np.testing.assert_allclose(sphere[name][1], 0, atol=1e-5)


def test_all_come_nearer_and_momentum_sooner_than_sgd(sphere):
    ends = {name: distances(SURFACES["sphere"], points)[-1]
            for name, points in sphere.items()}
    assert len(ends) == 9 and max(ends.values()) < 0.7 * 2.5
    assert ends["momentum"] < ends["SGD"]


def test_newton_stays_in_the_saddle_that_momentum_leaves():
    ways = trajectories(SURFACES["saddle"], ("momentum", "Newton", "truncated Newton"),
                        EXAMPLES)
    np.testing.assert_allclose(ways["Newton"][-1], 0, atol=1e-3)
    for name in ("momentum", "truncated Newton"):
        assert distances(SURFACES["saddle"], ways[name])[-1] < 0.1


def test_the_same_seed_gives_the_same_way_and_another_one_does_not():
    def way(seed, names=("SGD",)):
        return trajectories(SURFACES["canyon"], names, 4, 20, seed)["SGD"]

    np.testing.assert_array_equal(way(0), way(0))
    # Mini-batches are the same whoever else walks.
    np.testing.assert_allclose(way(0, ("Adam", "SGD")), way(0), atol=1e-6)
    assert np.abs(way(0) - way(1)).max() > 1e-2


def test_what_is_out_of_range_is_said():
    with pytest.raises(ValueError, match="received \\['Lion'\\]"):
        trajectories(SURFACES["sphere"], ("Lion",))
    with pytest.raises(ValueError, match="batch_size is 1 to 256, received 0"):
        trajectories(SURFACES["sphere"], batch_size=0)
    with pytest.raises(ValueError, match="steps is at least 1, received 0"):
        trajectories(SURFACES["sphere"], steps=0)
