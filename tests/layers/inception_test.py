"""Inception modules: their branches one by one, their residual form."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.inception import InceptionModule, InceptionResidual

V1 = (((2, 1),), ((3, 1), (4, 3)), ((2, 1), (3, 5)), (("max", 3), (5, 1)))


def images(height=7, width=9, channels=4):
    values = np.random.default_rng(0).normal(0, 1, (2, height, width, channels))
    return values.astype("float32")


def convolution(x, layer):
    kernel, bias = layer.get_weights()
    return keras.ops.relu(keras.ops.conv(x, kernel, padding="same") + bias)


def test_each_branch_is_its_chain():
    layer, x = InceptionModule(V1), images()
    found = np.asarray(layer(x))
    steps = {step.name: step for step in layer.steps}
    pooled = keras.ops.max_pool(x, 3, 1, padding="same")
    expected = [
        convolution(x, steps["branch0_0"]),
        convolution(convolution(x, steps["branch1_0"]), steps["branch1_1"]),
        convolution(convolution(x, steps["branch2_0"]), steps["branch2_1"]),
        convolution(pooled, steps["branch3_1"]),
    ]
    np.testing.assert_allclose(found, np.concatenate(expected, -1), atol=1e-5)
    assert steps["branch2_1"].get_weights()[0].shape == (5, 5, 2, 3)


def test_the_average_leaves_out_what_is_beyond_the_border():
    x = np.ones((1, 3, 3, 1), "float32")
    layer = InceptionModule(((("average", 3),),))
    np.testing.assert_allclose(layer(x), x)


@pytest.mark.parametrize("padding, sides", [("valid", (3, 4)), ("same", (4, 5))])
def test_strides_reduce_the_map(padding, sides):
    layer = InceptionModule(
        (((3, 3, 2),), ((2, 1), (2, 3), (4, 3, 2)), (("max", 3, 2),)), padding, True
    )
    assert layer(images()).shape == (2, *sides, 3 + 4 + 4)
    assert layer.compute_output_shape((None, None, None, 4)) == (None, None, None, 11)


def test_residual_adds_the_scaled_projection():
    x = images()
    layer = InceptionResidual((((2, 1),), ((2, 1), (3, (1, 3)))), 0.25)
    layer.build(x.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.uniform(0.5, 1.5, v.shape) for v in layer.weights])
    kernel, bias = layer.project.get_weights()
    branches = np.asarray(layer.module(x))
    expected = x + 0.25 * (branches @ kernel[0, 0] + bias)
    assert expected.min() < 0
    np.testing.assert_allclose(layer(x), np.maximum(expected, 0), rtol=1e-5, atol=1e-5)
    layer.rectified = False
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_scale_zero_is_the_identity_of_what_is_rectified():
    x = np.abs(images())
    layer = InceptionResidual((((2, 1),),), 0.0)
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("layer", [
    InceptionModule(V1, batch_normalisation=True), InceptionResidual((((2, 1),),)),
], ids=["module", "residual"])
def test_a_frozen_layer_keeps_its_statistics(layer, when):
    layer = type(layer).from_config(layer.get_config())
    layer.trainable = when != "before"
    layer = type(layer).from_config(layer.get_config())
    x = images()
    layer.build(x.shape)
    layer.trainable = False if when == "after" else layer.trainable
    assert not layer.trainable_variables
    before = layer.get_weights()
    layer(x, training=True)
    assert all(map(np.array_equal, before, layer.get_weights()))
    layer.trainable = True
    layer(x, training=True)
    assert not all(map(np.array_equal, before, layer.get_weights()))


@pytest.mark.parametrize("branches, message", [
    ((), "every branch has a step"),
    (((),), "every branch has a step"),
    ((((3,),),), r"a step is \(filters, kernel_size\).*received \(3,\)"),
    (((("mean", 3),),), r"received \('mean', 3\)"),
])
def test_refuses_malformed_branches(branches, message):
    with pytest.raises(ValueError, match=message):
        InceptionModule(branches)


def test_refuses_branches_that_do_not_meet():
    layer = InceptionModule((((2, 3, 2),), ((2, 1),)))
    with pytest.raises(ValueError, match="branches end with maps of one size"):
        layer.build((None, 8, 8, 3))
    with pytest.raises(ValueError, match="padding is 'same' or 'valid', received 'no'"):
        InceptionModule(V1, "no")
    with pytest.raises(ValueError, match="a residual keeps the size"):
        InceptionResidual((((2, 3, 2),),))
