"""DarkNet: table 1's counts, levels, its slope, what is refused."""

import numpy as np
import pytest

from mlcvtf.backbones.darknet import darknet
from mlcvtf.classification.classifier import ImageClassifier
from tests.backbones.inception_test import trainable
from tests.weights import peers


def test_parameters_are_the_published_ones():
    # timm's darknet53; kernels of table 1 with gamma and beta, and 1,000 classes.
    assert trainable(lambda: ImageClassifier(darknet(), 1000)) == 41_609_928


def test_table_1_has_52_convolutions():
    model = darknet(width=0.1)
    kernels = [v for v in model.weights if v.path.endswith("kernel")]
    # 53 with the dense layer.
    assert len(kernels) == 52
    blocks = [layer.name for layer in model.layers if layer.name.endswith("_add")]
    assert [sum(f"stage{s}" in name for name in blocks) for s in range(1, 6)] == [
        1, 2, 8, 8, 4]


@pytest.mark.parametrize("size", [(64, 96), (75, 51), (33, 32)])
def test_levels_have_their_strides(size):
    outputs = darknet("17", width=0.125)(np.zeros((1, *size, 3)))
    for level in range(1, 6):
        sides = [-(-side // 2**level) for side in size]
        assert tuple(outputs[f"P{level}"].shape) == (1, *sides, 4 * 2**level)


def test_frozen_backbone_keeps_its_statistics():
    model = darknet("17", width=0.1)
    images = peers.smooth_pictures(2, 32, 32)
    model.trainable = False
    before = model.get_weights()
    model(images, training=True)
    assert all(map(np.array_equal, before, model.get_weights()))
    model.trainable = True
    model(images, training=True)
    assert not all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("options, message", [
    ({"variant": "19"}, "variant is one of 17, 21, 53, received '19'"),
    ({"width": 0}, "width is greater than 0, received 0"),
    ({"input_shape": (32, 32, 1)}, r"\(height, width, 3\), received \(32, 32, 1\)"),
    ({"normalisation": "imagenet"}, "normalisation is one of .*, received 'imagenet'"),
])
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(ValueError, match=message):
        darknet(**options)
