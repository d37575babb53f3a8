"""The serving contract: what exported models take and give (TensorFlow only).

Everything from a uint8 picture to results in its pixels happens inside these graphs,
in operations that LiteRT has built in. Two things that were found by trying: the
number for `top_k` stays constant and the scores are padded instead, because a small
picture has fewer cells; and channels stay known through every pad and resize, because
LiteRT has no convolution over an unknown number of channels.
"""

import functools
import importlib
import pathlib
from collections.abc import Callable

import keras
import tensorflow as tf

from mlcvtf.ops import heatmaps

TASKS = (
    "body_parts",
    "cascade_detection",
    "classification",
    "detection",
    "face_detection",
    "face_embedding",
)
# A score at or under the floor is dropped in the graph; a calibrated threshold, which
# is in the card, comes after it and is higher.
SCORE_FLOOR = 0.05
MAX_DETECTIONS = 100
LONGEST_SIDE = 640
# Sides that the detector's network takes are multiples of this.
MULTIPLE = 32
# Pixels per cell of the detector's maps.
STRIDE = 4

Endpoints = dict[str, tuple[Callable, list[tf.TensorSpec]]]


def endpoints(
    model: keras.Model,
    task: str,
    longest_side: int = LONGEST_SIDE,
    freeze: bool = False,
    size: tuple[int, int] | None = None,
) -> Endpoints:
    """Wraps a model in the graphs of its task.

    Args:
        model: a detector (`call` gives the maps of CenterNet), a classifier (`call`
            gives "logits"), an embedder (it has `embed` and `backbone`), a cascade or a
            forest of body parts.
        task: one of `TASKS`.
        longest_side: pixels; the detector shrinks larger pictures to it.
        freeze: the weights are constants, as they are now, in one graph that all
            signatures call. A SavedModel of it loads in 0.2 s, one with 600
            variables and a network per signature in 1.7 s.
        size: height and width, in pixels, that a classifier's pictures are stretched
            to.

    Returns:
        Signature name to function and input specification: "serving_default" for one
        picture of any size (of a forest: its depth in metres), "batch" for pictures
        of one size and, for a detector, "prepared" for one picture as float32 whose
        sides are multiples of `MULTIPLE`: LiteRT's cast, resize and pad of 640x480
        pixels take 9 ms, NumPy's 1 ms.

    Raises:
        ValueError: unknown task, `longest_side` is no multiple of `MULTIPLE`, or a
            classifier without a size.
    """
    if task in ("detection", "face_detection"):
        if longest_side < MULTIPLE or longest_side % MULTIPLE:
            raise ValueError(
                f"longest_side is a multiple of {MULTIPLE}, received {longest_side}"
            )
        network = functools.partial(model, training=False)
        look = model.look if getattr(model, "refine", False) else None
        if freeze:
            network = _frozen(model, network, [None, None, None, 3])
            look = look and _frozen(model, look, [None, 4, 4, model.width])
        return _detector(network, look, longest_side)
    if task == "classification":
        if size is None or min(size) < 1:
            raise ValueError(
                f"size is the height and width of a classifier's input, received {size}"
            )
        network = functools.partial(model, training=False)
        if freeze:
            network = _frozen(model, network, [None, *size, 3])
        return _classifier(network, size)
    if task == "cascade_detection":
        network = functools.partial(model, training=False)
        if freeze:
            network = _frozen(model, network, [None, None, None], tf.uint8)
        return _cascade(network)
    if task == "body_parts":
        network = functools.partial(model, training=False)
        if freeze:
            network = _frozen(model, network, [None, None, None])
        return _forest(network)
    if task == "face_embedding":
        shape = model.backbone.input_shape
        embed = _frozen(model, model.embed, shape) if freeze else model.embed
        return _embedder(embed, shape[1:3])
    raise ValueError(f"task is one of {TASKS}, received {task!r}")


def keras_modules(model: keras.Model) -> list[str]:
    """Lists the modules of this package that define the model and its layers."""
    layers = model._flatten_layers(include_self=True)
    modules = {type(layer).__module__ for layer in layers}
    return sorted(name for name in modules if name.startswith("mlcvtf."))


def load_keras(path: str | pathlib.Path, modules: list[str]) -> keras.Model:
    """Loads a `.keras` file for inference.

    Args:
        path: the file.
        modules: what `keras_modules` gave when it was written; they are imported, so
            that their classes are registered.

    Returns:
        The model.

    Raises:
        ValueError: a module is none of this package, or Keras cannot read the file.
    """
    for name in modules:
        if not name.startswith("mlcvtf."):
            raise ValueError(f"A model's modules are of mlcvtf, received {name!r}")
        importlib.import_module(name)
    return keras.saving.load_model(path, compile=False)


