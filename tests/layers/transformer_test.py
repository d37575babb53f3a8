"""Blocks against the paper's formulas in NumPy; masks; the cache."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.transformer import (
    FeedForward,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from mlcvtf.layers.transformer_stacks import TransformerDecoder, TransformerEncoder


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(layer, seed=5):
    generator = np.random.default_rng(seed)
    layer.set_weights([
        generator.uniform(0.5, 1.5, w.shape) if w.path.endswith("gamma")
        else generator.normal(0, 0.4, w.shape) for w in layer.weights])


def weights_of(layer):
    prefix = len(layer.path) + 1
    return {w.path[prefix:]: np.asarray(w).astype(float) for w in layer.weights}


def normalise(x, w, name):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + 1e-6)
    return x * w[f"{name}/gamma"] + w[f"{name}/beta"]


def dense(x, w, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def attend(x, context, w, name, heads, mask=None):
    q, k, v = (dense(source, w, f"{name}/{part}") for source, part in
               ((x, "query"), (context, "key"), (context, "value")))
    joined = []
    for qh, kh, vh in zip(*(np.split(a, heads, -1) for a in (q, k, v)), strict=True):
        scores = qh @ kh.swapaxes(-1, -2) / np.sqrt(qh.shape[-1])
        if mask is not None:
            scores = np.where(mask, scores, -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        joined.append(e / e.sum(-1, keepdims=True) @ vh)
    return dense(np.concatenate(joined, -1), w, f"{name}/project")


def feed_forward(x, w):
    x = np.maximum(dense(x, w, "feed_forward/expand"), 0)
    return dense(x, w, "feed_forward/reduce")


def around(x, part, w, name, norm):
    if norm == "post":
        return normalise(x + part(x), w, name)
    return x + part(normalise(x, w, name))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_encoder_block_is_the_formula(norm):
    layer, x = TransformerEncoderBlock(2, 12, norm), draw(2, 5, 8)
    layer(x)
    randomise(layer)
    w = weights_of(layer)
    y = around(x.astype(float), lambda h: attend(h, h, w, "attention", 2), w,
               "attention_norm", norm)
    y = around(y, lambda h: feed_forward(h, w), w, "feed_forward_norm", norm)
    np.testing.assert_allclose(layer(x), y, atol=1e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_block_is_the_formula(norm):
    layer = TransformerDecoderBlock(2, 12, norm)
    x, context = draw(2, 5, 8), draw(2, 7, 6, seed=1)
    layer(x, context)
    randomise(layer)
    w, causal = weights_of(layer), np.tril(np.ones((5, 5), bool))
    y = around(x.astype(float), lambda h: attend(h, h, w, "attention", 2, causal), w,
               "attention_norm", norm)
    y = around(y, lambda h: attend(h, context, w, "cross", 2), w, "cross_norm", norm)
    y = around(y, lambda h: feed_forward(h, w), w, "feed_forward_norm", norm)
    np.testing.assert_allclose(layer(x, context), y, atol=1e-4)


def test_feed_forward_as_convolutions_is_equal():
    dense_form, x = FeedForward(12, "gelu"), draw(2, 5, 8)
    convolutions = FeedForward(12, "gelu", convolutions=True)
    dense_form(x), convolutions(x)
    randomise(dense_form)
    convolutions.set_weights([a.reshape(w.shape) for a, w in
                              zip(dense_form.get_weights(), convolutions.weights,
                                  strict=True)])
    assert convolutions.weights[0].shape == (1, 8, 12)
    np.testing.assert_allclose(convolutions(x), dense_form(x), atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_future_cannot_change_the_past(norm):
    decoder = TransformerDecoder(2, 2, 12, norm)
    x, context = draw(1, 6, 8), draw(1, 4, 8, seed=1)
    decoder(x, context)
    randomise(decoder)
    before = np.asarray(decoder(x, context))
    for place in range(1, 6):
        changed = x.copy()
        changed[:, place:] = draw(1, 6 - place, 8, seed=place + 2)
        after = np.asarray(decoder(changed, context))
        np.testing.assert_allclose(after[:, :place], before[:, :place], atol=1e-5)
        assert np.abs(after[:, place] - before[:, place]).max() > 1e-2


def test_what_pads_changes_nothing():
    encoder = TransformerEncoder(2, 2, 12)
    x = draw(2, 6, 8)
    valid = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    mask = valid[:, None, None]
    encoder(x)
    randomise(encoder)
    before = np.asarray(encoder(x, attention_mask=mask))
    x[0, 4:] = 7
    after = np.asarray(encoder(x, attention_mask=mask))
    np.testing.assert_allclose(after[0, :4], before[0, :4], atol=1e-5)
    short = np.asarray(encoder(x[:1, :4]))
    np.testing.assert_allclose(short, before[:1, :4], atol=1e-5)


def test_an_encoder_moves_with_its_tokens():
    encoder, x = TransformerEncoder(2, 2, 12, activation="gelu"), draw(1, 6, 8)
    encoder(x)
    randomise(encoder)
    order = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(
        encoder(x[:, order]), np.asarray(encoder(x))[:, order], atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_cache_equals_computing_anew(norm):
    decoder = TransformerDecoder(3, 2, 12, norm)
    x, context = draw(2, 6, 8), draw(2, 4, 10, seed=1)
    allowed = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool)[:, None, None]
    decoder(x, context)
    randomise(decoder)
    cache = decoder.start(context, 6)
    for place in range(6):
        output, cache = decoder.step(x[:, place : place + 1], cache, place, allowed)
        anew = decoder(x[:, : place + 1], context, context_mask=allowed)[:, -1:]
        np.testing.assert_allclose(output, anew, atol=1e-5)


def test_weights_of_a_block_are_those_it_uses():
    for norm in ("pre", "post"):
        block, x = TransformerEncoderBlock(2, 12, norm), draw(1, 5, 8)
        block(x)
        randomise(block)
        h = block.attention_norm(x) if norm == "pre" else x
        weights = np.asarray(block.attention_weights(x))
        value = np.asarray(block.attention.value(h)).reshape(1, 5, 2, 4)
        joined = np.einsum("bhnm,bmhd->bnhd", weights, value).reshape(1, 5, 8)
        np.testing.assert_allclose(
            block.attention.project(joined), block.attention(h), atol=1e-5)


def test_dropout_of_the_feed_forward_network_is_drawn_once_per_layer():
    # Twice on the same values would leave a quarter, not half.
    block = TransformerEncoderBlock(2, 64, "pre", dropout=0.5)
    x = draw(1, 200, 8)
    block(x)
    randomise(block)
    for w in block.attention.project.weights:
        w.assign(keras.ops.zeros_like(w))
    changed = np.asarray(block(x, training=True)) - x
    assert np.mean(changed == 0) == pytest.approx(0.5, abs=0.05)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="norm is pre or post, received both"):
        TransformerEncoderBlock(2, 8, "both")
    with pytest.raises(ValueError, match="hidden is at least 1, received 0"):
        FeedForward(0)
    with pytest.raises(ValueError, match="dropout is 0 to below 1, received 1"):
        FeedForward(2, dropout=1)
    with pytest.raises(ValueError, match="depth is at least 1, received 0"):
        TransformerEncoder(0, 2, 8)
