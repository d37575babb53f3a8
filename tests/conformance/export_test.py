"""SavedModel and LiteRT of every model compute what the model does."""

import ai_edge_litert.interpreter
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.case import assert_same_tree
from tests.conformance import descriptors
from tests.conformance.rows import ROWS


def export(name, folder):
    """Writes a SavedModel with named tensors; returns its inputs and outputs."""
    model, inputs, outputs = descriptors.reference(name)
    named = {f"input_{i}": x for i, x in enumerate(keras.tree.flatten(inputs))}

    def serve(tensors):
        values = keras.tree.pack_sequence_as(inputs, [tensors[key] for key in named])
        result = keras.tree.flatten(model(values, training=False))
        return {f"output_{i}": x for i, x in enumerate(result)}

    signature = {k: tf.TensorSpec(x.shape, x.dtype, name=k) for k, x in named.items()}
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=[signature])
    archive.write_out(str(folder), verbose=False)
    outputs = {f"output_{i}": x for i, x in enumerate(keras.tree.flatten(outputs))}
    return named, outputs


@pytest.mark.parametrize("name", ROWS)
def test_saved_model_and_litert(name, tmp_path):
    inputs, expected = export(name, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    actual = {k: v.numpy() for k, v in loaded.serve(tensors).items()}
    assert_same_tree(actual, expected, 1e-5)

    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    runner = ai_edge_litert.interpreter.Interpreter(
        model_content=content
    ).get_signature_runner()
    actual = {key: np.array(value) for key, value in runner(**inputs).items()}
    assert_same_tree(actual, expected, 1e-4)
    # Converters fold batch normalisation into the kernels, which remain.
    model, _, _ = descriptors.reference(name)
    kernels = sum(v.numpy().size for v in model.trainable_variables if v.ndim > 1)
    assert len(content) > 4 * kernels, "weights were left out"
