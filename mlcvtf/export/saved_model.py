"""Writes a SavedModel through `keras.export.ExportArchive` (TensorFlow only)."""

import pathlib

import keras
import tensorflow as tf

from mlcvtf.export import signatures


def write(
    folder: str | pathlib.Path, endpoints: signatures.Endpoints
) -> dict[str, tf.TensorSpec]:
    """Writes the signatures of a task.

    Args:
        folder: the SavedModel's folder; made here.
        endpoints: what `signatures.endpoints` gives with `freeze`. Functions that
            read variables would lose them here without an error.

    Returns:
        Name to `tf.TensorSpec` of the outputs of "serving_default".

    Raises:
        ValueError: a function reads variables.
    """
    archive = keras.export.ExportArchive()
    for name, (function, specification) in endpoints.items():
        function = archive.add_endpoint(name, function, specification)
        concrete = function.get_concrete_function()
        if concrete.graph.variables:
            raise ValueError(
                "Exported functions hold their weights as constants, "
                f"{name} reads {concrete.graph.variables[0].name}"
            )
        if name == "serving_default":
            outputs = concrete.structured_outputs
    archive.write_out(str(folder), verbose=False)
    return outputs
