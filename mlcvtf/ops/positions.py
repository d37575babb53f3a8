"""Encodings of places as pure functions: sinusoids, and tables of another size."""

import numpy as np
from keras import ops

KERNELS = ("bicubic", "bilinear")


def sinusoidal_positions(places, dimension: int, base: float = 10000.0):
    """Encodes places by sines and cosines of falling frequency.

    `pe[pos, 2i] = sin(pos / base^(2i / d))`, `pe[pos, 2i + 1] = cos(...)`.

    Args:
        places: float or int `[n]`.
        dimension: d, even.
        base: ratio of the longest wave to the shortest.

    Returns:
        float32 `[n, d]` in -1..1.

    Raises:
        ValueError: `dimension` is odd.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.5.

    >>> np.asarray(sinusoidal_positions(np.array([0]), 4))
    array([[0., 1., 0., 1.]], dtype=float32)
    """
    if dimension < 2 or dimension % 2:
        raise ValueError(f"dimension is even and at least 2, received {dimension}")
    rates = base ** (-np.arange(0, dimension, 2) / dimension)
    angles = ops.cast(places, "float32")[:, None] * rates.astype("float32")
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(pairs, (-1, dimension))


def sinusoidal_grid(height, width, dimension: int, base: float = 10000.0):
    """Encodes the places of a map: one half of the channels rows, one columns.

    Args:
        height: int, rows.
        width: int, columns.
        dimension: channels, a multiple of 4.
        base: as in `sinusoidal_positions`.

    Returns:
        float32 `[height, width, dimension]` in -1..1.

    Raises:
        ValueError: `dimension` is no multiple of 4.
    """
    if dimension < 4 or dimension % 4:
        raise ValueError(f"dimension is a multiple of 4, received {dimension}")
    half = dimension // 2
    rows = sinusoidal_positions(ops.arange(height), half, base)[:, None, :]
    columns = sinusoidal_positions(ops.arange(width), half, base)[None, :, :]
    # Sums with zeros in place of broadcasts, which need both sizes at once.
    rows, columns = rows + 0 * columns, columns + 0 * rows
    return ops.concatenate([rows, columns], axis=-1)


def resize_matrix(old: int, new, kernel: str = "bicubic"):
    """Returns the matrix that stretches a signal.

    Places are the centres of cells. The kernel is Keys's cubic with a = -1/2 or the
    triangle; where the signal shrinks it is widened (antialiasing), and weights are
    divided by their sum at the ends. Pillow resizes so, `keras.ops.image.resize` with
    `antialias=True` as well, and timm positions. With `new` equal to `old` it is the
    identity.

    Args:
        old: number of values.
        new: int, number of values wanted; may be a scalar tensor.
        kernel: one of `KERNELS`.

    Returns:
        float32 `[new, old]`; rows sum to 1.

    Raises:
        ValueError: an unknown kernel.

    References:
        Keys, 1981, "Cubic Convolution Interpolation for Digital Image Processing",
        doi:10.1109/TASSP.1981.1163711.

    >>> np.asarray(resize_matrix(2, 4, "bilinear")).round(2)[:2]
    array([[1.  , 0.  ],
           [0.75, 0.25]], dtype=float32)
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel is one of {', '.join(KERNELS)}, received {kernel}")
    wanted = ops.cast(new, "float32")
    step = old / wanted
    centres = (ops.cast(ops.arange(new), "float32") + 0.5) * step - 0.5
    places = np.arange(old, dtype="float32")
    x = ops.abs(places[None, :] - centres[:, None]) / ops.maximum(step, 1.0)
    if kernel == "bilinear":
        weights = ops.maximum(1.0 - x, 0.0)
    else:
        inner = (1.5 * x - 2.5) * x * x + 1.0
        outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        weights = ops.where(x < 1, inner, ops.where(x < 2, outer, ops.zeros_like(x)))
    return weights / ops.sum(weights, axis=1, keepdims=True)


def resize_grid(table, height, width, kernel: str = "bicubic"):
    """Stretches a table of positions to another size.

    Args:
        table: float `[rows, columns, dimension]`.
        height: int, rows wanted.
        width: int, columns wanted.
        kernel: see `resize_matrix`.

    Returns:
        Float `[height, width, dimension]`.
    """
    rows, columns, _ = table.shape
    if (height, width) == (rows, columns):
        return table
    down = ops.cast(resize_matrix(rows, height, kernel), table.dtype)
    across = ops.cast(resize_matrix(columns, width, kernel), table.dtype)
    table = ops.tensordot(down, table, axes=[[1], [0]])
    return ops.transpose(ops.tensordot(across, table, axes=[[1], [1]]), (1, 0, 2))
