"""Quantiles against brute force, and what far means against simulated strangers."""

import itertools
import json
import math

import numpy as np
import pytest

from mlcvtf.embedding import calibration
from mlcvtf.embedding.search import UNKNOWN, Index
from mlcvtf.errors import InputError


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype("f4")


def random_faces(rng, people, pictures, d=32, spread=0.5):
    """Returns vectors that cluster by person, and the people."""
    centres = rng.normal(size=(people, 1, d))
    faces = centres + spread * rng.normal(size=(people, pictures, d))
    return unit(faces.reshape(-1, d)), np.repeat(np.arange(people), pictures).tolist()


@pytest.fixture(scope="module")
def table():
    return calibration.impostor_quantiles(
        *random_faces(np.random.default_rng(1), 700, 2)
    )


@pytest.mark.parametrize("rows", [7, 1024])
def test_quantiles_equal_brute_force(monkeypatch, rows):
    monkeypatch.setattr(calibration, "ROWS", rows)
    vectors, people = random_faces(np.random.default_rng(2), 30, 3)
    # People need not stand side by side.
    order = np.random.default_rng(3).permutation(90)
    vectors, people = vectors[order], [f"name {people[i]}" for i in order]
    scores = np.sort(
        [
            vectors[i] @ vectors[j]
            for i, j in itertools.combinations(range(90), 2)
            if people[i] != people[j]
        ]
    )
    table = calibration.impostor_quantiles(vectors, people)
    assert (table["people"], table["pictures"]) == (30, 90)
    assert table["pairs"] == len(scores) == 90 * 87 // 2
    for rate, threshold in table["quantiles"]:
        assert np.sum(scores >= threshold - 1e-6) / len(scores) == pytest.approx(rate)
        assert np.sum(scores > threshold + 1e-6) / len(scores) < rate
    rates = [rate for rate, _ in table["quantiles"]]
    assert rates == sorted(set(rates), reverse=True)
    assert rates[0] == pytest.approx(0.1, abs=1 / len(scores))
    assert rates[-1] == 10 / len(scores)
    assert len(rates) == pytest.approx(10 * math.log10(0.1 / rates[-1]), abs=2)
    assert json.loads(json.dumps(table)) == table


def test_tied_scores_count_all_of_them():
    # 20 people, 190 pairs, 10 of them at exactly 1: ranks within the tie are one.
    vectors = np.repeat(np.eye(10, dtype=np.float32), 2, axis=0)
    table = calibration.impostor_quantiles(vectors, range(20))
    assert table["quantiles"] == [[19 / 190, 0.0], [10 / 190, 1.0]]


def test_quantiles_refuse_what_cannot_be_measured():
    vectors, people = random_faces(np.random.default_rng(4), 10, 2)
    with pytest.raises(ValueError, match="100 impostor pairs are needed, received 24"):
        calibration.impostor_quantiles(vectors[:8], people[:8])
    with pytest.raises(ValueError, match="unit norm"):
        calibration.impostor_quantiles(2 * vectors, people)
    with pytest.raises(ValueError, match="19 people"):
        calibration.impostor_quantiles(vectors, people[:19])


def test_pair_rate_inverts_the_chance_of_any_name():
    for far, enrolled in [(1e-3, 300), (0.5, 1), (1e-9, 10**6)]:
        rate = calibration.pair_rate(far, enrolled)
        assert -math.expm1(enrolled * math.log1p(-rate)) == pytest.approx(far)
    # The example: a pair rate of 1e-3 names a quarter of all strangers.
    assert calibration.pair_rate(1 - 0.999**300, 300) == pytest.approx(1e-3)


def test_threshold_is_linear_in_the_logarithm_of_the_rate():
    card = {"pairs": 10**6, "quantiles": [[1e-1, 0.2], [1e-3, 0.4], [1e-5, 0.5]]}
    assert calibration.threshold(card, 1e-3, 1) == pytest.approx(0.4)
    assert calibration.threshold(card, 1e-2, 1) == pytest.approx(0.3)
    assert calibration.threshold(card, 1e-4, 1) == pytest.approx(0.45)
    # 100 enrolled ask for about a hundredth of the rate.
    assert calibration.threshold(card, 1e-2, 100) == pytest.approx(0.45, abs=1e-3)
    # Beyond the table: its strictest neighbour.
    assert calibration.threshold(card, 0.5, 1) == 0.2


def test_too_few_pairs_are_refused():
    card = {"pairs": 10**4, "quantiles": [[1e-1, 0.2], [1e-3, 0.4]]}
    assert calibration.threshold(card, 1e-3, 1) == pytest.approx(0.4)
    with pytest.raises(InputError, match="2 enrolled would have 5 of the 10000"):
        calibration.threshold(card, 1e-3, 2)
    smallest = calibration.smallest_far(card, 50)
    assert calibration.threshold(card, smallest, 50) == pytest.approx(0.4)
    with pytest.raises(InputError, match=f"smallest far here is {smallest:.2g}"):
        calibration.threshold(card, smallest * 0.98, 50)


def test_rate_that_the_table_does_not_reach_is_refused():
    card = {"pairs": 10**6, "quantiles": [[1e-1, 0.2], [1e-3, 0.4]]}
    with pytest.raises(InputError):
        calibration.threshold(card, 1e-4, 1)


@pytest.mark.parametrize("far", [0, 1, -0.1, math.nan])
def test_far_that_is_no_share_is_refused(table, far):
    with pytest.raises(InputError, match="over 0 and under 1"):
        calibration.threshold(table, far, 10)


def test_empty_gallery_is_refused(table):
    with pytest.raises(InputError, match="at least 1 enrolled"):
        calibration.threshold(table, 0.1, 0)


@pytest.mark.parametrize("enrolled", [1, 20, 200])
def test_strangers_get_names_as_often_as_asked(table, enrolled):
    rng = np.random.default_rng(5)
    vectors, people = random_faces(rng, enrolled, 1)
    index = Index([f"person {number}" for number in people], vectors)
    far = 0.03
    threshold = calibration.threshold(table, far, index.enrolled())
    strangers, _ = random_faces(rng, 20_000, 1)
    named = np.mean([m.name != UNKNOWN for m in index.search(strangers, threshold)])
    # 600 of them expected: 4 % standard deviation, plus that of the table.
    assert named == pytest.approx(far, rel=0.25)


@pytest.mark.parametrize("scoring", ["nearest", "centroid"])
def test_several_pictures_per_person_keep_the_promise(table, scoring):
    rng = np.random.default_rng(6)
    vectors, people = random_faces(rng, 40, 5)
    index = Index([f"person {number}" for number in people], vectors)
    assert index.enrolled(scoring) == {"nearest": 200, "centroid": 40}[scoring]
    far = 0.03
    threshold = calibration.threshold(table, far, index.enrolled(scoring))
    strangers, _ = random_faces(rng, 20_000, 1)
    matches = index.search(strangers, threshold, scoring=scoring)
    named = np.mean([m.name != UNKNOWN for m in matches])
    if scoring == "nearest":
        # Pictures of one person agree, so it is fewer, but not by much.
        assert far / 3 < named < far * 1.1
    else:
        assert named == pytest.approx(far, rel=0.25)
