"""Multi-head attention with its own projections.

Vaswani et al., 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.2.2.
Faithful; biases, which the paper leaves out and all releases have, are an option. The
product itself is in `mlcvtf/ops/attention.py`, which says what was measured.
"""

import keras
from keras import ops

from mlcvtf.ops.attention import attention_weights, scaled_dot_product_attention


@keras.saving.register_keras_serializable(package="mlcvtf")
class MultiHeadAttention(keras.layers.Layer):
    """Projects to several heads, attends in each, and projects their join.

    `[A_1 | ... | A_h] W_O` with `A_i = softmax(Q_i K_i^T / sqrt(d_k)) V_i`. Called on
    one input it is self-attention, on two cross-attention.

    Args:
        heads: number h of heads.
        key_dimension: d_k of a head; None: the queries' channels over h.
        value_dimension: d_v of a head; None: d_k.
        output_dimension: channels of the output; None: those of the queries' input.
        use_bias: whether the projections have biases.
        dropout: share of the attention weights that training drops, 0 to below 1.

    Input: queries float `[batch, n, c]`; keys float `[batch, m, c']`, the queries if
    left out; values float `[batch, m, c'']`, the keys if left out; `attention_mask`
    bool `[n, m]`, `[batch, n, m]` or anything that broadcasts to
    `[batch, heads, n, m]`, True: may attend.
    Output: float `[batch, n, output_dimension]`.

    Raises:
        ValueError: a number is out of its range, or h does not divide the channels
            where it must.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.2.2 and figure 2.
    """

    def __init__(
        self,
        heads: int,
        key_dimension: int | None = None,
        value_dimension: int | None = None,
        output_dimension: int | None = None,
        use_bias: bool = True,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        numbers = {
            "heads": heads,
            "key_dimension": key_dimension,
            "value_dimension": value_dimension,
            "output_dimension": output_dimension,
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1, received {number}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is 0 to below 1, received {dropout}")
        self.heads, self.key_dimension = heads, key_dimension
        self.value_dimension, self.output_dimension = value_dimension, output_dimension
        self.use_bias, self.dropout = use_bias, dropout
        self.drop = None
        if dropout:
            self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, queries_shape, keys_shape=None, values_shape=None):
        keys_shape = keys_shape or queries_shape
        values_shape = values_shape or keys_shape
        channels = queries_shape[-1]
        if self.key_dimension is None and channels % self.heads:
            raise ValueError(
                f"heads divides the channels without a key_dimension, received "
                f"{self.heads} heads and {channels} channels"
            )
        d_k = self.key_dimension or channels // self.heads
        d_v = self.value_dimension or d_k
        self.query = self._dense(self.heads * d_k, "query", queries_shape)
        self.key = self._dense(self.heads * d_k, "key", keys_shape)
        self.value = self._dense(self.heads * d_v, "value", values_shape)
        joined = (*queries_shape[:-1], self.heads * d_v)
        self.project = self._dense(self.output_dimension or channels, "project", joined)

    def _dense(self, units, name, shape):
        layer = keras.layers.Dense(
            units, use_bias=self.use_bias, dtype=self.dtype_policy, name=name
        )
        layer.build(shape)
        return layer

    def call(self, queries, keys=None, values=None, attention_mask=None, training=None):
        keys = queries if keys is None else keys
        keys, values = self.keys_and_values(keys, values)
        return self.attend(queries, keys, values, attention_mask, training)

    def keys_and_values(self, keys, values=None) -> tuple:
        """Projects what is attended to, which a cache keeps.

        Args:
            keys: float `[batch, m, c']`.
            values: float `[batch, m, c'']`; None: the keys.

        Returns:
            Float `[batch, m, heads, d_k]` and `[batch, m, heads, d_v]`.
        """
        values = keys if values is None else values
        return self._split(self.key(keys)), self._split(self.value(values))

    def attend(self, queries, keys, values, attention_mask=None, training=None):
        """Attends to keys and values that are projected already.

        Args:
            queries: float `[batch, n, c]`, not projected.
            keys: float `[batch, m, heads, d_k]` of `keys_and_values`.
            values: float `[batch, m, heads, d_v]` of `keys_and_values`.
            attention_mask: as in the call.
            training: whether weights are dropped.

        Returns:
            Float `[batch, n, output_dimension]`.
        """
        queries = self._split(self.query(queries))
        mask = _four_axes(attention_mask)
        if self.drop is not None and training:
            weights = self._weights(queries, keys, mask)
            values = ops.transpose(values, (0, 2, 1, 3))
            joined = ops.matmul(self.drop(weights, training=True), values)
            joined = ops.transpose(joined, (0, 2, 1, 3))
        else:
            joined = scaled_dot_product_attention(queries, keys, values, mask)
        shape = ops.shape(joined)
        units = self.heads * joined.shape[-1]
        return self.project(ops.reshape(joined, (-1, shape[1], units)))

    def attention_weights(self, queries, keys=None, attention_mask=None):
        """Returns how much every head's query takes of each value.

        Args:
            queries: float `[batch, n, c]`.
            keys: float `[batch, m, c']`; None: the queries.
            attention_mask: as in the call.

        Returns:
            Float `[batch, heads, n, m]`; rows sum to 1.
        """
        keys = queries if keys is None else keys
        queries, keys = self._split(self.query(queries)), self._split(self.key(keys))
        return self._weights(queries, keys, _four_axes(attention_mask))

    def _weights(self, queries, keys, mask):
        queries, keys = (ops.transpose(x, (0, 2, 1, 3)) for x in (queries, keys))
        return attention_weights(queries, keys, mask)

    def _split(self, x):
        shape = ops.shape(x)
        return ops.reshape(x, (-1, shape[1], self.heads, x.shape[-1] // self.heads))

    def compute_output_shape(self, queries_shape, keys_shape=None, values_shape=None):
        return (*queries_shape[:-1], self.output_dimension or queries_shape[-1])

    def get_config(self):
        return super().get_config() | {
            "heads": self.heads,
            "key_dimension": self.key_dimension,
            "value_dimension": self.value_dimension,
            "output_dimension": self.output_dimension,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
        }


def _four_axes(mask):
    """Adds the axes of batch and heads that a mask leaves out."""
    if mask is None:
        return None
    mask = ops.cast(mask, "bool")
    if len(mask.shape) == 2:
        return mask[None, None]
    return mask[:, None] if len(mask.shape) == 3 else mask
