"""Inception-ResNet equals `keras.applications`, timm and `facenet-pytorch`."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError
from mlcvtf.weights import inception_resnet as weights
from mlcvtf.weights import name_map
from tests.weights import peers

LEVELS = {"P1": "conv2d_2b", "P2": "conv2d_4a", "P3": "repeat", "P4": "repeat_1",
          "P5": "conv2d_7b"}
FACENET = {"P1": "conv2d_2b", "P2": "conv2d_4a", "P3": "repeat_1", "P4": "repeat_2",
           "P5": "block8"}


def assert_carried_equals(images, inputs, peer, model, rules, levels):
    """Checks a torch network against ours: logits and levels."""
    peers.settle(peer, inputs)
    name_map.carry(model, peers.arrays(peer), rules, weights.SKIPPED)
    logits, expected = peers.maps(peer, inputs, levels.values())
    maps = model.backbone(images, training=False)
    for level, name in levels.items():
        assert peers.difference(maps[level], expected[name]) <= 1e-4
    found = model(images, training=False)["logits"]
    assert peers.difference(found, logits) <= 1e-4


@pytest.mark.peer
@pytest.mark.parametrize("size", [(139, 139), (107, 132)])
def test_equals_timm(size):
    timm = pytest.importorskip("timm")
    images = peers.smooth_pictures(2, *size)
    assert_carried_equals(images, peers.to_torch(images / 127.5 - 1),
            timm.create_model("inception_resnet_v2"), weights.classifier("timm"),
            weights.timm_rules(), LEVELS)


@pytest.mark.peer
def test_equals_facenet_pytorch():
    facenet = pytest.importorskip("facenet_pytorch")
    peer = facenet.InceptionResnetV1(classify=True, num_classes=10)
    images = peers.smooth_pictures(2, 139, 112)
    inputs = peers.to_torch((images - 127.5) / 128)
    model = weights.classifier("facenet", 10)
    assert_carried_equals(images, inputs, peer, model, weights.facenet_rules(), FACENET)
    peer.classify = False
    expected, _ = peers.maps(peer, inputs, [])
    assert peers.difference(model.embed(images), expected) <= 1e-4


def test_equals_keras_applications():
    """The whole network, statistics from a training pass."""
    size = (139, 107)
    peer = keras.applications.InceptionResNetV2(
        weights=None, input_shape=(*size, 3), classes=10, classifier_activation=None
    )
    generator = np.random.default_rng(0)
    for layer in peer.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Momentum 0 keeps the statistics of the one pass below.
            layer.momentum = 0.0
            layer.beta.assign(generator.normal(0, 0.2, layer.beta.shape))
    images = peers.smooth_pictures(2, *size)
    inputs = images / 127.5 - 1
    peer(inputs, training=True)
    model = weights.classifier("keras", 10)
    arrays = {v.path: np.asarray(v) for v in peer.weights}
    report = name_map.carry(model, weights.keras_names(arrays), weights.keras_rules())
    assert len(report.loaded) == len(peer.weights)
    expected = peer(inputs, training=False)
    assert peers.difference(model(images, training=False)["logits"], expected) <= 1e-4


def test_names_are_numbered_from_any_start():
    names = ["conv2d_9/kernel", "conv2d_11/kernel", "batch_normalization/beta",
             "conv_7b/kernel"]
    found = weights.keras_names(dict.fromkeys(names, np.zeros(1)))
    assert list(found) == ["convolution0/kernel", "convolution1/kernel",
                           "normalisation0/beta", "conv_7b/kernel"]


def test_padding_changes_no_weight():
    valid, same = (inception_resnet("v2", padding=padding, repeats=(1, 1, 1), width=0.1)
                   for padding in ("valid", "same"))
    assert [v.shape for v in valid.weights] == [v.shape for v in same.weights]


def test_refuses_an_unknown_source():
    with pytest.raises(ValueError, match="timm, keras or facenet, received 'torch'"):
        weights.classifier("torch")


def test_a_missing_array_ends_the_import():
    model = ImageClassifier(inception_resnet("v2", repeats=(0, 0, 0), width=0.1), 2)
    with pytest.raises(InputError, match="missing stem1/convolution/kernel"):
        name_map.carry(model, {}, weights.keras_rules())
