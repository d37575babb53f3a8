"""Converts a SavedModel to LiteRT and checks the file (TensorFlow only).

A check reads the file itself, not the converter's word: which operations it has, that
no variable is left to be filled at run time, and that the weights are in it.
"""

import collections
import pathlib

import numpy as np
import tensorflow as tf

# Bytes per parameter of each file. The last two come from `quantize`.
PRECISIONS = {"float32": 4, "float16": 2, "dynamic": 1, "int8": 1}
# Weights left in variables come out of a file as zeros without an error.
STATEFUL = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}


def convert(
    saved_model: str | pathlib.Path, names: list[str], precision: str = "float32"
) -> bytes:
    """Converts the signatures of a SavedModel into one LiteRT file.

    The signatures share one copy of the weights.

    Args:
        saved_model: the SavedModel's folder.
        names: the signatures to convert.
        precision: "float32", or "float16" for weights (arithmetic stays float32).

    Returns:
        The bytes of the file.

    Raises:
        ValueError: unknown precision.
        Exception: the converter's own, where an operation is not built in.
    """
    if precision not in ("float32", "float16"):
        raise ValueError(
            f"a converter's precision is float32 or float16, received {precision!r}"
        )
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved_model), signature_keys=names
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def check(
    content: bytes, parameters: int, precision: str = "float32", weights=None
) -> dict:
    """Checks that a LiteRT file is self-contained and holds the weights.

    Args:
        content: the bytes of the file.
        parameters: how many numbers the network has.
        precision: one of `PRECISIONS`.
        weights: arrays of the network where they are not all float32; the file then
            holds as many bytes as they do.

    Returns:
        Operation name to how often it occurs, by name.

    Raises:
        ValueError: an operation is custom, of TensorFlow ("Flex") or stateful; the
            constants are not about 4 (2, 1) bytes per parameter (folding batch
            normalisation saves some); or most of their bytes are zero.
    """
    operations, constants = _read(content)
    refused = sorted(
        name
        for name in operations
        if name in STATEFUL or name.startswith(("CUSTOM", "Flex"))
    )
    if refused:
        raise ValueError(
            f"A LiteRT file has builtin operations without state only, received "
            f"{', '.join(refused)}"
        )
    size, expected = sum(map(len, constants)), parameters * PRECISIONS[precision]
    least = size / 2
    if weights is not None:
        expected = sum(weight.nbytes for weight in weights)
        least = 0.9 * sum(
            np.count_nonzero(np.ascontiguousarray(weight).view(np.uint8))
            for weight in weights
        )
    # Operations have constants, too: 4,149 bytes in a cascade of one tree.
    if not 0.8 * expected <= size <= 1.2 * expected + (8192 if weights else 0):
        raise ValueError(
            f"A {precision} file has about {expected / parameters:.3g} bytes per "
            f"parameter, received {size} for {parameters} parameters"
        )
    filled = sum(np.count_nonzero(constant) for constant in constants)
    if filled < least:
        raise ValueError(
            f"Trained weights are not zero, received {size} bytes of which {filled} "
            "are not zero"
        )
    return operations


def _read(content):
    """Returns the operations with their counts, and the constants as bytes."""
    from ai_edge_litert import schema_py_generated as schema

    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }
    model = schema.Model.GetRootAs(content, 0)
    codes = []
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        custom = code.CustomCode()
        # Old converters wrote small codes into the other field alone.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        codes.append(custom.decode() if custom else names[number])
        if custom and not codes[-1].startswith("Flex"):
            codes[-1] = f"CUSTOM {codes[-1]}"
    counts = collections.Counter()
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        for j in range(graph.OperatorsLength()):
            counts[codes[graph.Operators(j).OpcodeIndex()]] += 1
    constants = []
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            constants.append(buffer.DataAsNumpy())
        elif buffer.Size():
            # A quantised file has its constants behind the flatbuffer.
            end = buffer.Offset() + buffer.Size()
            constants.append(np.frombuffer(content[buffer.Offset() : end], np.uint8))
    return dict(sorted(counts.items())), constants
