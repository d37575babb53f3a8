"""Weights and pictures under which a wrong network shows; its peers' names for them."""

import re
import zlib

import cv2
import keras
import numpy as np

from mlcvtf.backbones.resnet import resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights.resnet import ARCHITECTURES, SKIPPED, rules

GOLDEN = {
    "resnet18": ("torchvision", "resnet18"),
    "seresnext50": ("timm", "legacy_seresnext50_32x4d"),
}


def smooth(count, height, width, seed=0):
    """Returns pictures of low frequencies, float32 in 0..255."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 5, 5, 3))
    return np.stack([
        cv2.resize(picture.astype("float32"), (width, height),
                   interpolation=cv2.INTER_LINEAR)
        for picture in coarse
    ])


def draw(path, shape):
    """Returns the array of a variable, from its name alone."""
    generator = np.random.default_rng(zlib.crc32(path.encode()))
    if path.endswith("conv3_normalisation/gamma"):
        # A trained block adds little to its input. With steps of 0.3 to 1 the rounding
        # of over 100 layers grows to 2e-4 of the largest output: in float64 ours and
        # PyTorch's ResNet-101 then differ by 1e-13, in float32 each from that by 5e-5.
        return generator.uniform(0.1, 0.4, shape).astype("float32")
    if path.endswith("gamma"):
        return generator.uniform(0.3, 1.0, shape).astype("float32")
    if path.endswith("variance"):
        return generator.uniform(0.5, 1.5, shape).astype("float32")
    scale = 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(shape[:-1]))
    return (scale * generator.standard_normal(shape, "float32")).astype("float32")


def classifier(source, name):
    """Builds what a source calls `name`, with weights by name."""
    model = ImageClassifier(resnet(*ARCHITECTURES[source][name], momentum=0.0), 1000)
    for variable in model.variables:
        variable.assign(draw(variable.path, variable.shape))
    return model


def with_statistics(model):
    """Gives a model the statistics of one training pass."""
    model.backbone(smooth(6, 64, 64, seed=1), training=True)
    return model


def outputs(model, images):
    """Returns the logits and the maps, by name."""
    maps = model.backbone(images, training=False)
    pooled = keras.ops.mean(maps["P5"], axis=(1, 2))
    return {"logits": np.asarray(model.head(pooled)),
            **{level: np.asarray(value) for level, value in maps.items()}}


def place(name, rules):
    """Returns the path that a source's name goes to, None where it is left out."""
    if any(re.fullmatch(pattern, name) for pattern in SKIPPED):
        return None
    return next(match.expand(rule.target) for rule in rules
                if (match := re.fullmatch(rule.pattern, name)))


def source_arrays(model, shapes, source, variant):
    """Returns a model's weights under the names and in the layout of a source.

    Args:
        model: a classifier.
        shapes: the source's names and shapes.
        source: key of `ARCHITECTURES`.
        variant: of the network.
    """
    values = {v.path: np.asarray(v) for v in model.variables}
    arrays = {}
    for name, shape in shapes.items():
        path = place(name, rules(source, variant))
        if path is None:
            arrays[name] = np.zeros(shape, "int64")
        elif source != "keras" and values[path].ndim == 4:
            arrays[name] = values[path].transpose(3, 2, 0, 1)
        elif source != "keras" and values[path].ndim == 2:
            arrays[name] = values[path].T.reshape(shape)
        else:
            arrays[name] = values[path]
    return arrays


def difference(found, expected):
    """Returns the largest difference over the largest magnitude, of all outputs."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert np.abs(value).max() > 0.01 and value.std() > 0.01 * np.abs(value).max()
    return max(np.abs(found[name] - value).max() / np.abs(value).max()
               for name, value in expected.items())


def summary(values):
    """Returns what a golden file holds of outputs: few numbers of each."""
    rows = {name: value.reshape(len(value), -1) for name, value in values.items()}
    return {name: row[:, :: max(1, row.shape[1] // 32)][:, :32]
            for name, row in rows.items()}
