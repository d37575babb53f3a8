"""Generation against every sequence there is, on a decoder small enough to list them.

The decoder is a table of logits by the tokens so far, which it keeps in its cache.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.ops import generation

WORDS, END, START, LENGTH = 4, 3, 4, 4


def table(seed, batch=1, spread=2.0):
    """Logits by sequence and the beginning, read as a number."""
    count = (WORDS + 1) ** LENGTH
    draw = np.random.default_rng(seed).normal(0, spread, (batch, count, WORDS))
    return draw.astype("float32")


def stepper(logits):
    """Returns a decoder and its cache: which sequence a row is, and its number."""
    logits = keras.ops.convert_to_tensor(logits)

    def step(last, place, cache):
        row, number = cache["row"], cache["number"]
        number = keras.ops.where(place == 0, number * 0, number * (WORDS + 1) + last)
        flat = keras.ops.reshape(logits, (-1, WORDS))
        found = keras.ops.take(flat, row * logits.shape[1] + number, axis=0)
        return found, {"row": row, "number": number}

    rows = np.arange(logits.shape[0], dtype="int32")
    return step, {"row": keras.ops.convert_to_tensor(rows),
                  "number": keras.ops.convert_to_tensor(rows * 0)}


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def everything(logits):
    """Returns {sequence: log probability} of one table, by looking at all of them."""
    found = {}
    for tokens in itertools.product(range(WORDS), repeat=LENGTH):
        number, total = 0, 0.0
        for place, token in enumerate(tokens):
            total += float(log_softmax(logits[number].astype(float))[token])
            number = number * (WORDS + 1) + token
            if token == END:
                tokens = (*tokens[: place + 1], *[END] * (LENGTH - place - 1))
                break
        found[tokens] = total
    assert np.exp(list(found.values())).sum() == pytest.approx(1)
    return found


def test_targets_are_shifted_by_one():
    inputs, wanted, weights = generation.shift_targets(
        np.array([[5, 6, 7], [5, -1, -1], [-1, -1, -1]]), start=9, end=8)
    assert np.asarray(inputs).tolist() == [[9, 5, 6, 7], [9, 5, 8, 8], [9, 8, 8, 8]]
    assert np.asarray(wanted).tolist() == [[5, 6, 7, 8], [5, 8, 8, 8], [8, 8, 8, 8]]
    assert np.asarray(weights).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy(seed):
    logits = table(seed, batch=3)
    step, cache = stepper(logits)
    tokens, scores = generation.greedy(step, cache, 3, LENGTH, START, END)
    beams, totals = generation.beam_search(step, cache, 3, LENGTH, START, END, beams=1)
    np.testing.assert_array_equal(np.asarray(beams)[:, 0], tokens)
    np.testing.assert_allclose(np.asarray(totals)[:, 0], scores, atol=1e-5)
    for row in range(3):
        sequence = tuple(np.asarray(tokens)[row].tolist())
        assert everything(logits[row])[sequence] == pytest.approx(
            float(scores[row]), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_beam_finds_the_best_of_all(seed):
    logits = table(seed, batch=2)
    step, cache = stepper(logits)
    width = WORDS ** (LENGTH - 1)
    tokens, totals = generation.beam_search(
        step, cache, 2, LENGTH, START, END, beams=width)
    for row in range(2):
        listed = sorted(everything(logits[row]).items(), key=lambda item: -item[1])
        for rank in range(5):
            assert tuple(np.asarray(tokens)[row, rank].tolist()) == listed[rank][0]
            assert float(totals[row, rank]) == pytest.approx(listed[rank][1], abs=1e-4)


def test_wider_beams_are_better_than_greedy_in_the_mean():
    step, cache = stepper(table(5, batch=30))
    _, scores = generation.greedy(step, cache, 30, LENGTH, START, END)
    _, totals = generation.beam_search(step, cache, 30, LENGTH, START, END, beams=6)
    assert np.mean(totals[:, 0]) > np.mean(scores) + 0.05


def test_the_penalty_orders_by_length():
    step, cache = stepper(table(1))
    for penalty in (0.6, 3.0):
        tokens, totals = generation.beam_search(
            step, cache, 1, LENGTH, START, END, beams=8, penalty=penalty)
        tokens, totals = np.asarray(tokens)[0], np.asarray(totals)[0]
        lengths = [min(list(t).index(END) + 1 if END in t else LENGTH, LENGTH)
                   for t in tokens]
        ranked = totals / ((5 + np.array(lengths)) / 6) ** penalty
        assert (np.diff(ranked) <= 1e-6).all()


def test_samples_follow_the_probabilities():
    logits = table(3)
    step, cache = stepper(np.repeat(logits, 4000, 0))
    tokens, scores = generation.sample(step, cache, 4000, LENGTH, START, END, seed=7)
    tokens = [tuple(row) for row in np.asarray(tokens).tolist()]
    known = everything(logits[0])
    for sequence, total in known.items():
        share = np.exp(total)
        if share > 0.02:
            error = 4 * np.sqrt(share * (1 - share) / 4000)
            assert tokens.count(sequence) / 4000 == pytest.approx(share, abs=error)
    for sequence, score in list(zip(tokens, np.asarray(scores), strict=True))[:50]:
        assert known[sequence] == pytest.approx(float(score), abs=1e-4)


def test_cold_samples_and_samples_of_one_token_are_greedy():
    step, cache = stepper(table(2, batch=5))
    greedy, _ = generation.greedy(step, cache, 5, LENGTH, START, END)
    for settings in ({"temperature": 1e-3}, {"top_k": 1}):
        tokens, _ = generation.sample(
            step, cache, 5, LENGTH, START, END, **settings)
        np.testing.assert_array_equal(tokens, greedy)


def test_a_seed_repeats_and_top_k_leaves_the_others_out():
    logits = table(4)
    step, cache = stepper(np.repeat(logits, 500, 0))

    def sample(**settings):
        return np.asarray(generation.sample(
            step, cache, 500, LENGTH, START, END, **settings)[0])

    np.testing.assert_array_equal(sample(seed=1), sample(seed=1))
    assert (sample(seed=1) != sample(seed=2)).any()
    first = set(sample(top_k=2, seed=1)[:, 0].tolist())
    assert first == set(np.argsort(logits[0, 0])[-2:].tolist())


def test_a_graph_does_the_same():
    step, cache = stepper(table(0, batch=3))
    for search in (generation.greedy, generation.sample,
                   lambda *a: generation.beam_search(*a, beams=3)):
        eager = search(step, cache, 3, LENGTH, START, END)
        graph = tf.function(
            lambda search=search: search(step, cache, 3, LENGTH, START, END))()
        np.testing.assert_array_equal(graph[0], eager[0])
        np.testing.assert_allclose(graph[1], eager[1], atol=1e-5)


def test_wrong_arguments_are_refused():
    step, cache = stepper(table(0))
    with pytest.raises(ValueError, match="temperature is above 0, received 0"):
        generation.sample(step, cache, 1, LENGTH, START, END, temperature=0)
    with pytest.raises(ValueError, match="top_k is at least 1, received 0"):
        generation.sample(step, cache, 1, LENGTH, START, END, top_k=0)
    with pytest.raises(ValueError, match="beams is at least 1, received 0"):
        generation.beam_search(step, cache, 1, LENGTH, START, END, beams=0)
