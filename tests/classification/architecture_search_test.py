"""The cell space by hand, REINFORCE's loss and its steps, searches that resume."""

import json

import keras
import numpy as np
import pytest

from mlcvtf.classification.architecture_search import (
    METHODS,
    Controller,
    RandomSearch,
    Reinforce,
    best_so_far,
    search,
    tokens,
)
from mlcvtf.classification.cell_network import (
    OPERATIONS,
    canonical,
    cell_network,
    check,
    describe,
    options,
)
from mlcvtf.classification.trials import TrialLog


def test_the_size_of_the_space():
    assert options(4) == (2, 2, 6, 6, 3, 3, 6, 6, 4, 4, 6, 6, 5, 5, 6, 6)
    assert np.prod(options(4), dtype=float) == (2 * 3 * 4 * 5) ** 2 * 6.0**8


def test_sides_may_be_exchanged_and_blocks_not():
    assert canonical((1, 0, 5, 2)) == canonical((0, 1, 2, 5)) == (0, 1, 2, 5)
    assert canonical((0, 1, 5, 2)) != canonical((0, 1, 2, 5))
    assert canonical((1, 1, 4, 3)) == (1, 1, 3, 4)


@pytest.mark.parametrize("cell", [(), (0, 1, 2), (0, 2, 0, 0), (0, 0, 6, 0),
                                  (0, 0, 0, -1)])
def test_what_is_no_cell_is_said(cell):
    with pytest.raises(ValueError, match="a cell of b blocks"):
        check(cell)


def test_a_cell_in_words():
    assert describe((0, 1, 2, 0, 2, 2, 4, 3)) == [
        "block 0 = convolution 3x3 of the cell before the last + identity of the last "
        "cell",
        "block 1 = average pooling 3x3 of block 0 + separable 3x3 of block 0",
    ]


