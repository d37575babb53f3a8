"""The block of EfficientNet; its outputs are compared in tests/backbones."""

import numpy as np
import pytest

from mlcvtf.layers.mbconv import MBConv


def test_branches_are_dropped_by_picture():
    x = np.random.default_rng(0).normal(size=(64, 4, 4, 8)).astype("float32")
    layer = MBConv(8, drop_rate=0.5, momentum=1.0)
    branch = np.asarray(layer(x)) - x
    assert np.abs(branch).max() > 0.01
    # Batch statistics differ from the moving ones: the scale is what is compared.
    trained = np.asarray(layer(x, training=True)) - x
    whole = np.abs(trained).max(axis=(1, 2, 3))
    kept = whole > 0
    assert 16 < kept.sum() < 48
    layer.steps[-1].rate = 0.0
    undropped = np.asarray(layer(x, training=True)) - x
    np.testing.assert_allclose(trained[kept], 2 * undropped[kept], rtol=1e-3, atol=1e-4)


def test_squeeze_is_a_share_of_the_input():
    layer = MBConv(16, expansion=6, squeeze_ratio=0.25)
    layer.build((None, 8, 8, 24))
    squeeze = next(step for step in layer.steps if step.name == "squeeze_excite")
    assert squeeze.channels == 6
    assert squeeze.squeeze.kernel.shape == (24 * 6, 6)


def test_without_expansion_and_residual():
    layer = MBConv(16, kernel_size=5, expansion=1, stride=2, drop_rate=0.2)
    assert layer(np.zeros((1, 7, 9, 16))).shape == (1, 4, 5, 16)
    names = [step.name for step in layer.steps]
    assert "expand" not in names and "drop" not in names and not layer.residual


@pytest.mark.parametrize("arguments, message", [
    ({"stride": 3}, "stride is 1 or 2, received 3"),
    ({"expansion": 0}, "at least 1, received 8 and 0"),
    ({"kernel_size": 4}, "kernel_size is odd, received 4"),
    ({"drop_rate": 1.0}, "drop_rate is 0 to below 1, received 1.0"),
    ({"squeeze_ratio": 0.0}, r"squeeze_ratio is in \(0, 1\], received 0.0"),
    ({"padding": "valid"}, "padding is .*, received 'valid'"),
])
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MBConv(8, **arguments)


def test_a_block_that_is_built_frozen_keeps_its_statistics():
    layer = MBConv(8, trainable=False)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    assert not any(variable.trainable for variable in layer.variables)
