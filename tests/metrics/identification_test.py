"""Open-set identification, counted by hand and by loops."""

import doctest

import numpy as np
import pytest

from mlcvtf.metrics import identification

ENROLLED = ["ada", "bob", "ada"]
QUERIES = ["ada", "bob", "bob", "eve", "mallory"]
SCORES = [
    [0.2, 0.5, 0.9],  # Ada, by her second picture
    [0.1, 0.4, 0.3],  # Bob, below the threshold
    [0.8, 0.7, 0.0],  # Bob, taken for Ada
    [0.6, 0.1, 0.1],  # a stranger who gets a name
    [0.3, 0.4, 0.2],  # a stranger who gets none
]


def test_counts_by_hand():
    result = identification.open_set(SCORES, QUERIES, ENROLLED, 0.5)
    assert (result.mates, result.strangers) == (3, 2)
    assert result.rank_one == pytest.approx(2 / 3)
    assert result.detection_and_identification == pytest.approx(1 / 3)
    assert result.false_positive_identification == 0.5


def test_a_score_on_the_threshold_is_accepted():
    result = identification.open_set(SCORES, QUERIES, ENROLLED, 0.6)
    assert result.false_positive_identification == 0.5
    result = identification.open_set(SCORES, QUERIES, ENROLLED, 0.6 + 1e-9)
    assert result.false_positive_identification == 0


@pytest.mark.parametrize("rate, expected", [(0.0, 1 / 3), (0.5, 2 / 3), (1.0, 2 / 3)])
def test_detection_where_strangers_pass_at_a_rate(rate, expected):
    # Strangers' best scores are 0.6 and 0.4; Bob's right one of 0.4 needs the lowest.
    scores = np.array(SCORES)
    scores[1, 1] = 0.5
    found = identification.detection_at(scores, QUERIES, ENROLLED, rate)
    assert found == pytest.approx(expected)


def test_equals_loops_on_random_scores():
    rng = np.random.default_rng(0)
    enrolled = rng.integers(0, 12, 20)
    queries = rng.integers(0, 20, 200)
    scores = rng.random((200, 20))
    mates = hits = first = strangers = named = 0
    for row, name in zip(scores, queries, strict=True):
        best = max(range(20), key=lambda i: row[i])
        if name in enrolled:
            mates += 1
            first += enrolled[best] == name
            hits += enrolled[best] == name and row[best] >= 0.95
        else:
            strangers += 1
            named += row[best] >= 0.95
    result = identification.open_set(scores, queries, enrolled, 0.95)
    assert result == pytest.approx(
        (mates, strangers, first / mates, hits / mates, named / strangers))


def test_rates_without_queries_are_not_a_number():
    result = identification.open_set(SCORES[:1], ["ada"], ENROLLED, 0.5)
    assert result.strangers == 0 and np.isnan(result.false_positive_identification)
    result = identification.open_set(SCORES[3:], ["eve", "mallory"], ENROLLED, 0.5)
    assert result.mates == 0 and np.isnan(result.rank_one)
    with pytest.raises(ValueError, match="received none"):
        identification.detection_at(SCORES[:1], ["ada"], ENROLLED, 0.5)


@pytest.mark.parametrize("scores, queries, enrolled", [
    (np.zeros((2, 3)), ["a"], ["a", "b", "c"]),
    (np.zeros((2, 3)), ["a", "b"], ["a", "b"]),
    (np.zeros((2, 0)), ["a", "b"], []),
    (np.zeros(3), ["a"], ["a", "b", "c"]),
])
def test_shapes_that_do_not_fit_are_refused(scores, queries, enrolled):
    with pytest.raises(ValueError, match="received"):
        identification.open_set(scores, queries, enrolled, 0.5)


def test_examples():
    assert doctest.testmod(identification).failed == 0
