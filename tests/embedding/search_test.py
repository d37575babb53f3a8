"""Exact search against a loop, and the rules for `unknown`."""

import numpy as np
import pytest

from mlcvtf.embedding.search import UNKNOWN, Index


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture
def crowd():
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(60, 16)))
    names = [f"person {number}" for number in rng.integers(0, 9, 60)]
    return names, vectors, unit(rng.normal(size=(40, 16)))


def slow_scores(names, vectors, query, scoring):
    """One person at a time."""
    scores = {}
    for name in set(names):
        own = [v for n, v in zip(names, vectors, strict=True) if n == name]
        if scoring == "nearest":
            scores[name] = max(float(v @ query) for v in own)
        else:
            mean = np.mean(own, axis=0)
            scores[name] = float(mean @ query / np.linalg.norm(mean))
    return scores


@pytest.mark.parametrize("scoring", ["nearest", "centroid"])
def test_equals_a_loop(crowd, scoring):
    names, vectors, queries = crowd
    matches = Index(names, vectors).search(queries, -1, 0, scoring)
    for query, match in zip(queries, matches, strict=True):
        scores = slow_scores(names, vectors, query, scoring)
        first, second = sorted(scores, key=scores.get)[-1:-3:-1]
        assert (match.name, match.best, match.runner_up) == (first, first, second)
        assert match.score == pytest.approx(scores[first], abs=1e-6)
        assert match.runner_up_score == pytest.approx(scores[second], abs=1e-6)


def test_large_query_is_cut_into_blocks(crowd, monkeypatch):
    names, vectors, queries = crowd
    whole = Index(names, vectors).search(queries, 0.3, 0.05)
    monkeypatch.setattr("mlcvtf.embedding.search.BLOCK", 200)
    assert [m.name for m in Index(names, vectors).search(queries, 0.3, 0.05)] == [
        m.name for m in whole
    ]


def test_nearest_and_centroid_differ_as_stated():
    # Ada looks very different in two pictures, Bob is between them.
    index = Index(["Ada", "Ada", "Bob"], unit([[1, 0, 0], [0, 1, 0], [3, 1, 2]]))
    query = unit([[1, 0, 0]])
    nearest = index.search(query, 0.5)[0]
    centroid = index.search(query, 0.5, scoring="centroid")[0]
    assert nearest.name == "Ada" and nearest.score == pytest.approx(1)
    assert centroid.name == "Bob"
    assert centroid.score == pytest.approx(3 / 14**0.5)
    assert centroid.runner_up_score == pytest.approx(0.5**0.5)
    assert index.enrolled("nearest") == 3 and index.enrolled("centroid") == 2


def test_threshold_is_inclusive():
    index = Index(["Ada"], np.float32([[0.6, 0.8]]))
    score = index.search([[1, 0]], 0)[0].score
    assert index.search([[1, 0]], score)[0].name == "Ada"
    below = index.search([[1, 0]], np.nextafter(score, 1))[0]
    assert below.name == UNKNOWN and below.best == "Ada" and below.score == score


def test_margin_counts_names_not_pictures():
    # Two pictures of Ada are equally near: no doubt who it is.
    vectors = unit([[1, 0.1], [1, -0.1], [1, 2]])
    same = Index(["Ada", "Ada", "Bob"], vectors).search([[1, 0]], 0.5, 0.2)[0]
    assert same.name == "Ada" and same.runner_up == "Bob"
    other = Index(["Ada", "Eve", "Bob"], vectors).search([[1, 0]], 0.5, 0.2)[0]
    assert other.name == UNKNOWN and other.runner_up in ("Ada", "Eve")


def test_one_person_has_no_runner_up():
    match = Index(["Ada"], [[1, 0]]).search([[1, 0]], 0.5, 0.9)[0]
    assert match.name == "Ada"
    assert match.runner_up is None and match.runner_up_score == -1


def test_nobody_enrolled_is_unknown():
    match = Index([], np.empty((0, 0))).search(np.ones((1, 4)) / 2, -2)[0]
    assert match.name == UNKNOWN and match.best is None and match.score == -1


def test_no_query_gives_no_match(crowd):
    assert Index(*crowd[:2]).search(np.empty((0, 16)), 0.5) == []


def test_score_that_is_no_number_is_unknown(crowd):
    index = Index(*crowd[:2])
    assert index.search(np.full((1, 16), np.nan), -1)[0].name == UNKNOWN


def test_zero_vector_is_unknown(crowd):
    # What the pipeline gives for a face that cannot be aligned.
    assert Index(*crowd[:2]).search(np.zeros((1, 16)), 0.1)[0].name == UNKNOWN


def test_opposite_pictures_have_a_finite_centroid():
    index = Index(["Ada", "Ada", "Bob"], [[1, 0], [-1, 0], [0, 1]])
    assert index.search([[1, 0]], 0.5, scoring="centroid")[0].name == UNKNOWN


def test_wrong_arguments_are_refused(crowd):
    index = Index(*crowd[:2])
    with pytest.raises(ValueError, match=r"\[n, 16\], received \(1, 3\)"):
        index.search(np.ones((1, 3)), 0.5)
    with pytest.raises(ValueError, match="received 'mean'"):
        index.search(np.ones((1, 16)), 0.5, scoring="mean")
