"""MobileNetV2 against `keras.applications` with the same weights."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2


def random_weights(model, generator):
    """Weights under which a wrong epsilon or a swapped statistic shows."""
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            yield generator.uniform(0.5, 1.5, weight.shape)
        elif "mean" in weight.path or "beta" in weight.path:
            yield generator.normal(0, 0.1, weight.shape)
        else:
            yield np.asarray(weight)


@pytest.mark.parametrize("alpha", [0.35, 0.5, 1.0])
@pytest.mark.parametrize("size", [(96, 64), (75, 51)])
def test_equals_keras_applications(alpha, size):
    peer = keras.applications.MobileNetV2(
        input_shape=(*size, 3), alpha=alpha, include_top=False, weights=None
    )
    model = mobilenet_v2(alpha)
    assert model.count_params() == peer.count_params()
    generator = np.random.default_rng(0)
    weights = list(random_weights(peer, generator))
    peer.set_weights(weights)
    model.set_weights(weights)
    images = generator.uniform(0, 255, (2, *size, 3)).astype(np.float32)
    expected = np.asarray(peer(images / 127.5 - 1, training=False))
    found = np.asarray(model(images, training=False)["P5"])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_parameters_with_classifier_are_the_published_ones():
    # 3,504,872 with 1,000 classes (1280 x 1000 weights and 1000 biases), of which
    # the moving statistics are not counted.
    model = mobilenet_v2(1.0)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable + 1280 * 1000 + 1000 == 3_504_872


def test_levels_have_their_strides():
    outputs = mobilenet_v2(0.35, last_channels=None)(np.zeros((1, 64, 96, 3)))
    shapes = {level: tuple(maps.shape[1:]) for level, maps in outputs.items()}
    assert shapes == {
        "P1": (32, 48, 8),
        "P2": (16, 24, 8),
        "P3": (8, 12, 16),
        "P4": (4, 6, 32),
        "P5": (2, 3, 112),
    }


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="alpha is greater than 0, received 0"):
        mobilenet_v2(0)
    with pytest.raises(ValueError, match=r"\(height, width, 3\), received"):
        mobilenet_v2(1.0, input_shape=(32, 32, 1))


def test_frozen_backbone_keeps_its_statistics():
    model = mobilenet_v2(0.35, last_channels=None)
    model.trainable = False
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
