"""ViT: published sizes, other packages with the same weights, sizes of pictures."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.vit import VARIANTS, vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights.name_map import carry
from mlcvtf.weights.vit import SKIPPED, rules, split_fused
from tests.backbones.vit_weights import (
    GOLDEN,
    SMALL,
    classifier,
    published_names,
    relative,
    smooth,
)

# With 1,000 classes: torchvision's B, L and H, timm's Ti and S.
PUBLISHED = {
    "ti16": 5_717_416,
    "s16": 22_050_664,
    "b16": 86_567_656,
    "b32": 88_224_232,
    "l16": 304_326_632,
    "h14": 632_045_800,
}


@pytest.mark.parametrize("variant", ["ti16", "s16"])
def test_parameters_are_the_published_ones(variant):
    assert count(variant) == PUBLISHED[variant]


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in PUBLISHED if v not in ("ti16", "s16")])
def test_parameters_of_the_large_ones(variant):
    keras.config.set_dtype_policy("float16")
    try:
        assert count(variant) == PUBLISHED[variant]
    finally:
        keras.config.set_dtype_policy("float32")


def count(variant):
    model = vit(variant)
    total = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert not model.non_trainable_weights
    return total + VARIANTS[variant].dimension * 1000 + 1000


def test_outputs_are_those_that_timm_computed():
    golden = np.load(GOLDEN)
    model = classifier()
    report = carry(model, split_fused(published_names()), rules("timm"), SKIPPED)
    assert report.parameters == model.count_params() and not report.skipped
    for size in (32, 48):
        found = np.asarray(model(smooth(size, size))["logits"])
        expected = golden[f"logits_{size}"]
        assert relative(found, expected) < 1e-4


@pytest.mark.parametrize(("size", "shape"), [
    ((32, 32), (4, 4)), ((33, 40), (5, 5)), ((8, 65), (1, 9)), ((5, 3), (1, 1))])
def test_maps_have_their_stride_whatever_the_size(size, shape):
    outputs = vit(SMALL, resolution=32)(np.zeros((1, *size, 3)))
    assert set(outputs) == {"P3", "class_token"}
    assert outputs["P3"].shape == (1, *shape, 24)
    assert outputs["class_token"].shape == (1, 24)


def test_maps_are_named_by_their_stride():
    names = {patch: set(vit(SMALL, resolution=56 * patch // 7, patch=patch).output)
             for patch in (7, 14, 16)}
    assert names[14] == {"stride14", "class_token"}
    assert names[7] == {"stride7", "class_token"}
    assert names[16] == {"P4", "class_token"}
    assert set(vit(SMALL, resolution=8, patch=4, class_token=False).output) == {"P2"}


def test_the_classifier_takes_the_class_token_or_the_mean():
    images = smooth(32, 32)
    for token in (True, False):
        for patch in (8, 7):
            backbone = vit(SMALL, resolution=56, patch=patch, class_token=token)
            model = ImageClassifier(backbone, 5)
            maps = backbone(images)
            level = "P3" if patch == 8 else "stride7"
            features = (np.asarray(maps["class_token"]) if token
                        else np.mean(maps[level], axis=(1, 2)))
            kernel, bias = (np.asarray(w) for w in model.head.weights)
            np.testing.assert_allclose(
                model(images)["logits"], features @ kernel + bias, atol=1e-4)


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="ti16, s16, b16, b32, l16, h14, received b8"):
        vit("b8")
    with pytest.raises(ValueError, match=r"\(height, width, 3\), received"):
        vit(SMALL, (32, 32, 1), 32)
    with pytest.raises(ValueError, match=r"multiple of the patch \(8\), received 30"):
        vit(SMALL, resolution=30)
    with pytest.raises(ValueError, match="normalisation is one of .*, received 'raw'"):
        vit(SMALL, resolution=32, normalisation="raw")
    with pytest.raises(ValueError, match="source is one of .*, received 'jax'"):
        rules("jax")
