"""Imports a published checkpoint as a classifier of this package."""

import pathlib
import re
import zipfile
from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.layers.normalisation import ImageNormalisation
from mlcvtf.weights import checkpoints, name_map
from mlcvtf.weights.architectures import Architecture, find

# What Keras raises on files that are none of its own.
UNREADABLE = (
    ValueError,
    OSError,
    KeyError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
)


class Imported(NamedTuple):
    """A network with a checkpoint's weights.

    Attributes:
        model: the classifier.
        report: names that were loaded and left out.
        normalisation: "mean", "std" per channel in 0..255 and "bgr", of the first
            layer of the network.
        size: side of the pictures that the weights are for, in pixels.
    """

    model: keras.Model
    report: name_map.Report
    normalisation: dict
    size: int


def import_checkpoint(
    source: str, name: str, path: str | pathlib.Path, classes: int | None = None
) -> Imported:
    """Builds the network of a checkpoint and fills it.

    Args:
        source: of `mlcvtf.weights.architectures.SOURCES`.
        name: of the architecture, as the source calls it.
        path: the file: what `mlcvtf.weights.checkpoints.read` reads or, for Keras,
            `.weights.h5`, `.h5` or `.keras`.
        classes: number of classes; by default what the checkpoint's head has, for
            Keras 1,000.

    Returns:
        The network and what was done.

    Raises:
        InputError: unknown source or architecture, an unreadable file, or names or
            shapes that do not fit one to one.
    """
    architecture = find(source, name)
    live = None
    if architecture.live is None:
        arrays = architecture.prepare(checkpoints.read(path))
        classes = classes or _classes(arrays, architecture)
    else:
        classes = classes or 1000
        live, arrays = _read_keras(architecture, path, classes)
        arrays = architecture.prepare(arrays)
    model = architecture.build(classes, arrays, live)
    report = name_map.carry(model, arrays, architecture.rules, architecture.skipped)
    return Imported(model, report, normalisation(model), architecture.size)


def normalisation(model: keras.Model) -> dict:
    """Returns what the first layer of a network does to a picture's colours.

    Args:
        model: a classifier with a `backbone` of this package.

    Returns:
        {"mean": [3], "std": [3], "bgr": bool}, in 0..255 and in the order of RGB.
    """
    kinds = (ImageNormalisation, keras.layers.Rescaling)
    layer = next(x for x in model.backbone.layers if isinstance(x, kinds))
    if isinstance(layer, keras.layers.Rescaling):
        scale = np.broadcast_to(layer.scale, 3).astype(float)
        mean, std = -np.asarray(layer.offset) / scale, 1 / scale
        return {"mean": mean.tolist(), "std": std.tolist(), "bgr": False}
    return {"mean": list(layer.mean), "std": list(layer.std), "bgr": layer.bgr}


def _classes(arrays, architecture: Architecture):
    """Returns the length of the array that goes to the head's bias."""
    for name, array in arrays.items():
        for rule in architecture.rules:
            match = re.fullmatch(rule.pattern, name)
            if match:
                if match.expand(rule.target) == "logits/bias" and len(array) > 1:
                    return len(array)
                break
    raise InputError(
        "a checkpoint has the bias of a head with two classes or more, this one has "
        f"none among {', '.join(list(arrays)[:5])} ..."
    )


def _read_keras(architecture, path, classes):
    """Reads a file of Keras into its own network; returns it and its variables."""
    if not pathlib.Path(path).is_file():
        raise InputError(f"a checkpoint is a file, there is none at {path}")
    live = architecture.live(classes)
    # Keras passes over some layers that a file lacks: these keep their NaN.
    for weight in live.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(np.full(weight.shape, np.nan))
    try:
        live.load_weights(path)
    except UNREADABLE as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"a checkpoint of Keras holds the weights of {live.name} with {classes} "
            f"classes, {path} does not: {first}"
        ) from None
    arrays = {
        weight.path: keras.ops.convert_to_numpy(weight) for weight in live.weights
    }
    missing = [key for key, array in arrays.items() if np.isnan(array).any()]
    if missing:
        raise InputError(
            f"a checkpoint of Keras has all weights of {live.name}, {path} lacks "
            f"{len(missing)} or has no numbers there: {', '.join(missing[:5])}"
        )
    return live, arrays
