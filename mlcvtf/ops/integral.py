"""Integral images: sums over any upright or tilted rectangle by four look-ups.

Crow, 1984, "Summed-Area Tables for Texture Mapping"; Viola and Jones, 2001, "Rapid
Object Detection using a Boosted Cascade of Simple Features"; tilted ones by Lienhart
and Maydt, 2002, "An Extended Set of Haar-like Features for Rapid Object Detection".
Entries and their order are those of OpenCV's `integral`.

What is exact: int32 holds every entry of up to 8.4 million pixels of 255 (8,421,504),
but of their squares only 33,025, less than a 182x182 picture; a 1280x720 picture of 255
has 5.99e10. int32 adds modulo 2^32, so that the sum over a rectangle, a difference of
entries, is exact nevertheless where the sum itself fits: below 2^31, or below 2^32
(66,051 pixels squared) if it is read as uint32. int64, which JAX has only when told,
holds every entry; float32 counts one by one to 2^24 only (65,793 pixels of 255, 258
squared) and loses what OpenCV's float64 keeps.
"""

from keras import ops


def integral(images, dtype: str = "int32"):
    """Sums the pixels above and left of each corner of pixels.

    Args:
        images: uint8 or other numbers `[..., height, width]`.
        dtype: of the sums; see the module for what is exact.

    Returns:
        `[..., height + 1, width + 1]`; the sum over rows a..b - 1 and columns c..d - 1
        is entry [b, d] - [a, d] - [b, c] + [a, c].

    >>> ops.convert_to_numpy(integral(ops.convert_to_tensor([[1, 2], [3, 4]]))).tolist()
    [[0, 0, 0], [0, 1, 3], [0, 4, 10]]
    """
    images = ops.cast(images, dtype)
    sums = ops.cumsum(ops.cumsum(images, axis=-1), axis=-2)
    return ops.pad(sums, [(0, 0)] * (len(images.shape) - 2) + [(1, 0), (1, 0)])


def squared_integral(images, dtype: str = "int64"):
    """Sums the squares of pixels; the rest as `integral`.

    Args:
        images: uint8 or other numbers `[..., height, width]`.
        dtype: of the sums; see the module for what is exact.

    Returns:
        `[..., height + 1, width + 1]`.
    """
    return integral(ops.square(ops.cast(images, dtype)), dtype)


def tilted_integral(images, dtype: str = "int32"):
    """Sums the pixels of the cone above each corner of pixels.

    The cone of the entry in row y and column x has, of each row r above y, the columns
    x - (y - r) to x + (y - r) - 2. A row's part is a difference of two of its running
    sums, and from row to row their places move along the diagonals, along which they
    are added up.

    Args:
        images: uint8 or other numbers `[..., height, width]`.
        dtype: of the sums; see the module for what is exact.

    Returns:
        `[..., height + 1, width + 1]`; the sum over the rectangle with the top corner
        (x, y), the side w down to the right and the side h down to the left is entry
        (x, y) - (x - h, y + h) - (x + w, y + w) + (x + w - h, y + w + h).

    >>> image = ops.convert_to_tensor([[1, 2, 4], [8, 16, 32]])
    >>> ops.convert_to_numpy(tilted_integral(image)).tolist()
    [[0, 0, 0, 0], [0, 1, 2, 4], [1, 11, 23, 38]]
    """
    images = ops.cast(images, dtype)
    leading = [(0, 0)] * (len(images.shape) - 2)
    *batch, height, width = ops.shape(images)
    # Beyond the picture a running sum is 0 on the left and stays the same on the right.
    around = ops.pad(images, [*leading, (0, 0), (height + 1, height)])
    sums = ops.cumsum(around, axis=-1)
    length = width + 2 * height + 1

    def skew(values, rows, step):
        """Moves row r of `[..., rows, length]` by r to the left, or to the right."""
        # With one more axis, since LiteRT takes no dots that stand for none.
        flat = ops.reshape(values, (*batch, 1, rows * length))
        flat = ops.pad(flat, [*leading, (0, 0), (0, rows if step > 0 else 0)])
        flat = flat[..., : rows * (length + step)]
        moved = ops.reshape(flat, (*batch, rows, length + step))
        if step > 0:
            return moved[..., :length]
        return ops.pad(moved, [*leading, (0, 0), (0, 1)])

    def along(step):
        # The row's number is counted from the entry's row, where a cone ends.
        added = ops.cumsum(skew(sums, height, step), axis=-2)
        added = ops.pad(added, [*leading, (1, 0), (0, 0)])
        return skew(added, height + 1, -step)

    # A cone's last column moves to the right, seen from row to row upwards, and the one
    # before its first to the left.
    last, before = along(-1), along(1)
    last = last[..., height - 1 : height + width]
    return last - before[..., height : height + width + 1]
