"""ResNeXt's three forms compute the same with the same weights."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.layers.aggregated_transformations import FORMS, AggregatedTransformations


def block(form, stride, channels):
    keras.utils.set_random_seed(0)
    layer = AggregatedTransformations(8, 3, 3, form, stride)
    layer.build((None, None, None, channels))
    generator = np.random.default_rng(0)
    for variable in layer.variables:
        if variable.ndim == 1:
            variable.assign(generator.uniform(0.3, 1.5, variable.shape))
    return layer


@pytest.mark.parametrize("first, second", [*itertools.combinations(FORMS, 2)])
@pytest.mark.parametrize("stride, channels", [(1, 8), (2, 6)])
def test_carried_weights_give_equal_outputs(first, second, stride, channels):
    source = block(first, stride, channels)
    target = source.in_form(second)
    assert target.form == second and type(target) is type(source)
    assert target.count_params() == source.count_params()
    x = np.random.default_rng(1).normal(size=(2, 7, 6, channels)).astype("float32")
    results = []
    for layer in (source, target):
        images = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(images)
            # Training: the statistics of each batch are of the sum, too.
            trained = layer(images, training=True)
            loss = tf.reduce_sum(trained**2)
        results.append([trained, tape.gradient(loss, images),
                        layer(images, training=False)])
    for a, b in zip(*results, strict=True):
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(a).max())
    # Back again, nothing was lost and the moving statistics were carried too.
    back = target.in_form(first)
    for a, b in zip(source.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_branch_in_the_wrong_place_is_seen():
    source = block("summed", 1, 8)
    target = source.in_form("concatenated")
    x = np.random.default_rng(1).normal(size=(1, 5, 5, 8)).astype("float32")
    first, second = target.branches[0]["conv2"], target.branches[1]["conv2"]
    kernels = first.get_weights(), second.get_weights()
    first.set_weights(kernels[1]), second.set_weights(kernels[0])
    assert np.abs(source(x) - target(x)).max() > 1e-2


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="form is one of summed, concatenated, grou"):
        AggregatedTransformations(8, 3, 4, "c")
    with pytest.raises(ValueError, match="at least 1, received 8, 0, 4 and 1"):
        AggregatedTransformations(8, 0, 4)
    with pytest.raises(ValueError, match="built before its weights"):
        AggregatedTransformations(8, 3, 4).in_form("summed")
