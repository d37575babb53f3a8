"""Multi-head attention against Keras's layer with the same weights, and its laws."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.attention import MultiHeadAttention


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(layer):
    generator = np.random.default_rng(9)
    layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.weights])


def peer_with_same_weights(layer, heads, d_k, d_v, queries, keys):
    peer = keras.layers.MultiHeadAttention(
        heads, d_k, d_v, use_bias=layer.use_bias,
        output_shape=layer.output_dimension)
    peer.build(queries.shape, keys.shape, keys.shape)
    peer.set_weights([w.reshape(v.shape) for w, v in
                      zip(layer.get_weights(), peer.weights, strict=True)])
    return peer


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    ("heads", "d_k", "d_v", "out"),
    [(1, 4, 4, None), (3, 2, 5, None), (2, 7, 3, 11), (4, None, None, None)],
)
@pytest.mark.parametrize("cross", [False, True])
def test_equals_keras_with_the_same_weights(heads, d_k, d_v, out, use_bias, cross):
    queries, keys = draw(2, 5, 8), draw(2, 6, 10, seed=1) if cross else None
    layer = MultiHeadAttention(heads, d_k, d_v, out, use_bias)
    layer(queries, keys)
    randomise(layer)
    keys = queries if keys is None else keys
    peer = peer_with_same_weights(
        layer, heads, d_k or 2, d_v or d_k or 2, queries, keys)
    mask = np.random.default_rng(3).uniform(size=(2, 5, keys.shape[1])) < 0.7
    mask[..., 0] = True
    for allowed in (None, mask):
        expected, weights = peer(queries, keys, attention_mask=allowed,
                                 return_attention_scores=True)
        actual = layer(queries, keys, attention_mask=allowed)
        np.testing.assert_allclose(actual, expected, atol=1e-4)
        np.testing.assert_allclose(
            layer.attention_weights(queries, keys, allowed), weights, atol=1e-5)


def test_keys_and_values_of_their_own():
    layer = MultiHeadAttention(2, 3)
    queries, keys, values = draw(2, 4, 6), draw(2, 5, 7, seed=1), draw(2, 5, 8, seed=2)
    layer(queries, keys, values)
    randomise(layer)
    peer = keras.layers.MultiHeadAttention(2, 3)
    peer.build(queries.shape, values.shape, keys.shape)
    peer.set_weights([w.reshape(v.shape) for w, v in
                      zip(layer.get_weights(), peer.weights, strict=True)])
    np.testing.assert_allclose(
        layer(queries, keys, values), peer(queries, values, keys), atol=1e-4)


def test_self_attention_without_positions_moves_with_its_tokens():
    layer, x = MultiHeadAttention(2), draw(2, 6, 8)
    layer(x)
    randomise(layer)
    order = np.random.default_rng(1).permutation(6)
    before, after = np.asarray(layer(x)), np.asarray(layer(x[:, order]))
    np.testing.assert_allclose(after, before[:, order], atol=1e-5)
    assert np.abs(after - before).max() > 0.1


def test_dropped_weights_change_training_only():
    layer, x = MultiHeadAttention(2, dropout=0.5), draw(2, 6, 8)
    layer(x)
    plain = MultiHeadAttention(2)
    plain(x)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x, training=False), plain(x), atol=1e-6)
    first, second = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    draws = np.mean([np.asarray(layer(x, training=True)) for _ in range(2000)], 0)
    np.testing.assert_allclose(draws, plain(x), atol=0.1 * np.abs(draws).max())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 0}, "heads is at least 1, received 0"),
        ({"heads": 2, "value_dimension": 0}, "value_dimension is at least 1"),
        ({"heads": 2, "dropout": 1.0}, "dropout is 0 to below 1, received 1.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**arguments)
    with pytest.raises(ValueError, match="received 3 heads and 8 channels"):
        MultiHeadAttention(3)(draw(1, 2, 8))
