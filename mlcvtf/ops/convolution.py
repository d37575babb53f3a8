"""Convolution: sizes, and the sparse matrix that it is.

A convolution is a dense layer whose matrix is mostly zero and repeats the kernel's
weights. Its transpose is the transposed convolution, and the backward pass of the one
is the forward pass of the other. The functions on matrices use NumPy and
`scipy.sparse`: they are for understanding and for tests, not for speed.

References:
- Dumoulin, Visin, 2016, "A guide to convolution arithmetic for deep learning",
  arXiv:1603.07285.
"""

import numpy as np
import scipy.sparse

Padding = str | tuple[int, int]


def padding_sides(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
) -> tuple[int, int]:
    """Returns how many places are padded before and after one axis.

    Args:
        size: places of the axis.
        kernel: places of the kernel.
        stride: places between applications of the kernel.
        padding: "valid" for none, "same" for the fewest that give ceil(size / stride)
            outputs, the odd one after, or (before, after) itself.
        dilation: places between weights of the kernel.

    Returns:
        (before, after).

    Raises:
        ValueError: a number is not positive, or the padding is none of these.

    >>> padding_sides(224, 3, 2, "same")
    (0, 1)
    """
    if min(size, kernel, stride, dilation) < 1:
        raise ValueError(
            "size, kernel, stride and dilation are at least 1, received "
            f"{size}, {kernel}, {stride} and {dilation}"
        )
    if padding == "valid":
        return 0, 0
    if padding == "same":
        places = -(-size // stride)
        total = max(0, (places - 1) * stride + (kernel - 1) * dilation + 1 - size)
        return total // 2, total - total // 2
    if isinstance(padding, str) or len(padding) != 2 or min(padding) < 0:
        raise ValueError(
            f"padding is valid, same or (before, after), received {padding!r}"
        )
    return tuple(padding)


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
) -> int:
    """Returns the places of a convolution's or pooling's output.

    (W + P - ((K - 1) D + 1)) / S + 1, rounded down.

    Args:
        size: W, places of the input.
        kernel: K, places of the kernel.
        stride: S, places between applications of the kernel.
        padding: of which P is the sum; see `padding_sides`.
        dilation: D, places between weights of the kernel.

    Raises:
        ValueError: the kernel is larger than the padded input.

    >>> output_size(224, 7, 2, (3, 3)), output_size(7, 3, dilation=2)
    (112, 3)
    """
    padded = size + sum(padding_sides(size, kernel, stride, padding, dilation))
    extent = (kernel - 1) * dilation + 1
    if extent > padded:
        raise ValueError(
            f"a kernel fits into its padded input of {padded} places, received "
            f"one of {extent}"
        )
    return (padded - extent) // stride + 1


def transposed_output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
) -> int:
    """Returns the places of a transposed convolution's output.

    (W - 1) S + (K - 1) D + 1 - P; with "same" it is W S. A strided convolution gives
    one size for several inputs: this is the smallest of them, or the largest for
    "same", and "valid" never gives less than W S, as in Keras.

    Args:
        size: W, places of the input.
        kernel: K, places of the kernel.
        stride: S, places of the output per place of the input.
        padding: what the convolution that is transposed pads; see `padding_sides`.
        dilation: D, places between weights of the kernel.

    >>> transposed_output_size(3, 3, 2), transposed_output_size(3, 3, 2, "same")
    (7, 6)
    """
    if padding == "same":
        return size * stride
    before, after = padding_sides(size, kernel, stride, padding, dilation)
    least = (size - 1) * stride + (kernel - 1) * dilation + 1 - before - after
    return max(least, size * stride) if padding == "valid" else least


def convolution_matrix(
    kernel,
    shape: tuple[int, int],
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
) -> scipy.sparse.csr_array:
    """Writes a convolution as the matrix that maps flat images to flat outputs.

    Its transpose is the transposed convolution.

    Args:
        kernel: float `[kernel height, kernel width, channels, filters]`, as in Keras.
        shape: height and width of the image.
        strides: of both axes.
        padding: of both axes; see `padding_sides`.
        dilation: of both axes.

    Returns:
        Sparse float `[out height * out width * filters, height * width * channels]`;
        both sides are flattened in the order of Keras, channels last.

    >>> kernel = np.arange(1.0, 10).reshape(3, 3, 1, 1)
    >>> matrix = convolution_matrix(kernel, (4, 4))
    >>> matrix.shape, matrix.nnz
    ((4, 16), 36)
    >>> matrix.toarray()[0]
    array([1., 2., 3., 0., 4., 5., 6., 0., 7., 8., 9., 0., 0., 0., 0., 0.])
    """
    kernel = np.asarray(kernel)
    rows, columns, weights, size = _entries(
        kernel.shape, shape, strides, padding, dilation
    )
    values = kernel.ravel()[weights]
    return scipy.sparse.csr_array((values, (rows, columns)), shape=size)


def kernel_gradient(
    images,
    gradients,
    kernel_shape: tuple[int, int, int, int],
    strides: int = 1,
    padding: Padding = "valid",
    dilation: int = 1,
):
    """Returns the gradient of a kernel from that of the matrix it is spread over.

    The matrix M of a dense layer has the gradient g x^T. Where one weight stands at
    many places of M, the chain rule sums the gradients of these places (it does not
    average them).

    Args:
        images: float `[batch, height, width, channels]`.
        gradients: float `[batch, out height, out width, filters]`, of the loss by the
            convolution's output.
        kernel_shape: `(kernel height, kernel width, channels, filters)`.
        strides: of both axes.
        padding: of both axes; see `padding_sides`.
        dilation: of both axes.

    Returns:
        float array of `kernel_shape`.
    """
    images, gradients = np.asarray(images), np.asarray(gradients)
    rows, columns, weights, _ = _entries(
        kernel_shape, images.shape[1:3], strides, padding, dilation
    )
    given = gradients.reshape(len(gradients), -1)[:, rows]
    places = np.sum(given * images.reshape(len(images), -1)[:, columns], axis=0)
    return np.bincount(weights, places, np.prod(kernel_shape)).reshape(kernel_shape)


def _entries(kernel_shape, shape, strides, padding, dilation):
    """Returns row, column and index of the weight of every entry, and the shape."""
    channels, filters = kernel_shape[2:]
    sides, where, inside = [], [], []
    for axis in range(2):
        size, kernel = shape[axis], kernel_shape[axis]
        before, _ = padding_sides(size, kernel, strides, padding, dilation)
        places = output_size(size, kernel, strides, padding, dilation)
        # [output place, weight]: the place of the input that they meet at.
        met = np.arange(places)[:, None] * strides - before
        met = met + np.arange(kernel) * dilation
        sides.append(places)
        where.append(met)
        inside.append((met >= 0) & (met < size))
    valid = inside[0][:, None, :, None] & inside[1][None, :, None, :]
    y, x, i, j = (index[:, None, None] for index in np.nonzero(valid))
    c, f = np.arange(channels)[:, None], np.arange(filters)
    rows = ((y * sides[1] + x) * filters + f) + 0 * c
    columns = ((where[0][y, i] * shape[1] + where[1][x, j]) * channels + c) + 0 * f
    weights = ((i * kernel_shape[1] + j) * channels + c) * filters + f
    size = sides[0] * sides[1] * filters, shape[0] * shape[1] * channels
    return rows.ravel(), columns.ravel(), weights.ravel(), size
