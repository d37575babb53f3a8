"""Compiled by XLA, models and losses compute the same."""

import numpy as np
import pytest
import tensorflow as tf

from tests.case import assert_same_tree
from tests.conformance import descriptors
from tests.conformance.rows import ROWS


@pytest.mark.parametrize("name", ROWS)
def test_model(name):
    model, inputs, expected = descriptors.reference(name)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=True)
    assert_same_tree(descriptors.arrays(compiled(inputs)), expected, 1e-4)


@pytest.mark.parametrize("name", descriptors.LOSSES)
def test_loss(name):
    descriptor = descriptors.LOSSES[name]
    loss, truth = descriptor.build(), descriptor.truth()
    prediction = tf.constant(descriptor.prediction())

    def value_and_gradient(prediction):
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            value = loss(truth, prediction)
        return value, tape.gradient(value, prediction)

    value, gradient = value_and_gradient(prediction)
    compiled = tf.function(value_and_gradient, jit_compile=True)(prediction)
    np.testing.assert_allclose(compiled[0], value, rtol=1e-5)
    np.testing.assert_allclose(compiled[1], gradient, atol=1e-5)
    assert np.isfinite(gradient).all() and np.any(gradient)
