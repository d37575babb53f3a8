"""Sizes against Keras, matrices against its convolutions and their gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.ops.convolution import (
    convolution_matrix,
    kernel_gradient,
    output_size,
    padding_sides,
    transposed_output_size,
)

CASES = [(size, kernel, stride, padding, dilation)
         for size in (7, 8, 13) for kernel in (1, 2, 3) for padding in ("valid", "same")
         for stride, dilation in ((1, 1), (2, 1), (3, 1), (1, 2), (1, 3))]


@pytest.mark.parametrize("size, kernel, stride, padding, dilation", CASES)
def test_sizes_are_those_of_keras(size, kernel, stride, padding, dilation):
    symbol = keras.KerasTensor((1, size, 9, 2))
    weights = keras.KerasTensor((kernel, 1, 2, 3))
    shape = keras.ops.conv(symbol, weights, (stride, 1), padding=padding,
                           dilation_rate=(dilation, 1)).shape
    assert output_size(size, kernel, stride, padding, dilation) == shape[1]
    layer = keras.layers.Conv2DTranspose(
        2, (kernel, 1), (stride, 1), padding=padding, dilation_rate=(dilation, 1))
    shape = layer.compute_output_shape(symbol.shape)
    found = transposed_output_size(size, kernel, stride, padding, dilation)
    assert found == shape[1]


def test_sizes_with_padding_of_ones_own():
    assert output_size(224, 7, 2, (3, 3)) == 112
    assert output_size(5, 3, 2, (0, 1)) == 2
    assert transposed_output_size(112, 7, 2, (3, 3)) == 223
    for size in range(5, 12):
        # The transposed size is the smallest that gives these outputs.
        small = transposed_output_size(size, 4, 3, (1, 2))
        assert output_size(small, 4, 3, (1, 2)) == size
        assert output_size(small - 1, 4, 3, (1, 2)) == size - 1


def test_refusals():
    with pytest.raises(ValueError, match="padded input of 4 places, received one of 5"):
        output_size(4, 3, dilation=2)
    with pytest.raises(ValueError, match="at least 1, received 4, 3, 0 and 1"):
        output_size(4, 3, 0)
    for padding in ("full", (1, 2, 3), (-1, 0)):
        with pytest.raises(ValueError, match="valid, same or"):
            padding_sides(4, 3, 1, padding)


def test_the_example_of_the_course():
    kernel = np.arange(1, 10).reshape(3, 3)
    matrix = convolution_matrix(kernel[..., None, None], (4, 4)).toarray()
    expected = np.zeros((4, 4, 4))
    for row, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[row, y:y + 3, x:x + 3] = kernel
    np.testing.assert_array_equal(matrix, expected.reshape(4, 16))


SETTINGS = [(1, "valid", 1), (1, "same", 1), (2, "valid", 1), (2, "same", 1),
            (1, "same", 2), (1, "valid", 2), (3, "same", 1)]


@pytest.mark.parametrize("strides, padding, dilation", SETTINGS)
def test_equals_the_convolution_its_transpose_and_their_gradients(
        strides, padding, dilation):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, 7, 8, 3)))
    kernel = tf.constant(generator.normal(size=(3, 2, 3, 4)))
    options = {"strides": strides, "padding": padding}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((images, kernel))
        outputs = keras.ops.conv(images, kernel, dilation_rate=dilation, **options)
        upstream = generator.normal(size=outputs.shape)
        loss = tf.reduce_sum(outputs * upstream)
    matrix = convolution_matrix(kernel.numpy(), (7, 8), dilation=dilation, **options)
    flat = images.numpy().reshape(2, -1)
    np.testing.assert_allclose((matrix @ flat.T).T.reshape(outputs.shape), outputs,
                               atol=1e-12)
    # By the image: the transpose. By the kernel: tied places are summed.
    back = (matrix.T @ upstream.reshape(2, -1).T).T.reshape(images.shape)
    np.testing.assert_allclose(back, tape.gradient(loss, images), atol=1e-12)
    tied = kernel_gradient(images.numpy(), upstream, (3, 2, 3, 4), dilation=dilation,
                           **options)
    np.testing.assert_allclose(tied, tape.gradient(loss, kernel), atol=1e-12)


# TensorFlow has no dilated transposed convolution on CPU.
@pytest.mark.parametrize("strides, padding, dilation",
                         [setting for setting in SETTINGS if setting[2] == 1])
def test_the_transpose_equals_the_transposed_convolution(strides, padding, dilation):
    generator = np.random.default_rng(1)
    maps = tf.constant(generator.normal(size=(2, 3, 4, 5)))
    kernel = tf.constant(generator.normal(size=(3, 2, 2, 5)))
    sides = [transposed_output_size(n, k, strides, padding, dilation)
             for n, k in zip((3, 4), (3, 2), strict=True)]
    matrix = convolution_matrix(kernel.numpy(), sides, strides, padding, dilation).T
    with tf.GradientTape() as tape:
        tape.watch(maps)
        outputs = keras.ops.conv_transpose(maps, kernel, strides, padding,
                                           dilation_rate=dilation)
        upstream = generator.normal(size=outputs.shape)
        loss = tf.reduce_sum(outputs * upstream)
    assert outputs.shape[1:3] == sides
    np.testing.assert_allclose(
        (matrix @ maps.numpy().reshape(2, -1).T).T.reshape(outputs.shape), outputs,
        atol=1e-12)
    np.testing.assert_allclose(
        (matrix.T @ upstream.reshape(2, -1).T).T.reshape(maps.shape),
        tape.gradient(loss, maps), atol=1e-12)


def test_the_matrix_is_sparse():
    matrix = convolution_matrix(np.ones((3, 3, 2, 4)), (16, 16), padding="same")
    inside = (3 * 16 - 2) ** 2
    assert matrix.nnz == inside * 2 * 4
    assert matrix.nnz < 0.05 * matrix.shape[0] * matrix.shape[1]
