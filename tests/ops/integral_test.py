"""Integral images against OpenCV, their recursions and plain sums."""

import cv2
import keras
import numpy as np
import pytest

from mlcvtf.ops import integral

SIZES = [(1, 1), (1, 6), (6, 1), (2, 2), (9, 5), (23, 40)]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def recursion(image):
    """ii(x, y) = ii(x, y - 1) + s(x, y), s(x, y) = s(x - 1, y) + i(x, y)."""
    height, width = image.shape
    sums = np.zeros((height + 1, width + 1), np.int64)
    for y in range(height):
        row = 0
        for x in range(width):
            row += int(image[y, x])
            sums[y + 1, x + 1] = sums[y, x + 1] + row
    return sums


def tilted_recursion(image):
    """Adds two cones, takes away their common one and adds two pixels.

    T(x, y) = T(x - 1, y - 1) + T(x + 1, y - 1) - T(x, y - 2) + I(x - 1, y - 1)
    + I(x - 1, y - 2), as Lienhart and Maydt have it but for where entries are; what is
    beyond the picture is 0.
    """
    height, width = image.shape
    beyond = height + 1
    pixels = np.pad(image.astype(np.int64), ((2, 0), (beyond + 1, beyond)))
    cones = np.zeros((height + 3, width + 1 + 2 * beyond), np.int64)
    for y in range(1, height + 1):
        for x in range(1, width + 2 * beyond):
            cones[y + 2, x] = (
                cones[y + 1, x - 1]
                + cones[y + 1, x + 1]
                - cones[y, x]
                + pixels[y + 1, x]
                + pixels[y, x]
            )
    return cones[2:, beyond : beyond + width + 1]


@pytest.mark.parametrize("size", SIZES)
def test_equals_opencv_and_the_recursions(size):
    image = noise(*size)
    plain, squares, tilted = cv2.integral3(image, sdepth=cv2.CV_32S, sqdepth=cv2.CV_64F)
    found = np.array(integral.integral(image))
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(found, recursion(image))
    found = np.array(integral.squared_integral(image))
    np.testing.assert_array_equal(found, squares)
    np.testing.assert_array_equal(found, recursion(image.astype(np.int64) ** 2))
    found = np.array(integral.tilted_integral(image))
    np.testing.assert_array_equal(found, tilted)
    np.testing.assert_array_equal(found, tilted_recursion(image))


def test_rectangles_are_four_look_ups():
    image = noise(20, 30, seed=1)
    sums = np.array(integral.integral(image))
    assert sums[15, 25] - sums[3, 25] - sums[15, 4] + sums[3, 4] == (
        image[3:15, 4:25].sum()
    )
    tilted = np.array(integral.tilted_integral(image))
    x, y, w, h = 12, 2, 7, 5
    rows, columns = np.indices(image.shape)
    right, left = columns - x + rows - y + 2, rows - y - (columns - x)
    inside = (right > 0) & (right <= 2 * w) & (left > 0) & (left <= 2 * h)
    assert inside.sum() == 2 * w * h
    assert image[inside].sum() == (
        tilted[y, x]
        - tilted[y + h, x - h]
        - tilted[y + w, x + w]
        + tilted[y + w + h, x + w - h]
    )


def test_leading_axes():
    images = noise(2, 3, 5, 7)
    for function in (
        integral.integral,
        integral.squared_integral,
        integral.tilted_integral,
    ):
        found = np.array(function(images))
        assert found.shape == (2, 3, 6, 8)
        np.testing.assert_array_equal(found[1, 2], np.array(function(images[1, 2])))


def test_what_is_exact_in_which_type():
    """White pictures as large as the module says, and one pixel more."""
    white = np.full((1, 33_026), 255, np.uint8)
    exact = np.arange(33_027, dtype=np.int64) * 255**2
    short = np.array(integral.squared_integral(white, "int32"))[1]
    np.testing.assert_array_equal(short[:-1], exact[:-1])
    assert exact[-1] > 2**31 > exact[-2] and short[-1] == exact[-1] - 2**32
    np.testing.assert_array_equal(np.array(integral.squared_integral(white))[1], exact)
    # At 1280x720 entries are long beyond 2^32, a window's sum of squares is not.
    picture = np.full((720, 1280), 255, np.uint8)
    sums = np.array(integral.squared_integral(picture, "int32"))
    window = sums[-1, -1] - sums[-61, -1] - sums[-1, -1101] + sums[-61, -1101]
    assert window.astype(np.uint32) == 60 * 1100 * 255**2 < 2**32
    assert np.array(integral.squared_integral(picture))[-1, -1] == 720 * 1280 * 255**2
    assert 8_421_504 * 255 < 2**31 <= 8_421_505 * 255
    long = np.array(integral.integral(np.full((1, 65_794), 255, np.uint8), "float32"))
    assert long[0, 0] == 0 and long[1, 65_793] == 65_793 * 255 < 2**24
    assert 65_794 * 255 > 2**24


def test_gradients_are_counts_of_rectangles():
    """A pixel is in the entries to the right and below, or in whose cones it is."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the tape is TensorFlow's")
    image = tf.Variable(noise(3, 4).astype("float32"))
    for function in (integral.integral, integral.tilted_integral):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(function(image, "float32"))
        found = tape.gradient(total, image).numpy()
        expected = np.zeros((3, 4))
        for place in np.ndindex(3, 4):
            one = np.zeros((3, 4), np.uint8)
            one[place] = 1
            expected[place] = np.array(function(one)).sum()
        np.testing.assert_array_equal(found, expected)
    assert expected[0, 1] == 1 + 3 + 5
