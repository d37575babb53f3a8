"""timm's DarkNet and ours are one network."""

import numpy as np
import pytest

from mlcvtf.weights import darknet, name_map
from tests.weights import peers

MEAN = np.array([0.485, 0.456, 0.406], "float32")
DEVIATION = np.array([0.229, 0.224, 0.225], "float32")


@pytest.mark.peer
@pytest.mark.parametrize("variant", ["17", "53"])
@pytest.mark.parametrize("size", [(64, 96), (75, 51)])
def test_equals_timm(variant, size):
    timm = pytest.importorskip("timm")
    images = peers.smooth_pictures(2, *size)
    inputs = peers.to_torch((images / 255 - MEAN) / DEVIATION)
    peer = timm.create_model(f"darknet{variant}")
    peers.settle(peer, inputs)
    model = darknet.timm_classifier(variant)
    name_map.carry(model, peers.arrays(peer), darknet.timm_rules(), darknet.SKIPPED)
    levels = {f"P{stage + 1}": f"stages.{stage}" for stage in range(5)}
    logits, expected = peers.maps(peer, inputs, levels.values())
    found = model.backbone(images, training=False)
    for level, name in levels.items():
        assert peers.difference(found[level], expected[name]) <= 1e-4
    assert peers.difference(model(images, training=False)["logits"], logits) <= 1e-4


@pytest.mark.peer
def test_the_slope_shows():
    timm = pytest.importorskip("timm")
    images = peers.smooth_pictures(2, 64, 64)
    inputs = peers.to_torch((images / 255 - MEAN) / DEVIATION)
    peer = timm.create_model("darknet17")
    peers.settle(peer, inputs)
    model = darknet.ImageClassifier(darknet.darknet("17", 0.1, 1.0, "mean_std"), 1000)
    name_map.carry(model, peers.arrays(peer), darknet.timm_rules(), darknet.SKIPPED)
    logits, _ = peers.maps(peer, inputs, [])
    assert peers.difference(model(images, training=False)["logits"], logits) > 1e-2