def card_input(model: keras.Model, task: str, given: dict) -> dict:
    """Returns the card's description of the input of "serving_default".

    Args:
        model: what is exported.
        task: one of `TASKS`.
        given: what is chosen, "longest_side" of a detector and "size" of a classifier.
    """
    if task == "body_parts":
        return {"name": "depth", "dtype": "float32", "shape": [None, None],
                "unit": "metres"}
    picture = {"name": "image", "dtype": "uint8"}
    if task == "face_embedding":
        return picture | {"shape": list(model.backbone.input_shape[1:])}
    picture["shape"] = [None, None, 3]
    if task == "cascade_detection":
        return picture
    if task == "classification":
        return picture | {"size": list(given["size"])}
    return picture | {"longest_side": given.get("longest_side", LONGEST_SIDE)}


def options(given: dict) -> dict:
    """Returns what `endpoints` takes of a card's description of the input."""
    return {key: given[key] for key in ("longest_side", "size") if key in given}


def card_outputs(outputs: dict[str, tf.TensorSpec]) -> dict:
    """Returns the card's description of named outputs: name to dtype and shape."""
    return {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in sorted(outputs.items())
    }


def _frozen(model, function, shape, dtype=tf.float32):
    """Makes a function of images a graph that holds the weights as constants.

    Its operations are named "network/...", by which `quantize` finds them.
    """
    # Only those that the graph reads: a constant that nothing takes is written as well,
    # such as the weights of heads that only training has.
    signature = [tf.TensorSpec(shape, dtype)]
    traced = tf.function(function, signature, autograph=False)
    read = {v.ref() for v in traced.get_concrete_function().graph.variables}
    weights = [(v, v.numpy()) for v in model.variables if v.value.ref() in read]

    @tf.function(input_signature=signature, autograph=False)
    def network(images):
        constants = [(variable, tf.constant(value)) for variable, value in weights]
        with keras.StatelessScope(state_mapping=constants), tf.name_scope("network"):
            return function(images)

    return network


def _picture(name, rank, dtype=tf.uint8):
    return [tf.TensorSpec([None] * (rank - 1) + [3], dtype, name=name)]


def _detector(network, look, longest_side):
    def serving_default(image):
        return _only(_detect(network, look, *_fit(image[None], longest_side)))

    def prepared(image):
        size = _size(image[None])
        return _only(_detect(network, look, image[None], size, size))

    def batch(images):
        return _detect(network, look, *_fit(images, longest_side))

    return {
        "serving_default": (serving_default, _picture("image", 3)),
        "batch": (batch, _picture("images", 4)),
        "prepared": (prepared, _picture("image", 3, tf.float32)),
    }


def _embedder(embed, sides):
    def batch(images):
        images = tf.image.resize(tf.cast(images, tf.float32), sides)
        return {"embedding": embed(images)}

    def serving_default(image):
        return {"embedding": batch(image[None])["embedding"][0]}

    return {
        "serving_default": (serving_default, _picture("image", 3)),
        "batch": (batch, _picture("images", 4)),
    }


def _classifier(network, size):
    def batch(images):
        logits = network(tf.image.resize(tf.cast(images, tf.float32), size))["logits"]
        return {"scores": tf.nn.softmax(logits)}

    def serving_default(image):
        return {"scores": batch(image[None])["scores"][0]}

    return {
        "serving_default": (serving_default, _picture("image", 3)),
        "batch": (batch, _picture("images", 4)),
    }


def _cascade(network):
    def batch(images):
        return network(_gray(images))

    def serving_default(image):
        return _only(batch(image[None]))

    return {
        "serving_default": (serving_default, _picture("image", 3)),
        "batch": (batch, _picture("images", 4)),
    }


def _gray(images):
    """Turns uint8 RGB gray, with the whole numbers of OpenCV's RGB2GRAY."""
    red, green, blue = tf.unstack(tf.cast(images, tf.int32), axis=-1)
    mixed = 9798 * red + 19235 * green + 3735 * blue
    return tf.cast(tf.bitwise.right_shift(mixed + (1 << 14), 15), tf.uint8)


def _forest(network):
    def serving_default(depth):
        found = network(depth[None])
        return {
            "parts": tf.cast(found["parts"][0], tf.uint8),
            "probabilities": found["probabilities"][0],
        }

    def batch(depths):
        found = network(depths)
        return {
            "parts": tf.cast(found["parts"], tf.uint8),
            "probabilities": found["probabilities"],
        }

    return {
        "serving_default": (
            serving_default,
            [tf.TensorSpec([None, None], tf.float32, name="depth")],
        ),
        "batch": (batch, [tf.TensorSpec([None] * 3, tf.float32, name="depths")]),
    }


