"""Attention as pure functions: dot-product, scaled dot-product, and masks.

Vaswani et al., 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.2.1.

`keras.ops.dot_product_attention` is equal and was slower on CPU, where it is no fused
kernel: its einsums scale the scores, the formula here scales the queries, which are
fewer. Fused over own on two busy cores, medians of interleaved repeats, 65 and 197
tokens, 3 and 12 heads of 64: TensorFlow 1.04 to 1.20 forward, 1.31 to 1.43 with
gradients; JAX 1.25 to 1.61 and 1.11 to 1.28. So it is not used; its kernels on
accelerators were not measured.
"""

import keras
from keras import ops


def dot_product_attention(queries, keys, values=None):
    """Averages values by the softmax of plain scalar products.

    `softmax(Q K^T) V`, by rows.

    Args:
        queries: float `[..., n, d]`.
        keys: float `[..., m, d]`.
        values: float `[..., m, d_v]`; None takes the keys, as where a sentence is
            summed up by its own tokens.

    Returns:
        Float `[..., n, d_v]`.

    >>> import numpy as np
    >>> keys = np.array([[[10.0, 0.0], [0.0, 10.0]]])
    >>> np.asarray(dot_product_attention(np.array([[[1.0, 0.0]]]), keys)).round(3)
    array([[[10.,  0.]]])
    """
    values = keys if values is None else values
    scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
    return ops.matmul(ops.softmax(scores, axis=-1), values)


def attention_weights(queries, keys, mask=None, scale: float | None = None):
    """Returns how much of each value every query takes.

    `softmax(Q K^T / sqrt(d_k))`, by rows, computed in float32 at least. Where a mask
    allows a query nothing at all, its weights are equal.

    Args:
        queries: float `[..., n, d_k]`.
        keys: float `[..., m, d_k]`.
        mask: bool that broadcasts to `[..., n, m]`; True: may attend.
        scale: in place of `1 / sqrt(d_k)`.

    Returns:
        Float `[..., n, m]`; rows sum to 1.
    """
    scale = queries.shape[-1] ** -0.5 if scale is None else scale
    # On the queries, which are fewer than the scores.
    scores = ops.matmul(queries * scale, ops.swapaxes(keys, -1, -2))
    narrow = keras.backend.standardize_dtype(scores.dtype)
    if narrow in ("float16", "bfloat16"):
        scores = ops.cast(scores, "float32")
    if mask is not None:
        # Not -inf: a row of those has no softmax.
        scores = ops.where(mask, scores, ops.cast(-1e30, scores.dtype))
    return ops.cast(ops.softmax(scores, axis=-1), narrow)


def scaled_dot_product_attention(
    queries, keys, values, mask=None, scale: float | None = None
):
    """Averages values by the softmax of scaled scalar products, for several heads.

    `softmax(Q K^T / sqrt(d_k)) V`, by rows.

    Args:
        queries: float `[batch, n, heads, d_k]`.
        keys: float `[batch, m, heads, d_k]`.
        values: float `[batch, m, heads, d_v]`.
        mask: bool that broadcasts to `[batch, heads, n, m]`; True: may attend.
        scale: in place of `1 / sqrt(d_k)`.

    Returns:
        Float `[batch, n, heads, d_v]`.

    References:
        Vaswani et al., 2017, equation 1.
    """
    queries, keys, values = (
        ops.transpose(x, (0, 2, 1, 3)) for x in (queries, keys, values)
    )
    weights = attention_weights(queries, keys, mask, scale)
    return ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))


def causal_mask(queries: int, keys: int | None = None, start=0):
    """Returns the mask under which a token sees itself and those before it.

    Args:
        queries: number n of query tokens.
        keys: number m of key tokens; None: as many.
        start: int, the place of the first query among the keys.

    Returns:
        bool `[n, m]`; True: may attend.

    >>> import numpy as np
    >>> np.asarray(causal_mask(2, 3, start=1)).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    keys = queries if keys is None else keys
    places = ops.arange(queries, dtype="int32")[:, None] + start
    return places >= ops.arange(keys, dtype="int32")[None, :]


def padding_mask(valid):
    """Returns the mask that hides keys which only fill a sequence.

    Args:
        valid: bool `[batch, m]`; False: padding.

    Returns:
        bool `[batch, 1, 1, m]`, for every head and query; `&` joins it with a causal
        mask.

    >>> import numpy as np
    >>> tuple(padding_mask(np.array([[True, False]])).shape)
    (1, 1, 1, 2)
    """
    return ops.cast(valid, "bool")[:, None, None, :]
