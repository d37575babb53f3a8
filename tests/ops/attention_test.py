"""Attention against NumPy in loops, and against Keras's own operation."""

import keras
import numpy as np
import pytest

from mlcvtf.ops import attention


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def oracle(queries, keys, values, mask=None, scale=1.0):
    """One sequence, one head: equation 1 in loops."""
    out = np.zeros((len(queries), values.shape[1]))
    for i, query in enumerate(queries):
        allowed = [j for j in range(len(keys)) if mask is None or mask[i, j]]
        exponents = np.array([np.exp(float(query @ keys[j]) * scale) for j in allowed])
        for j, share in zip(allowed, exponents / exponents.sum(), strict=True):
            out[i] += share * values[j]
    return out


def test_plain_attention_is_the_course_formula():
    query, keys = draw(1, 5), draw(7, 5, seed=1)
    actual = attention.dot_product_attention(query[None], keys[None])[0]
    np.testing.assert_allclose(actual, oracle(query, keys, keys), atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("d_v", [3, 6])
def test_scaled_attention_equals_the_oracle_and_keras(masked, d_v):
    queries, keys, values = draw(2, 5, 3, 6), draw(2, 7, 3, 6, seed=1), draw(
        2, 7, 3, d_v, seed=2)
    mask = None
    if masked:
        mask = np.random.default_rng(3).uniform(size=(2, 3, 5, 7)) < 0.6
        mask[..., 0] = True
    actual = np.asarray(
        attention.scaled_dot_product_attention(queries, keys, values, mask))
    for b, h in np.ndindex(2, 3):
        expected = oracle(queries[b, :, h], keys[b, :, h], values[b, :, h],
                          None if mask is None else mask[b, h], 6**-0.5)
        np.testing.assert_allclose(actual[b, :, h], expected, atol=1e-5)
    fused = keras.ops.dot_product_attention(queries, keys, values, mask=mask)
    np.testing.assert_allclose(actual, fused, atol=1e-5)


def test_a_scale_and_the_weights():
    queries, keys, values = (draw(1, 4, 1, 6, seed=i) for i in range(3))
    actual = attention.scaled_dot_product_attention(queries, keys, values, scale=2.0)
    expected = oracle(queries[0, :, 0], keys[0, :, 0], values[0, :, 0], scale=2.0)
    np.testing.assert_allclose(actual[0, :, 0], expected, atol=1e-4)
    weights = np.asarray(attention.attention_weights(queries[:, :, 0], keys[:, :, 0]))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    expected = oracle(queries[0, :, 0], keys[0, :, 0], np.eye(4), scale=6**-0.5)
    np.testing.assert_allclose(weights[0], expected, atol=1e-5)


def test_masks_by_hand():
    assert np.asarray(attention.causal_mask(3)).tolist() == [
        [True, False, False], [True, True, False], [True, True, True]]
    mask = np.asarray(attention.causal_mask(1, 4, start=2))
    assert mask.tolist() == [[True, True, True, False]]
    valid = np.array([[1, 1, 0], [1, 0, 0]], bool)
    joined = attention.padding_mask(valid) & attention.causal_mask(3)
    expected = np.tril(np.ones((3, 3), bool))[None, None] & valid[:, None, None]
    np.testing.assert_array_equal(joined, expected)


def test_where_nothing_may_be_attended_results_are_finite():
    queries, keys, values = (draw(1, 3, 1, 4, seed=i) for i in range(3))
    mask = np.zeros((1, 1, 3, 3), bool)
    actual = attention.scaled_dot_product_attention(queries, keys, values, mask)
    np.testing.assert_allclose(
        actual, np.broadcast_to(values.mean(1, keepdims=True), values.shape), atol=1e-5)


def test_half_precision_keeps_its_type():
    q, k, v = (keras.ops.cast(draw(1, 3, 2, 4, seed=i), "bfloat16") for i in range(3))
    actual = attention.scaled_dot_product_attention(q, k, v)
    assert keras.backend.standardize_dtype(actual.dtype) == "bfloat16"
