"""Writes a SavedModel through `keras.export.ExportArchive` (TensorFlow only).

A Keras model that is merely an attribute of a `tf.Module` loses its weights on the
way to LiteRT without an error; the archive tracks them.
"""

import math
import pathlib

import keras

from mlcvtf.export import signatures


def write(
    folder: str | pathlib.Path, model: keras.Model, endpoints: signatures.Endpoints
) -> tuple[dict, int]:
    """Writes a model with the signatures of its task.

    Args:
        folder: the SavedModel's folder; made here.
        model: a built model.
        endpoints: what `signatures.endpoints` gives for it.

    Returns:
        Name to `tf.TensorSpec` of the outputs of "serving_default", and the number of
        parameters that its graph uses: a head for training does not count.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    functions = {
        name: archive.add_endpoint(name, function, specification)
        for name, (function, specification) in endpoints.items()
    }
    archive.write_out(str(folder), verbose=False)
    concrete = functions["serving_default"].get_concrete_function()
    parameters = sum(math.prod(v.shape) for v in concrete.graph.variables)
    return concrete.structured_outputs, parameters
