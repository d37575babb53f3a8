"""MobileNetV2 against `keras.applications` with the same weights."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights import mobilenet_v2 as weights
from mlcvtf.weights.name_map import carry
from tests.backbones import peers


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


def test_weights_of_keras_applications_are_carried_by_name():
    size = (75, 64)
    peer = keras.applications.MobileNetV2(
        input_shape=(*size, 3), weights=None, classifier_activation=None
    )
    for variable in peer.weights:
        variable.assign(peers.draw(variable.path, variable.shape))
    model = ImageClassifier(weights.network("keras", "MobileNetV2_1.00"), 1000)
    arrays = {v.path: np.asarray(v) for v in peer.weights}
    carry(model, arrays, weights.rules("keras"), weights.SKIPPED["keras"])
    images = peers.smooth(2, *size)
    levels = {"P1": "block_1_expand", "P2": "block_3_expand", "P3": "block_6_expand",
              "P4": "block_13_expand"}
    maps = {level: peer.get_layer(name).input for level, name in levels.items()}
    maps["P5"] = peer.get_layer("out_relu").output
    expected = keras.Model(peer.inputs[0], {**maps, "logits": peer.output})(
        images / 127.5 - 1
    )
    expected = {name: np.asarray(value) for name, value in expected.items()}
    assert peers.difference(peers.outputs(model, images), expected) <= peers.BIGGEST


def test_outputs_are_those_that_torchvision_gave():
    model = peers.classifier("mobilenet_v2", *peers.GOLDEN["mobilenet_v2"])
    found = peers.summary(peers.outputs(model, peers.smooth(2, *peers.SIZE)))
    assert peers.difference(found, peers.golden("mobilenet_v2")) <= peers.BIGGEST


def test_paths_are_stable():
    first, second = (mobilenet_v2(0.1, None) for _ in range(2))
    paths = [weight.path for weight in first.weights]
    assert paths == [weight.path for weight in second.weights]
    assert len(set(paths)) == len(paths)
    assert {"stem/kernel", "stage7_block0/project_normalisation/gamma"} <= set(paths)


def test_form_for_small_images():
    model = mobilenet_v2(0.35, None, small_images=True)
    shapes = {level: tuple(maps.shape[1:])
              for level, maps in model(np.zeros((1, 32, 32, 3))).items()}
    assert shapes == {"P0": (32, 32, 8), "P1": (16, 16, 16), "P2": (8, 8, 112)}


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
    with pytest.raises(ValueError, match="origin is one of keras, torch, received 'a'"):
        mobilenet_v2(origin="a")
    with pytest.raises(ValueError, match="known are mobilenetv2_035, "):
        weights.network("timm", "mobilenetv2_100d")
    with pytest.raises(ValueError, match="source is one of keras, torchvision, timm"):
        weights.rules("caffe")
    with pytest.raises(ValueError, match=r"\(height, width, 3\), received"):
        mobilenet_v2(1.0, input_shape=(32, 32, 1))


def test_frozen_backbone_keeps_its_statistics():
    model = mobilenet_v2(0.35, last_channels=None)
    model.trainable = False
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
