"""The block of RegNet; its outputs are compared in tests/backbones."""

import numpy as np
import pytest

from mlcvtf.layers.regnet_block import RegNetBlock


def test_shortcut_is_the_input_where_shapes_agree():
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 16)).astype("float32")
    layer = RegNetBlock(16, 8)
    layer(x)
    last = next(step for step in layer.branch if step.name == "conv3")
    last.kernel.assign(np.zeros(last.kernel.shape))
    np.testing.assert_allclose(np.asarray(layer(x)), np.maximum(x, 0), atol=1e-6)
    assert not layer.projection


def test_squeeze_is_a_share_of_the_input():
    layer = RegNetBlock(24, 8, 2, squeeze_ratio=0.25)
    assert layer(np.zeros((1, 7, 9, 32))).shape == (1, 4, 5, 24)
    squeeze = next(step for step in layer.branch if step.name == "squeeze_excite")
    assert squeeze.channels == 8
    names = [step.name for step in layer.branch]
    assert names.index("conv2") < names.index("squeeze_excite") < names.index("conv3")


def test_groups_have_equal_width():
    layer = RegNetBlock(24, 8)
    layer.build((None, 8, 8, 24))
    grouped = next(step for step in layer.branch if step.name == "conv2")
    assert grouped.groups == 3 and grouped.kernel.shape == (3, 3, 8, 24)


@pytest.mark.parametrize("arguments, message", [
    ({"group_width": 5}, "filters is a multiple of group_width, received 16 and 5"),
    ({"group_width": 8, "stride": 0}, "stride is at least 1, received 0"),
    ({"group_width": 8, "squeeze_ratio": 0}, "squeeze_ratio is positive, received 0"),
])
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegNetBlock(16, **arguments)


def test_a_block_that_is_built_frozen_keeps_its_statistics():
    layer = RegNetBlock(8, 4, trainable=False)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert not any(variable.trainable for variable in layer.variables)