def test_a_network_computes_what_its_cell_says():
    """Block 1 is used by nobody, block 0 neither: both are given."""
    network = cell_network((1, 1, 5, 0, 0, 1, 4, 0), 4, 1, 1, (16, 16, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    pools = [next(layer for layer in network.layers if isinstance(layer, kind))
             for kind in (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)]
    parts = keras.Model(network.input, [pool.input for pool in pools])
    last, before = parts(images)
    same = {"pool_size": 3, "strides": 1, "padding": "same"}
    expected = keras.ops.concatenate([
        keras.ops.max_pool(last, **same) + last,
        keras.ops.average_pool(before, **same) + last], -1)
    np.testing.assert_allclose(network(images)["P1"], expected, atol=1e-5)


@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
def test_every_operation_keeps_the_size(operation):
    network = cell_network((0, 1, operation, 0), 4, 2, 1)
    maps = network(np.zeros((1, 18, 11, 3), "float32"))
    assert {k: v.shape for k, v in maps.items()} == {
        "P1": (1, 9, 6, 4), "P2": (1, 5, 3, 8)}


def test_cells_repeat_with_their_own_weights():
    one, two = (cell_network((0, 1, 2, 2), 4, 1, n).count_params() for n in (1, 2))
    # Two adjustments of 4 to 4, two convolutions, four normalisations of 4.
    assert two - one == 2 * 16 + 2 * 144 + 4 * 16
    with pytest.raises(ValueError, match="at least 1, received 4, 0 and 1"):
        cell_network((0, 1, 2, 2), 4, 0)


@pytest.fixture(scope="module")
def controller():
    keras.utils.set_random_seed(0)
    return Controller(2, 8, entropy_weight=0.0)


CELL = (1, 0, 2, 5, 2, 1, 3, 0)


def likelihood(controller, cell):
    rows = controller.probabilities(cell)
    return sum(np.log(row[choice]) for row, choice in zip(rows, cell, strict=True))


def test_probabilities_are_of_the_options_and_depend_on_the_past(controller):
    rows = controller.probabilities(CELL)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-6)
    for row, count in zip(rows, options(2), strict=True):
        assert (row[:count] > 0).all() and (row[count:] == 0).all()
    other = controller.probabilities((1, 0, 2, 5, 0, 1, 3, 0))
    np.testing.assert_allclose(other[:5], rows[:5], atol=1e-7)
    assert (np.abs(other[5:] - rows[5:]).max(1) > 1e-7).all()


def test_samples_follow_the_probabilities(controller):
    generator = np.random.default_rng(0)
    cells = np.array([controller.sample(generator) for _ in range(200)])
    assert (cells.max(0) == np.array(options(2)) - 1).all() and cells.min() == 0
    share = np.mean(cells[:, 2] == 1)
    expected = controller.probabilities(CELL)[2, 1]
    assert abs(share - expected) < 3 * np.sqrt(expected / 200)


def test_the_loss_is_advantage_times_likelihood_less_entropy(controller):
    cells, advantages = [CELL, (0,) * 8], np.array([0.5, -2.0], "float32")
    outputs = controller(tokens(cells))
    targets = {"cell": np.array(cells), "advantage": advantages}
    plain = float(controller.compute_loss(y=targets, y_pred=outputs))
    terms = [-a * likelihood(controller, c)
             for a, c in zip(advantages, cells, strict=True)]
    assert plain == pytest.approx(np.mean(terms), rel=1e-5)
    weighted = controller.compute_loss(
        y=targets, y_pred=outputs, sample_weight=np.array([1.0, 0.0], "float32"))
    assert float(weighted) == pytest.approx(terms[0], rel=1e-5)
    open_one = Controller(2, 8, entropy_weight=0.1)
    open_one.set_weights(controller.get_weights())
    entropies = [-sum((row[row > 0] * np.log(row[row > 0])).sum()
                      for row in controller.probabilities(c)) for c in cells]
    loss = float(open_one.compute_loss(y=targets, y_pred=open_one(tokens(cells))))
    assert loss == pytest.approx(plain - 0.1 * np.mean(entropies), rel=1e-5)


@pytest.mark.parametrize("advantage", [0.5, -0.5])
def test_a_step_makes_what_was_good_likelier(advantage):
    keras.utils.set_random_seed(1)
    controller = Controller(2, 8)
    controller.compile(keras.optimizers.SGD(0.05))
    before = likelihood(controller, CELL)
    controller.train_on_batch(tokens([CELL]), {
        "cell": np.array([CELL]), "advantage": np.array([advantage], "float32")})
    change = likelihood(controller, CELL) - before
    assert change * advantage > 1e-3


def matches(cell):
    """A reward that is easy to climb: the share of 3x3 convolutions."""
    kinds = np.array(cell).reshape(-1, 4)[:, 2:]
    return {"accuracy": float(np.mean(kinds == 2))}


def test_reinforce_finds_what_chance_does_not(tmp_path):
    found = {}
    for name, method in METHODS.items():
        trials = search(method(0, 2), matches, 120, TrialLog(tmp_path / name), {})
        found[name] = np.array([trial["accuracy"] for trial in trials])
    assert found["random"].mean() == pytest.approx(1 / 6, abs=0.05)
    assert found["REINFORCE"][:20].mean() < 0.5
    assert found["REINFORCE"][-20:].mean() > 0.8


def test_a_search_that_was_stopped_goes_on_as_if_not(tmp_path):
    paths = tmp_path / "whole", tmp_path / "parts"
    whole = search(Reinforce(3, 2), matches, 8, TrialLog(paths[0]), {})
    # What a kill in the fifth training leaves.
    lines = paths[0].read_text().splitlines(keepends=True)
    paths[1].write_text("".join(lines[:4]))
    resumed = search(Reinforce(3, 2), matches, 8, TrialLog(paths[1]), {})
    assert [t["cell"] for t in resumed] == [t["cell"] for t in whole]
    lines = paths[1].read_text().splitlines()
    assert [json.loads(line)["child"] for line in lines] == list(range(8))


def test_a_known_cell_is_not_trained_again(tmp_path):
    cell = canonical(RandomSearch(0, 1).propose(0))
    calls = []

    def evaluate(key):
        calls.append(key)
        return {"accuracy": 0.5}

    trials = search(RandomSearch(0, 1), evaluate, 100, TrialLog(tmp_path / "log"),
                    {cell: {"accuracy": 0.25}})
    assert trials[0]["cached"] and trials[0]["accuracy"] == 0.25
    assert cell not in calls and len(calls) == len(set(calls)) < 100
    assert sum(not trial["cached"] for trial in trials) == len(calls)


def test_best_so_far_by_hand():
    bands = best_so_far([[1, 3, 2], [2, 1, 5]])
    np.testing.assert_array_equal(bands.mean, [1.5, 2.5, 4])
    np.testing.assert_array_equal(bands.low, [1, 2, 3])
    np.testing.assert_array_equal(bands.high, [2, 3, 5])
