"""Quantises a LiteRT file: weights to int8, and with "int8" the network's arithmetic.

The work is done by AI Edge Quantizer (the extra `quantize`); TensorFlow is not needed.
What is quantised are the operations of `OPERATIONS` within the network, which
`signatures.NETWORK` marks in the names. Resizing, shape arithmetic, decoding and the
outputs stay float32: in int8 a coordinate saturates at the size of the pictures that it
was calibrated with.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from mlcvtf.errors import InputError
from mlcvtf.video import predictor

PRECISIONS = ("dynamic", "int8")
# Those of backbones and heads that AI Edge Quantizer 0.10 knows in int8. It does not
# know PRELU, TILE and EXPAND_DIMS (the upsampling of Keras).
OPERATIONS = {
    "dynamic": ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
    "int8": (
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "MEAN",
        "RELU",
    ),
}
# In the name of a tensor that an operation of the network puts out.
NETWORK = "network/"
ALIGNMENT = 16
NAMES = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def quantize(
    content: bytes,
    precision: str,
    pictures: Iterable[np.ndarray] = (),
    keep_float: Iterable[str] = (),
) -> bytes:
    """Quantises the network of an exported LiteRT file, in all its signatures.

    Weights are symmetric with a scale per channel. With "dynamic" the activations are
    quantised while the model runs; with "int8" they have fixed ranges, the extremes
    that the pictures gave (Jacob et al., 2018, arXiv:1712.05877).

    Args:
        content: the bytes of a float32 file with the signature "batch".
        precision: one of `PRECISIONS`.
        pictures: for "int8" uint8 `[height, width, 3]` RGB each, of the kind that the
            model is for, some dozens; of its input's size if that is fixed.
        keep_float: names of layers of the network that stay float in "int8".

    Returns:
        The bytes of the file, with the signatures of the float one.

    Raises:
        InputError: AI Edge Quantizer is not installed.
        ValueError: unknown precision, no pictures for "int8", or no operation of a
            network in the file.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {PRECISIONS}, received {precision!r}")
    model = schema.Model.GetRootAs(content, 0)
    if not all(_network(model, graph) for graph in _graphs(model)):
        raise ValueError(
            f"a file to quantise has operations named {NETWORK}..., as export writes "
            "them; there is none"
        )
    try:
        from ai_edge_quantizer import qtyping, quantizer
    except ImportError:
        raise InputError(
            "quantising needs AI Edge Quantizer, which is not installed: "
            "pip install 'mlcvtf[quantize]'"
        ) from None
    content = _with_unique_names(content)
    work = quantizer.Quantizer(bytearray(content))
    for name in OPERATIONS[precision]:
        operation = qtyping.TFLOperationName[name]
        if precision == "int8":
            work.add_static_config(f".*{NETWORK}.*", operation, 8, 8)
            for layer in keep_float:
                # Keras numbers layers that are called again: heatmap_1.
                work.update_quantization_recipe(
                    rf".*{NETWORK}[^;]*/{re.escape(layer)}(_\d+)?/.*",
                    operation,
                    algorithm_key="no_quantize",
                )
        else:
            work.add_dynamic_config(f".*{NETWORK}.*", operation, 8)
    with _silence():
        ranges = None
        if precision == "int8":
            samples = _samples(content, list(pictures))
            ranges = work.calibrate(samples, num_threads=2)
            ranges = _same_in_all_signatures(content, ranges)
        result = work.quantize(
            ranges, enable_progress_bar=False, enable_progress_report=False
        )
    return compact(bytes(result.quantized_model))


def float_operations(content: bytes) -> dict[str, int]:
    """Counts the operations that take or give float numbers, over all signatures.

    Constants do not count, nor do the operations between float and int8.

    Returns:
        Operation name to how often it occurs, by name.
    """
    model = schema.Model.GetRootAs(content, 0)
    floats = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16}
    counts = {}
    for graph in _graphs(model):
        for operation in _operations(graph):
            name = _name(model, operation)
            types = {
                tensor.Type()
                for tensor in _tensors(graph, operation)
                if not _is_constant(model, tensor)
            }
            if name not in ("QUANTIZE", "DEQUANTIZE") and types & floats:
                counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def compact(content: bytes) -> bytes:
    """Writes equal vectors and strings of a LiteRT file once, and names short.

    Every signature has a graph of its own, and a quantised graph has a scale and a
    zero point for every channel of every weight: of the face detector's 1.5 MB they
    are 0.6. Of a tensor's name, which lists what was fused into it, the first part
    stays, without the numbers that tell the signatures apart.

    Args:
        content: the bytes of a file.

    Returns:
        The bytes of a file that computes the same. Its constants follow the
        flatbuffer, as AI Edge Quantizer writes them.
    """
    return _rewrite(
        content, lambda _, name: re.sub(rb"^\d+/\d+/|\d*(;.*)?$", b"", name)
    )


