"""Stand-in models: faces are squares of pure colours, people are the colours.

The detector finds, for each of six colours, the box of all pixels of that colour; the
embedder tells the colours apart. Both follow the contract of a model folder, are made
in seconds without training, and answer from the pixels, so that tests of the apps can
check values. Run as a script it writes the folders with TensorFlow.
"""

import atexit
import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from mlcvtf import card
from mlcvtf.embedding import alignment

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {
    "Rosa": (255, 0, 0),
    "Grün": (0, 255, 0),
    "Blau": (0, 0, 255),
    "Gelb": (255, 255, 0),
    "Magenta": (255, 0, 255),
    "Zyan": (0, 255, 255),
}
DIMENSIONS = 128
# Squares of fewer pixels score under the card's threshold.
SURE_PIXELS = 400
THRESHOLD = 0.5
CALIBRATION = {
    "people": 1000,
    "pictures": 2000,
    "pairs": 2_000_000,
    "quantiles": [[0.1, 0.1], [0.01, 0.2], [0.001, 0.3], [1e-4, 0.4], [1e-5, 0.5]],
}


def scene(width: int, height: int, **squares: tuple[int, int, int]) -> np.ndarray:
    """Paints a grey picture with squares: name = (left, top, side)."""
    image = np.full((height, width, 3), 128, np.uint8)
    for name, (left, top, side) in squares.items():
        image[top : top + side, left : left + side] = COLOURS[name]
    return image


@functools.cache
def models() -> pathlib.Path:
    """Returns a folder with both models, written once for all tests of a run."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mlcvtf-stand-in-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_models(folder)


def write_models(folder: pathlib.Path) -> pathlib.Path:
    """Writes `face_detector` and `face_embedder` in a process of its own."""
    subprocess.run(
        [sys.executable, __file__, str(folder)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": ""},
    )
    return folder


def _landmark_positions():
    """Returns the five landmarks in units of the box, `[5, 2]`."""
    centre, size = np.array(alignment.BOX_CENTRE), np.array(alignment.BOX_SIZE)
    return ((alignment.TEMPLATE - centre) / size + 0.5).astype(np.float32)


def _detect(tf, image):
    """The detector's graph for one picture."""
    colours = tf.constant(list(COLOURS.values()), tf.float32)
    image = tf.cast(image, tf.float32)
    shape = tf.shape(image)
    distance = tf.reduce_max(tf.abs(tf.expand_dims(image, 2) - colours), axis=-1)
    inside = tf.cast(distance < 90, tf.float32)
    pixels = tf.reduce_sum(inside, axis=(0, 1))
    edges = []
    for axis in (1, 0):
        present = tf.reduce_max(inside, axis=1 - axis)
        index = tf.expand_dims(tf.cast(tf.range(shape[axis]), tf.float32), 1)
        edges.append(tf.reduce_min(index + 1e6 * (1 - present), axis=0))
        edges.append(tf.reduce_max((index + 1) * present, axis=0))
    boxes = tf.stack([edges[0], edges[2], edges[1], edges[3]], axis=-1)
    order = tf.constant(0.01 * np.arange(len(COLOURS)), tf.float32)
    scores = tf.where(pixels >= SURE_PIXELS, 0.9 - order, 0.3 - order)
    scores = tf.where(pixels >= 30, scores, -1.0)
    scores, best = tf.math.top_k(scores, len(COLOURS))
    found = tf.where(scores > 0)[:, 0]
    boxes = tf.gather(tf.gather(boxes, best), found)
    corner = tf.expand_dims(boxes[:, :2], 1)
    size = tf.expand_dims(boxes[:, 2:], 1) - corner
    return {
        "boxes": boxes,
        "scores": tf.gather(scores, found),
        "labels": tf.zeros(tf.shape(found), tf.int32),
        "landmarks": corner + size * _landmark_positions(),
    }


def _embed(tf, image):
    """The embedder's graph for one crop."""
    shape = tf.shape(image)
    top, left = shape[0] // 4, shape[1] // 4
    middle = tf.cast(image, tf.float32)[top : shape[0] - top, left : shape[1] - left]
    colour = tf.reduce_mean(middle, axis=(0, 1))
    colours = tf.constant(list(COLOURS.values()), tf.float32)
    distance = tf.reduce_max(tf.abs(colour - colours), axis=-1)
    likeness = tf.exp(-tf.square(distance / 60))
    rest = tf.constant([0.05] + [0.0] * (DIMENSIONS - len(COLOURS) - 1))
    vector = tf.concat([likeness, rest], axis=0)
    return {"embedding": vector / tf.norm(vector)}


def _write(folder, name, function, **entries):
    """Exports one graph and its card."""
    import tensorflow as tf

    module = tf.Module()
    specification = tf.TensorSpec((None, None, 3), tf.uint8, name="image")
    module.serve = tf.function(lambda image: function(tf, image), [specification])
    path = folder / name / "saved_model"
    signatures = {"serving_default": module.serve.get_concrete_function()}
    tf.saved_model.save(module, str(path), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path))
    (folder / name / "float32.tflite").write_bytes(converter.convert())
    common = {key: "stand-in" for key in card.REQUIRED}
    common |= {"name": name, "parameters": 0, "figures": {}, "labels": ["face"]}
    common["weights"] = f"of the stand-in {name}"
    card.write(folder / name, common | entries)


def main(folder: pathlib.Path) -> None:
    """Writes both model folders."""
    picture = {"name": "image", "dtype": "uint8"}
    _write(
        folder,
        "face_detector",
        _detect,
        task="face_detection",
        input=picture | {"shape": [None, None, 3], "longest_side": 640},
        outputs={"boxes": {"dtype": "float32", "shape": [None, 4]}},
        thresholds={"score": THRESHOLD},
    )
    _write(
        folder,
        "face_embedder",
        _embed,
        task="face_embedding",
        input=picture | {"shape": [112, 112, 3]},
        outputs={"embedding": {"dtype": "float32", "shape": [DIMENSIONS]}},
        thresholds={},
        calibration=CALIBRATION,
    )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
