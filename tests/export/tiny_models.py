"""Tiny models with the contract of the big ones, whose answers are known by design.

The detector finds bright spots: its heat map is the brightness of 4x4 pixels, half mean
and half largest, so that one white pixel on black is found, too. Random convolutions
make sizes and landmarks, so that boxes depend on many weights. The embedder is a small
`FaceEmbedder`.
"""

import functools
import pathlib
import tempfile

import keras
import numpy as np

from mlcvtf.embedding.arcface import FaceEmbedder, face_backbone
from mlcvtf.export import write
from mlcvtf.layers.margins import AdditiveAngularMargin

THRESHOLD = 0.4
CARD = {
    "labels": ["face"],
    "thresholds": {"score": THRESHOLD},
    "licence": "none: random weights",
    "data": [],
    "recipe": "tests/export/tiny_models.py",
    "figures": {},
}


def detector(seed=0):
    """Builds the detector of bright spots."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="images")
    mean = keras.layers.AveragePooling2D(4)(images)
    largest = keras.layers.MaxPooling2D(4)(images)
    brightness = keras.layers.Average()([mean, largest])
    # A grey of 0 gives 0.002, one of 255 gives 0.998.
    heatmap = keras.layers.Conv2D(
        1,
        1,
        activation="sigmoid",
        kernel_initializer=keras.initializers.Constant(12 / 255 / 3),
        bias_initializer=keras.initializers.Constant(-6),
    )(brightness)
    x = keras.layers.Rescaling(1 / 255)(images)
    for channels in (16, 64):
        x = keras.layers.Conv2D(channels, 3, 2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(x)

    def head(count, bias):
        bias = keras.initializers.Constant(bias)
        layer = keras.layers.Conv2D(count, 3, padding="same", bias_initializer=bias)
        return layer(x)

    outputs = {
        "heatmap": heatmap,
        "offset": head(2, 0.5),
        "size": keras.layers.ReLU()(head(2, 20.0)),
        "landmarks": head(10, 1.0),
    }
    return keras.Model(images, outputs, name="bright_spots")


def embedder(seed=0, margin=True):
    """Builds the embedder, with a margin head as after training."""
    keras.utils.set_random_seed(seed)
    backbone = face_backbone("small")
    head = AdditiveAngularMargin(10) if margin else None
    return FaceEmbedder(backbone, head, centre=np.linspace(-1, 1, 128))


def spots(height, width, count, seed=0):
    """Paints a dark picture with bright spots, all of different brightness."""
    generator = np.random.default_rng(seed)
    image = generator.uniform(0, 60, (height, width))
    y, x = np.mgrid[:height, :width]
    side = max(1.5, max(height, width) / 160)
    for index in range(count):
        row, column = generator.uniform(0, (height, width))
        peak = 250 - 100 * index / count
        spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * (2 * side) ** 2))
        image = np.maximum(image, peak * spot)
    return np.repeat(image.round().astype(np.uint8)[..., None], 3, axis=2)


PICTURES = {
    "none 480x640": spots(480, 640, 0),
    "one 480x640": spots(480, 640, 1),
    "many 480x640": spots(480, 640, 60),
    "full 480x640": spots(480, 640, 400),
    "one 17x33": spots(17, 33, 1),
    "bright 1x1": np.full((1, 1, 3), 255, np.uint8),
    "many 2000x3000": spots(2000, 3000, 30),
    "many 333x517": spots(333, 517, 20),
}


@functools.cache
def folder(task):
    """Exports a tiny model once per test run and returns its folder."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="mlcvtf-tiny-")) / task
    build = {"face_detection": detector, "face_embedding": embedder}[task]
    pictures = list(PICTURES.values()) if task == "face_detection" else None
    write.export(build(), task, place, CARD, pictures)
    return place