def _with_unique_names(content):
    """Names all tensors apart: ranges go by name, and signatures may share names."""
    return _rewrite(content, lambda place, name: b"%d/%d/" % place + name)


def _rewrite(content, rename):
    """Writes a file again, with other names and its constants behind the flatbuffer."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for graph_index, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            tensor.name = rename((graph_index, index), tensor.name)
    constants = [_constant(content, buffer) for buffer in model.buffers]
    for buffer, constant in zip(model.buffers, constants, strict=True):
        # Any number over 1 gets its place in the flatbuffer; the true one comes below.
        buffer.data = None
        buffer.offset, buffer.size = (2, 2) if constant else (0, 0)
    end = len(_pack(model))
    parts = []
    for buffer, constant in zip(model.buffers, constants, strict=True):
        if constant:
            padding = -end % ALIGNMENT
            buffer.offset, buffer.size = end + padding, len(constant)
            parts += [bytes(padding), constant]
            end += padding + len(constant)
    return b"".join([_pack(model), *parts])


def _constant(content, buffer):
    """Returns the bytes of a buffer, which lie in the flatbuffer or behind it."""
    if buffer.size:
        return content[buffer.offset : buffer.offset + buffer.size]
    return b"" if buffer.data is None else bytes(buffer.data)


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors and strings once."""

    def __init__(self):
        super().__init__(1 << 20)
        self._vectors, self._strings = {}, {}

    def CreateNumpyVector(self, x):  # noqa: N802
        key = (x.dtype.str, x.tobytes())
        if key not in self._vectors:
            self._vectors[key] = super().CreateNumpyVector(x)
        return self._vectors[key]

    def CreateString(self, s, *arguments):  # noqa: N802
        if s not in self._strings:
            self._strings[s] = super().CreateString(s, *arguments)
        return self._strings[s]


def _pack(model):
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@contextlib.contextmanager
def _silence():
    """Keeps progress bars, and the notes that shared biases are written again, off."""
    logging.disable(logging.WARNING)
    try:
        with predictor.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _samples(content, pictures):
    """Makes of pictures what each signature takes."""
    from ai_edge_litert.interpreter import Interpreter

    if not pictures:
        raise ValueError("int8 is calibrated with pictures, received none")
    prepare = {
        "serving_default": lambda picture: picture,
        "batch": lambda picture: picture[None],
        "prepared": predictor.prepared,
    }
    signatures = Interpreter(model_content=content).get_signature_list()
    return {
        name: [{signature["inputs"][0]: prepare[name](p)} for p in pictures]
        for name, signature in signatures.items()
    }


def _same_in_all_signatures(content, ranges):
    """Gives operations that share their weights the same ranges in all signatures.

    Otherwise each signature would need biases of its own.
    """
    model = schema.Model.GetRootAs(content, 0)
    networks = [_network(model, graph) for graph in _graphs(model)]
    merged = dict(ranges)
    for operations in zip(*networks, strict=True):
        if len({kind for kind, _ in operations}) > 1:
            # The converter folded a normalisation into different neighbours.
            continue
        for names in zip(*(names for _, names in operations), strict=True):
            # One number each, in as many dimensions as its tensor has.
            names = [name for name in names if ranges.get(name)]
            if not names:
                continue  # Nothing that it touches is in int8.
            low = min(float(ranges[name]["min"].min()) for name in names)
            high = max(float(ranges[name]["max"].max()) for name in names)
            for name in names:
                merged[name] = {
                    "min": np.full_like(ranges[name]["min"], low),
                    "max": np.full_like(ranges[name]["max"], high),
                }
    return merged


def _graphs(model):
    return [model.Subgraphs(i) for i in range(model.SubgraphsLength())]


def _network(model, graph):
    """Lists the network's operations that can be in int8, in their order.

    Returns:
        For each what tells it from others (its name and its constants), and the names
        of its activations.
    """
    found = []
    for operation in _operations(graph):
        output = graph.Tensors(operation.Outputs(0)).Name().decode()
        name = _name(model, operation)
        if NETWORK in output and name in OPERATIONS["int8"]:
            tensors = _tensors(graph, operation)
            constants = [t.Buffer() for t in tensors if _is_constant(model, t)]
            names = [t.Name().decode() for t in tensors if not _is_constant(model, t)]
            found.append(((name, *constants), names))
    return found


def _operations(graph):
    return [graph.Operators(i) for i in range(graph.OperatorsLength())]


def _tensors(graph, operation):
    indices = [*operation.InputsAsNumpy(), *operation.OutputsAsNumpy()]
    return [graph.Tensors(index) for index in indices if index >= 0]


def _is_constant(model, tensor):
    buffer = model.Buffers(tensor.Buffer())
    return bool(buffer.DataLength() or buffer.Size())


def _name(model, operation):
    code = model.OperatorCodes(operation.OpcodeIndex())
    return NAMES[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
