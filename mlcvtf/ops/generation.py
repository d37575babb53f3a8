"""Sequences token by token: the shifted target, and greedy, sampled and beam search.

A decoder is given as `step(tokens, place, cache)`: int32 `[rows]` the last tokens, the
int number of tokens before them, and any nest of tensors `[rows, ...]`; it returns
float `[rows, vocabulary]` logits of the next tokens and the cache. Where a cache lacks
in a call, `step` may compute everything anew: results are the same.

All sequences have `length` tokens; behind the end token come end tokens, which add
nothing to the score. Loops end early when all sequences have ended.
"""

from collections.abc import Callable

import keras
from keras import ops

# The score of what must not be chosen.
NEVER = -1e30


def shift_targets(targets, start: int, end: int) -> tuple:
    """Prepares sequences for training all places at once, with the truth as input.

    Args:
        targets: int `[batch, n]` tokens; -1 pads at the end.
        start: token in front of every sequence.
        end: token behind every sequence.

    Returns:
        Inputs int32 `[batch, n + 1]`: start, t_1, ..., t_n; wanted int32
        `[batch, n + 1]`: t_1, ..., t_n, end; both filled up with `end`; and weights
        float32 `[batch, n + 1]`, 1 up to the first end of `wanted` and 0 behind.

    >>> import numpy as np
    >>> x, y, w = shift_targets(np.array([[4, 2, -1]]), start=8, end=9)
    >>> np.asarray(x).tolist(), np.asarray(y).tolist(), np.asarray(w).tolist()
    ([[8, 4, 2, 9]], [[4, 2, 9, 9]], [[1.0, 1.0, 1.0, 0.0]])
    """
    targets = ops.cast(targets, "int32")
    column = ops.zeros_like(targets[:, :1])
    filled = ops.where(targets < 0, end, targets)
    inputs = ops.concatenate([column + start, filled], axis=1)
    wanted = ops.concatenate([filled, column + end], axis=1)
    present = ops.concatenate([column, targets], axis=1) >= 0
    return inputs, wanted, ops.cast(present, "float32")


def greedy(step: Callable, cache, batch, length: int, start: int, end: int) -> tuple:
    """Takes the most probable token at every place.

    Args:
        step: see the module.
        cache: nest of tensors `[batch, ...]`.
        batch: int, number of sequences.
        length: tokens to generate.
        start: token in front of every sequence.
        end: token that ends a sequence.

    Returns:
        int32 `[batch, length]` tokens and float32 `[batch]` the logarithm of each
        sequence's probability.
    """

    def choose(scores, place):
        return ops.cast(ops.argmax(scores, axis=-1), "int32")

    return _one_by_one(step, cache, batch, length, start, end, choose)


