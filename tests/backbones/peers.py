"""Weights and pictures under which a wrong network shows, and peers' names for them.

For MobileNetV2, EfficientNet and RegNet.
"""

import pathlib
import re
import zlib

import cv2
import keras
import numpy as np

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights import efficientnet, mobilenet_v2, regnet

FAMILIES = {
    "efficientnet": efficientnet,
    "mobilenet_v2": mobilenet_v2,
    "regnet": regnet,
}
GOLDEN = {
    "efficientnet": ("torchvision", "efficientnet_b0"),
    "mobilenet_v2": ("torchvision", "mobilenet_v2"),
    "regnet": ("timm", "regnety_002"),
}
GOLDENS = pathlib.Path(__file__).parent / "goldens"
SIZE = (75, 64)
BIGGEST = 1e-4


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
    if path.endswith("gamma"):
        return generator.uniform(0.3, 1.0, shape).astype("float32")
    if path.endswith("variance"):
        return generator.uniform(0.5, 1.5, shape).astype("float32")
    inputs = shape[:2] if "depthwise" in path else shape[:-1]
    scale = 0.1 if len(shape) == 1 else np.sqrt(2 / np.prod(inputs))
    return (scale * generator.standard_normal(shape, "float32")).astype("float32")


def classifier(family, source, name, **options):
    """Builds what a source calls `name`, with weights by name."""
    backbone = FAMILIES[family].network(source, name, **options)
    model = ImageClassifier(backbone, 1000)
    for variable in model.weights:
        variable.assign(draw(variable.path, variable.shape))
    return model


def with_statistics(model):
    """Gives a classifier, built with momentum 0, the statistics of a training pass.

    Its pictures are large and varied enough that the last maps' variances are not
    those of a few places: there single precision would lose what is compared.
    """
    model.backbone(smooth(8, 128, 128, seed=1), training=True)
    return model


def outputs(model, images):
    """Returns the logits and the maps, by name."""
    maps = model.backbone(images, training=False)
    pooled = keras.ops.mean(maps["P5"], axis=(1, 2))
    return {"logits": np.asarray(model.head(pooled)),
            **{level: np.asarray(value) for level, value in maps.items()}}


def source_arrays(model, family, source, shapes):
    """Returns a classifier's weights under the names and in the layout of a source."""
    rules, skipped = FAMILIES[family].rules(source), FAMILIES[family].SKIPPED[source]
    values = {v.path: np.asarray(v) for v in model.weights}
    arrays = {}
    for name, shape in shapes.items():
        if any(re.fullmatch(pattern, name) for pattern in skipped):
            arrays[name] = np.zeros(shape, "int64")
            continue
        rule, match = next((rule, match) for rule in rules
                           if (match := re.fullmatch(rule.pattern, name)))
        value = values[match.expand(rule.target)]
        if rule.layout == "convolution":
            value = value.transpose(3, 2, 0, 1)
        elif rule.layout == "depthwise":
            value = value.transpose(2, 3, 0, 1)
        elif rule.layout == "dense":
            value = value.T
        arrays[name] = value.reshape(shape)
    return arrays


def difference(found, expected):
    """Returns the largest difference over the largest magnitude, of all outputs."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert value.std() > 0.01 * np.abs(value).max() > 1e-4, name
    return max(np.abs(found[name] - value).max() / np.abs(value).max()
               for name, value in expected.items())


def summary(values):
    """Returns what a golden file holds of outputs: 16 numbers of each picture's."""
    rows = {name: value.reshape(len(value), -1) for name, value in values.items()}
    # Steps that are no multiple of the number of channels.
    return {name: row[:, np.linspace(0, row.shape[1] - 1, 16).astype(int)]
            for name, row in rows.items()}


def golden(family):
    """Returns the stored numbers of a family."""
    with np.load(GOLDENS / f"{family}.npz") as file:
        return dict(file)
