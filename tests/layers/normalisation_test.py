"""The first layer against the sources' own preprocessing."""

import keras
import numpy as np
import pytest

from mlcvtf.layers.normalisation import ImageNormalisation, named_normalisation


@pytest.mark.parametrize("name, mode", [("caffe", "caffe"), ("unit", "tf"),
                                        ("mean_std", "torch")])
def test_equals_keras_applications(name, mode):
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype("float32")
    expected = keras.applications.imagenet_utils.preprocess_input(
        images.copy(), data_format="channels_last", mode=mode
    )
    found = np.asarray(named_normalisation(name)(images))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_takes_bytes():
    layer = named_normalisation("zero_one")
    found = np.asarray(layer(np.array([[[[0, 51, 255]]]], "uint8")))
    np.testing.assert_allclose(found, [[[[0, 0.2, 1]]]], atol=1e-7)


def test_subtracts_before_it_rounds():
    layer = ImageNormalisation([200.3], [2.0], dtype="mixed_bfloat16")
    found = layer(np.full((1, 1, 1, 1), 201.0))
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    # In bfloat16 200.3 is 200 and the result would be 0.5.
    assert float(found[0, 0, 0, 0]) == pytest.approx(0.35, rel=2**-8)


def test_refuses_what_is_no_normalisation():
    with pytest.raises(ValueError, match="one number per channel"):
        ImageNormalisation([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="std is greater than 0"):
        ImageNormalisation([1.0], [0.0])
    with pytest.raises(ValueError, match="one of caffe, mean_std, unit, zero_one"):
        named_normalisation("imagenet")


def test_refuses_another_number_of_channels():
    layer = ImageNormalisation([1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="expected axis -1 .* to have value 3"):
        layer(np.zeros((1, 4, 4, 1), "float32"))