def sample(
    step: Callable,
    cache,
    batch,
    length: int,
    start: int,
    end: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> tuple:
    """Draws every token by its probability.

    Args:
        step: see the module.
        cache: nest of tensors `[batch, ...]`.
        batch: int, number of sequences.
        length: tokens to generate.
        start: token in front of every sequence.
        end: token that ends a sequence.
        temperature: logits are divided by it; towards 0 the draw becomes greedy.
        top_k: draws among so many most probable tokens; None: among all.
        seed: the same seed draws the same sequences.

    Returns:
        int32 `[batch, length]` tokens and float32 `[batch]` the logarithm of each
        sequence's probability, without temperature and `top_k`.

    Raises:
        ValueError: `temperature` is not positive, or `top_k` is below 1.
    """
    if temperature <= 0:
        raise ValueError(f"temperature is above 0, received {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is at least 1, received {top_k}")

    # All at once, so that a graph that is run again draws the same.
    noise = keras.random.uniform((length, batch), seed=seed)

    def choose(scores, place):
        scores = scores / temperature
        if top_k is not None:
            kept = min(top_k, scores.shape[-1])
            least = ops.top_k(scores, kept)[0][:, -1:]
            scores = ops.where(scores < least, NEVER, scores)
        # The first token up to which the probabilities exceed a number in 0..1.
        reached = ops.cumsum(ops.softmax(scores, axis=-1), axis=-1)
        drawn = ops.take(noise, place, axis=0)[:, None] * reached[:, -1:]
        return ops.sum(ops.cast(reached <= drawn, "int32"), axis=-1)

    return _one_by_one(step, cache, batch, length, start, end, choose)


def _one_by_one(step, cache, batch, length, start, end, choose):
    """Generates one sequence per row; `choose` picks by the tokens' scores."""
    places = ops.arange(length, dtype="int32")

    def go_on(place, last, tokens, total, cache):
        return ops.logical_and(place < length, ops.any(last != end))

    def body(place, last, tokens, total, cache):
        logits, cache = step(last, place, cache)
        scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        chosen = choose(scores, place)
        gained = ops.take_along_axis(scores, chosen[:, None], axis=-1)[:, 0]
        ended = last == end
        chosen = ops.where(ended, end, chosen)
        total = total + ops.where(ended, 0.0, gained)
        tokens = ops.where(places == place, chosen[:, None], tokens)
        return place + 1, chosen, tokens, total, cache

    last = ops.full((batch,), start, dtype="int32")
    tokens = ops.full((batch, length), end, dtype="int32")
    total = ops.zeros((batch,), dtype="float32")
    state = (ops.zeros((), dtype="int32"), last, tokens, total, cache)
    _, _, tokens, total, _ = ops.while_loop(go_on, body, state)
    return tokens, total


def beam_search(
    step: Callable,
    cache,
    batch,
    length: int,
    start: int,
    end: int,
    beams: int,
    penalty: float = 0.0,
) -> tuple:
    """Follows the most probable beginnings side by side.

    With one beam it is `greedy`; with as many as there are beginnings of `length - 1`
    tokens it finds the most probable sequence of all.

    Args:
        step: see the module.
        cache: nest of tensors `[batch, ...]`.
        batch: int, number of sequences.
        length: tokens to generate.
        start: token in front of every sequence.
        end: token that ends a sequence.
        beams: beginnings that are kept.
        penalty: alpha of Wu et al.'s length penalty, by which the results are put in
            order at last: scores are divided by `((5 + n) / 6)^alpha`; 0: none.

    Returns:
        int32 `[batch, beams, length]` tokens, the best first, and float32
        `[batch, beams]` the logarithms of their probabilities.

    Raises:
        ValueError: `beams` is below 1.

    References:
        Wu et al., 2016, "Google's Neural Machine Translation System",
        arXiv:1609.08144, section 7 (the penalty).
    """
    if beams < 1:
        raise ValueError(f"beams is at least 1, received {beams}")
    places = ops.arange(length, dtype="int32")

    def go_on(place, last, tokens, total, cache):
        return ops.logical_and(place < length, ops.any(last != end))

    def body(place, last, tokens, total, cache):
        logits, cache = step(ops.reshape(last, (-1,)), place, cache)
        scores = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        words = scores.shape[-1]
        scores = ops.reshape(scores, (-1, beams, words))
        # What has ended goes on with the end token alone, at no cost.
        stay = ops.where(ops.arange(words) == end, 0.0, NEVER)
        scores = ops.where((last == end)[..., None], stay, scores)
        scores = ops.reshape(total[..., None] + scores, (-1, beams * words))
        total, best = ops.top_k(scores, beams)
        best = ops.cast(best, "int32")
        parents, last = best // words, best % words
        tokens = ops.take_along_axis(tokens, parents[..., None], axis=1)
        tokens = ops.where(places == place, last[..., None], tokens)
        cache = _follow(cache, parents, beams)
        return place + 1, last, tokens, total, cache

    last = ops.full((batch, beams), start, dtype="int32")
    tokens = ops.full((batch, beams, length), end, dtype="int32")
    # All beams are alike at first: only one of them may branch.
    total = ops.where(ops.arange(beams) == 0, 0.0, NEVER)
    total = ops.zeros((batch, 1), dtype="float32") + ops.cast(total, "float32")
    cache = keras.tree.map_structure(lambda x: ops.repeat(x, beams, axis=0), cache)
    state = (ops.zeros((), dtype="int32"), last, tokens, total, cache)
    _, _, tokens, total, _ = ops.while_loop(go_on, body, state)
    if penalty:
        written = ops.sum(ops.cast(tokens != end, "float32"), axis=-1) + 1.0
        written = ops.minimum(written, float(length))
        ranked = total / ops.power((5.0 + written) / 6.0, penalty)
        order = ops.argsort(-ranked, axis=-1)
        tokens = ops.take_along_axis(tokens, order[..., None], axis=1)
        total = ops.take_along_axis(total, order, axis=1)
    return tokens, total


def _follow(cache, parents, beams):
    """Gives every beam the cache of the beginning that it continues."""
    rows = ops.arange(ops.shape(parents)[0], dtype="int32")[:, None] * beams + parents
    rows = ops.reshape(rows, (-1,))
    return keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), cache)
