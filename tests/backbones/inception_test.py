"""Inception-v1: published counts, levels, what is refused."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.darknet import darknet
from mlcvtf.backbones.inception import inception_v1
from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
from tests.weights import peers


def trainable(build):
    """Counts trainable parameters without giving them values."""
    with keras.StatelessScope(initialize_variables=False):
        model = build()
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("options, published", [
    # The sum over table 1 with its 5x5 kernels, biases included; the heads not.
    ({}, 6_998_552),
    ({"batch_normalisation": True}, 7_005_832),
    ({"origin": "torchvision"}, 6_624_904),
])
def test_parameters_are_the_published_ones(options, published):
    found = trainable(lambda: ImageClassifier(inception_v1(**options), 1000))
    assert found == published


@pytest.mark.parametrize("options, size, sides", [
    ({}, (224, 224), [(112, 112), (56, 56), (28, 28), (14, 14), (7, 7)]),
    ({}, (75, 96), [(38, 48), (19, 24), (10, 12), (5, 6), (3, 3)]),
    ({"batch_normalisation": True}, (33, 40), [(17, 20), (9, 10), (5, 5), (3, 3),
                                               (2, 2)]),
    # Its poolings round down, but for the last.
    ({"origin": "torchvision"}, (224, 224), [(112, 112), (56, 56), (28, 28), (14, 14),
                                             (7, 7)]),
    ({"origin": "torchvision"}, (75, 96), [(38, 48), (19, 24), (9, 12), (4, 6),
                                           (2, 3)]),
])
def test_levels_have_their_strides(options, size, sides):
    outputs = inception_v1(width=0.125, **options)(np.zeros((1, *size, 3)))
    assert list(outputs) == ["P1", "P2", "P3", "P4", "P5"]
    channels = [8, 24, 60, 104, 128]
    for maps, side, count in zip(outputs.values(), sides, channels, strict=True):
        assert tuple(maps.shape) == (1, *side, count)


def test_the_first_layer_follows_the_origin():
    image = np.full((1, 1, 1, 3), 127.5, "float32")
    found = {}
    for origin in ("paper", "torchvision"):
        layer = inception_v1(origin, width=0.1).layers[1]
        found[origin] = np.asarray(layer(image))[0, 0, 0]
    np.testing.assert_allclose(found["paper"], [3.825, 11.22, 23.97], rtol=1e-5)
    np.testing.assert_allclose(found["torchvision"], 0, atol=1e-6)


def test_frozen_backbone_keeps_its_statistics():
    model = inception_v1("torchvision", width=0.1)
    images = peers.smooth_pictures(2, 48, 48)
    model.trainable = False
    before = model.get_weights()
    model(images, training=True)
    assert all(map(np.array_equal, before, model.get_weights()))
    # Also when it was saved frozen.
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
    )
    copy.set_weights(before)
    assert not copy.trainable_variables
    copy(images, training=True)
    assert all(map(np.array_equal, before, copy.get_weights()))
    model.trainable = True
    model(images, training=True)
    assert not all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("options, message", [
    ({"origin": "caffe"}, "origin is one of paper, torchvision, received 'caffe'"),
    ({"origin": "torchvision", "batch_normalisation": False},
     "torchvision's network has batch normalisation"),
    ({"width": 0}, "width is greater than 0, received 0"),
    ({"input_shape": (32, 32, 1)}, r"\(height, width, 3\), received \(32, 32, 1\)"),
    ({"normalisation": "imagenet"}, "normalisation is one of .*, received 'imagenet'"),
])
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(ValueError, match=message):
        inception_v1(**options)


@pytest.mark.parametrize("build", [inception_v1, inception_resnet, darknet])
def test_refuses_pictures_of_one_channel(build):
    options = {inception_resnet: {"repeats": (0, 0, 0)}, darknet: {"variant": "17"}}
    model = build(width=0.05, **options.get(build, {}))
    with pytest.raises(ValueError, match="expected axis -1 .* to have value 3"):
        model(np.zeros((1, 96, 96, 1)))
