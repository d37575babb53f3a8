"""Every model in int8: its kernels are, LiteRT runs it, and it answers about the same.

What is checked is the arithmetic, not the type of the outputs: a signature's outputs
stay float32, as the serving contract has them (docs/export.md), and so do operations
that have no form in int8 (PRELU, TILE, softmax, square roots, decoding).

Weights are random and networks tiny, with a step of 1/255 of the range at every layer
and few channels to average it out, so the bound is wide; a lost scale, a saturated
range or a wrong channel is an error of about the range itself. Trained models are
measured on their data sets when they are exported.
"""

import logging
import warnings

import ai_edge_litert.interpreter
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from mlcvtf.export import quantize
from tests.conformance import descriptors
from tests.conformance.export_test import export

# Largest difference to float32 LiteRT, relative to the range of the output.
LARGEST = 0.15
WITH_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Models in which nothing is in int8, having no kernel of a convolution or dense layer.
FLOAT = {
    "soft_argmax": "a softmax and sums of its products with coordinates",
    "sinusoidal_positions": "adds a table",
    "sinusoidal_positions_2d": "adds a table",
    "learned_positions": "adds a table",
    "learned_positions_stretched": "adds a table that is resized",
    "learned_positions_2d": "adds tables",
    "vision_tokens": "reshapes",
    "tokens_to_map": "reshapes",
    "class_token": "joins a token to others",
    "image_normalisation": "a factor and a shift per channel",
    "named_normalisation": "a factor and a shift per channel",
    "local_response_normalisation": "powers and quotients",
}
# Models whose kernels alone are in int8. With ADD and MEAN the output of `vit` is off
# by 0.5 of its range, without them by 0.02: layer normalisation adds 0.000001 to a
# variance, and int8, which has one scale for all tokens, rounds small sums to 0.
KERNELS_ALONE = ("vit", "vit_classifier")
# What AI Edge Quantizer 0.10 cannot do, with the error that it ends in; when a test of
# these fails, it can now.
MAP_GOES_ON = (
    "a map that is an output and goes on into an operation without a form in int8 "
    "(pooling, padding) is left without data",
    "Tensor data is null",
)
UNABLE = {
    "inception_v1": MAP_GOES_ON,
    "resnet_wide": MAP_GOES_ON,
    "controller": ("ranges cannot be read within a WHILE loop", "Tensor data is null"),
    "bottleneck_classifier": (
        "a dense layer is left with a float input and an int8 output",
        "fully_connected.cc.*FLOAT32",
    ),
}
# The others take minutes.
QUICK = ["inverted_residual", "image_classifier", "soft_argmax"]


def converted(name, folder):
    """Gives the inputs and the bytes of the float32 file."""
    inputs, _ = export(name, folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return inputs, converter.convert()


def quantised(content, inputs, operations=quantize.OPERATIONS["int8"]):
    """Quantises a whole file, by default the operations that exports have in int8."""
    qtyping = pytest.importorskip(
        "ai_edge_quantizer.qtyping", reason="needs the extra quantize")
    from ai_edge_quantizer import quantizer

    signature, = ai_edge_litert.interpreter.Interpreter(
        model_content=content).get_signature_list()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work = quantizer.Quantizer(bytearray(content))
            for operation in operations:
                work.add_static_config(".*", qtyping.TFLOperationName[operation], 8, 8)
            ranges = work.calibrate({signature: [inputs]}, num_threads=1)
            return bytes(work.quantize(
                ranges, enable_progress_bar=False, enable_progress_report=False
            ).quantized_model)
    finally:
        logging.disable(logging.NOTSET)


def kernels(content):
    """Lists (operation, type, shape) of the constant kernels in a file."""
    names = {v: k for k, v in vars(schema.BuiltinOperator).items()
             if isinstance(v, int)}
    types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    model = schema.Model.GetRootAs(content, 0)
    found = []
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        for j in range(graph.OperatorsLength()):
            operation = graph.Operators(j)
            code = model.OperatorCodes(operation.OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if name not in WITH_KERNELS:
                continue
            kernel = graph.Tensors(operation.Inputs(1))
            buffer = model.Buffers(kernel.Buffer())
            if buffer.DataLength() or buffer.Size():
                found.append(
                    (name, types[kernel.Type()], tuple(kernel.ShapeAsNumpy())))
    return found


def run(content, inputs):
    runner = ai_edge_litert.interpreter.Interpreter(
        model_content=content).get_signature_runner()
    return {key: np.array(value) for key, value in runner(**inputs).items()}


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in descriptors.MODELS])
def test_int8(name, tmp_path):
    inputs, content = converted(name, tmp_path)
    before = kernels(content)
    assert bool(before) != (name in FLOAT), before
    assert all(kind == "FLOAT32" for _, kind, _ in before)
    if name in FLOAT:
        return
    if name in UNABLE:
        with pytest.raises((ValueError, RuntimeError), match=UNABLE[name][1]):
            run(quantised(content, inputs), inputs)
        return
    small = quantised(content, inputs, *([WITH_KERNELS] * (name in KERNELS_ALONE)))
    after = kernels(small)
    # The same ones, each in int8.
    assert after == [(operation, "INT8", shape) for operation, _, shape in before]
    expected, actual = run(content, inputs), run(small, inputs)
    assert actual.keys() == expected.keys()
    for key, one in expected.items():
        other = actual[key]
        assert other.shape == one.shape and other.dtype == one.dtype
        spread = float(np.ptp(one))
        assert spread > 0 and np.isfinite(other).all()
        difference = float(np.abs(other - one).max()) / spread
        print(f"{name} {key}: {difference:.4f} of the range")
        assert difference <= LARGEST, key


def test_the_bound_tells_a_wrong_scale():
    """One channel of the first kernel with a wrong scale is outside of it."""
    name = "image_classifier"
    model = keras.models.clone_model(descriptors.reference(name)[0].backbone)
    inputs = descriptors.MODELS[name].inputs()
    whole = descriptors.arrays(model(inputs, training=False))["P4"]
    layer = next(x for x in model.layers if isinstance(x, keras.layers.Conv2D))
    kernel = layer.kernel.numpy()
    kernel[..., 0] *= 4
    layer.kernel.assign(kernel)
    broken = descriptors.arrays(model(inputs, training=False))["P4"]
    assert np.abs(broken - whole).max() / np.ptp(whole) > LARGEST
