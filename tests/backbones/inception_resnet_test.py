"""Inception-ResNet: published counts, levels, padding, what is refused."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.classification.inception_classifier import BottleneckClassifier
from tests.backbones.inception_test import trainable
from tests.weights import peers


@pytest.mark.parametrize("origin, published", [
    # Keras's summary; timm's and torch's batch normalisation adds a gamma.
    ("keras", 55_813_192), ("timm", 55_843_464),
])
def test_parameters_of_version_2(origin, published):
    found = trainable(lambda: ImageClassifier(inception_resnet("v2", origin), 1000))
    assert found == published


def test_parameters_of_version_1():
    # facenet-pytorch with 1,000 classes behind an embedding of 512 numbers.
    found = trainable(lambda: BottleneckClassifier(inception_resnet("v1"), 1000, 512))
    assert found == 23_995_624


@pytest.mark.parametrize("size, padding, sides", [
    # The sizes that figures 3 to 14 of the paper print.
    ((299, 299), "valid", [(147, 147), (71, 71), (35, 35), (17, 17), (8, 8)]),
    ((75, 139), "valid", [(35, 67), (15, 31), (7, 15), (3, 7), (1, 3)]),
    ((128, 96), "same", [(64, 48), (32, 24), (16, 12), (8, 6), (4, 3)]),
    ((75, 139), "same", [(38, 70), (19, 35), (10, 18), (5, 9), (3, 5)]),
])
@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_levels(variant, size, padding, sides):
    model = inception_resnet(
        variant, padding=padding, repeats=(1, 1, 1), width=0.125, input_shape=(*size, 3)
    )
    channels = {"v1": [8, 24, 32, 112, 224], "v2": [8, 24, 40, 136, 192]}[variant]
    assert list(model.output) == ["P1", "P2", "P3", "P4", "P5"]
    shapes = [tuple(x.shape[1:]) for x in model.output.values()]
    assert shapes == [(*s, c) for s, c in zip(sides, channels, strict=True)]


def test_blocks_are_counted_and_scaled():
    with keras.StatelessScope(initialize_variables=False):
        models = {v: inception_resnet(v) for v in ("v1", "v2")}
    for variant, counts in (("v1", (5, 10, 5)), ("v2", (10, 20, 9))):
        names = [layer.name for layer in models[variant].layers]
        for part, count, scale in zip("ABC", counts, (0.17, 0.10, 0.20), strict=True):
            assert f"{part}{count - 1}" in names and f"{part}{count}" not in names
            block = models[variant].get_layer(f"{part}0")
            assert block.scale == scale and block.rectified
        last = models[variant].get_layer("last_residual")
        assert last.scale == 1.0 and not last.rectified


def test_any_size_and_frozen_statistics():
    model = inception_resnet(repeats=(1, 1, 0), width=0.1, padding="same")
    for size in ((32, 48), (41, 35)):
        images = peers.smooth_pictures(2, *size)
        found = model(images, training=False)
        assert tuple(found["P5"].shape[1:3]) == tuple(-(-s // 32) for s in size)
    model.trainable = False
    before = model.get_weights()
    model(images, training=True)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_facenets_pictures_are_mapped_by_128():
    image = np.array([[[[255.0, 127.5, 0.0]]]], "float32")
    for options, expected in (({"variant": "v1"}, 127.5 / 128), ({"variant": "v2"}, 1)):
        layer = inception_resnet(repeats=(0, 0, 0), width=0.1, **options).layers[1]
        found = np.asarray(layer(image))[0, 0, 0]
        np.testing.assert_allclose(found, [expected, 0, -expected], rtol=1e-6)


@pytest.mark.parametrize("options, message", [
    ({"variant": "v4"}, "variant is one of v1, v2, received 'v4'"),
    ({"origin": "caffe"}, "origin is one of keras, timm, facenet, received 'caffe'"),
    ({"padding": "full"}, "padding is one of valid, same, received 'full'"),
    ({"repeats": (1, 2)}, r"repeats are three counts of blocks, received \(1, 2\)"),
    ({"width": -1}, "width is greater than 0, received -1"),
    ({"input_shape": (96, 96, 1)}, r"\(height, width, 3\), received \(96, 96, 1\)"),
    ({"normalisation": "imagenet"}, "normalisation is one of .*, received 'imagenet'"),
])
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(ValueError, match=message):
        inception_resnet(**options)
