"""A small ViT, weights and pictures for it, of NumPy alone."""

import pathlib
import re

import numpy as np

from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights.vit import SETTINGS

SMALL = Variant(depth=2, dimension=24, hidden=40, heads=3, patch=8)
GOLDEN = pathlib.Path(__file__).parent / "goldens" / "vit.npz"

def smooth(height, width, seed=0):
    """Pictures of a few waves, float32 in 0..255."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 32
    waves = [np.sin(generator.uniform(-2, 2) * y + generator.uniform(-2, 2) * x
                    + generator.uniform(0, 6)) for _ in range(6)]
    return (127 + 120 * np.stack(waves, -1).reshape(height, width, 2, 3)
            .transpose(2, 0, 1, 3)).astype("float32")


def published_names(names=SMALL, size=32, classes=32, seed=0):
    """A checkpoint in timm's names with arrays for everything."""
    d, h, count = names.dimension, names.hidden, (size // names.patch) ** 2 + 1
    shapes = {"cls_token": (1, 1, d), "pos_embed": (1, count, d),
              "patch_embed.proj.weight": (d, 3, names.patch, names.patch),
              "patch_embed.proj.bias": (d,), "norm.weight": (d,), "norm.bias": (d,),
              "head.weight": (classes, d), "head.bias": (classes,)}
    for i in range(names.depth):
        for key, shape in {
            "norm1.weight": (d,), "norm1.bias": (d,), "attn.qkv.weight": (3 * d, d),
            "attn.qkv.bias": (3 * d,), "attn.proj.weight": (d, d),
            "attn.proj.bias": (d,), "norm2.weight": (d,), "norm2.bias": (d,),
            "mlp.fc1.weight": (h, d), "mlp.fc1.bias": (h,), "mlp.fc2.weight": (d, h),
            "mlp.fc2.bias": (d,)}.items():
            shapes[f"blocks.{i}.{key}"] = shape
    generator = np.random.default_rng(seed)
    return {key: drawn(key, shape, generator) for key, shape in shapes.items()}


def drawn(name, shape, generator):
    """Weights under which a wrong epsilon, order or activation shows."""
    if "norm" in name or ".ln" in name:
        low, high = (0.5, 1.5) if name.endswith("weight") else (-0.3, 0.3)
        return generator.uniform(low, high, shape).astype("float32")
    # Embeddings so small that the first norm feels its epsilon.
    embedded = re.search("patch|conv_proj|pos|cls_token|class_token", name)
    size = 1e-3 if embedded else 1.0
    fan = {1: 10, 3: 1}.get(len(shape), np.prod(shape[1:]))
    return generator.normal(0, size * fan**-0.5, shape).astype("float32")


def classifier(source="timm", variant=SMALL, classes=32, **changes):
    settings = {"resolution": 32} | SETTINGS[source] | changes
    return ImageClassifier(vit(variant, **settings), classes)


def relative(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()