def _size(images):
    """Returns width and height as float32 `[2]`."""
    return tf.cast(tf.shape(images)[2:0:-1], tf.float32)


def _fit(images, longest_side):
    """Shrinks pictures that are too large and pads to multiples with black.

    Padding goes to the right and to the bottom, so that coordinates stay.

    Args:
        images: uint8 `[batch, height, width, 3]`.
        longest_side: pixels.

    Returns:
        float32 `[batch, 32 i, 32 j, 3]`; width and height of the shrunk and of the
        given pictures, float32 `[2]` each.
    """
    images = tf.cast(images, tf.float32)
    given = _size(images)
    scale = tf.minimum(1.0, longest_side / tf.reduce_max(given))
    size = tf.maximum(tf.round(given * scale), 1.0)
    width, height = tf.unstack(tf.cast(size, tf.int32))
    images = tf.image.resize(images, tf.stack([height, width]))
    images = tf.pad(
        images, [[0, 0], [0, -height % MULTIPLE], [0, -width % MULTIPLE], [0, 0]]
    )
    shape = tf.shape(images)
    images = tf.reshape(images, tf.stack([shape[0], shape[1], shape[2], 3]))
    return images, size, given


def _detect(network, look, images, size, given):
    """Finds objects in prepared pictures.

    Args:
        network: gives "heatmap", "offset", "size" and, optionally, "landmarks".
        look: refines landmarks by "features" that the network gives, or None.
        images: float32 `[batch, 32 i, 32 j, 3]`.
        size: width and height of the picture in them, without the padding.
        given: width and height of the picture whose pixels the results are in.

    Returns:
        "boxes" float32 `[batch, 100, 4]` clipped to the picture, "scores" float32
        `[batch, 100]` descending, "labels" int32 `[batch, 100]` and "landmarks"
        float32 `[batch, 100, k, 2]`, all in pixels of the given picture; what is at
        or under the floor or outside the picture is 0 with label -1.
    """
    found = _decode(network(images), look)
    ratio = given / size
    corners = found["boxes"] * tf.tile(ratio, [2])
    corners = tf.maximum(tf.minimum(corners, tf.tile(given, [2])), 0.0)
    sides = corners[..., 2:] - corners[..., :2]
    keep = (found["scores"] > SCORE_FLOOR) & (tf.reduce_min(sides, axis=-1) > 0)
    result = {
        "boxes": tf.where(keep[..., None], corners, 0.0),
        "scores": tf.where(keep, found["scores"], 0.0),
        "labels": tf.where(keep, found["labels"], -1),
    }
    if "landmarks" in found:
        points = found["landmarks"] * ratio
        result["landmarks"] = tf.where(keep[..., None, None], points, 0.0)
    return result


def _decode(maps, look):
    """Picks the highest local maxima of the heat map and what belongs to them."""
    heatmap = maps["heatmap"]
    batch, height, width, classes = *tf.unstack(tf.shape(heatmap)[:3]), heatmap.shape[3]
    largest = tf.nn.max_pool2d(heatmap, 3, 1, "SAME")
    peaks = tf.where(heatmap >= largest, heatmap, 0.0)
    peaks = tf.reshape(peaks, tf.stack([batch, height * width * classes]))
    peaks = tf.pad(peaks, [[0, 0], [0, MAX_DETECTIONS]])
    scores, index = tf.math.top_k(peaks, MAX_DETECTIONS)
    index = tf.minimum(index, height * width * classes - 1)
    cell = index // classes

    def pick(name):
        channels = maps[name].shape[3]
        flat = tf.reshape(maps[name], tf.stack([batch, height * width, channels]))
        return tf.gather(flat, cell, batch_dims=1)

    place = tf.cast(tf.stack([cell % width, cell // width], axis=-1), tf.float32)
    centre = (place + pick("offset")) * STRIDE
    half = pick("size") / 2
    found = {
        "boxes": tf.concat([centre - half, centre + half], axis=-1),
        "scores": scores,
        "labels": index % classes,
    }
    if "landmarks" in maps:
        count = maps["landmarks"].shape[3] // 2
        shape = tf.stack([batch, MAX_DETECTIONS, count, 2])
        points = tf.reshape(pick("landmarks"), shape) + centre[:, :, None]
        if look is not None:
            other = heatmaps.refine_points(
                points, 2 * half, maps["features"], look, STRIDE
            )
            points = (points + other) / 2
        found["landmarks"] = points
    return found


def _only(found):
    """Takes the one picture of a batch and leaves out its padding."""
    keep = found["labels"][0] >= 0
    return {name: tf.boolean_mask(value[0], keep) for name, value in found.items()}
