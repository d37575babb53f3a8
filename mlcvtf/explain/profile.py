"""What a network costs: parameters, multiply-adds, activations, memory, field of view.

The usual formulas (see `multiply_adds` and `receptive_field` beside this file) on every
layer of a model, however deep it is nested, for one picture. FLOPs are twice the
multiply-adds of convolutions, dense layers and attention products.
"""

import dataclasses
import math
import re
from typing import Any

import keras

from mlcvtf.explain import trace as traces
from mlcvtf.explain.multiply_adds import COVERING, multiply_adds

# Operations of TensorFlow that multiply and add.
PRODUCTS = ("Conv", "DepthwiseConv", "MatMul", "BatchMatMul", "Einsum")


@dataclasses.dataclass
class Row:
    """The costs of one call of one layer, without those of its sub-layers.

    Attributes:
        path: names of the layers around it and its own, joined by "/".
        kind: name of its class.
        output: shape of its output without the batch, or None if it has not one.
        parameters: trainable weights; a layer that is called twice has them in its
            first row.
        statistics: weights that are not trained, such as moving means.
        multiply_adds: for one picture.
        activations: values that it gives, unless an inner layer gave the same.
        memory: bytes of its weights and its activations.
        receptive_field: pixels of the image, rows and columns, that one place of its
            output sees, `math.inf` for the whole image; None where it sees none.
        stride: pixels between neighbouring places, rows and columns; None as above.
    """

    path: str
    kind: str
    output: tuple | None
    parameters: int = 0
    statistics: int = 0
    multiply_adds: int = 0
    activations: int = 0
    memory: int = 0
    receptive_field: tuple | None = None
    stride: tuple | None = None


@dataclasses.dataclass
class Profile:
    """The costs of a model for one picture.

    Attributes:
        rows: one per call of a layer that has weights, products or an output of its
            own, in the order of the calls.
        input: shape of the input without the batch, or the structure of such.
        uncounted: paths of layers that multiply in ways that no formula here covers;
            the sums are too low by these.
    """

    rows: list[Row]
    input: Any
    uncounted: list[str]

    def total(self, name: str) -> int:
        """Sums a column, such as "multiply_adds", over all rows."""
        return sum(getattr(row, name) for row in self.rows)

    @property
    def parameters(self) -> int:
        """Trainable weights."""
        return self.total("parameters")

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of convolutions, dense layers and attention products."""
        return self.total("multiply_adds")

    @property
    def flops(self) -> int:
        """Twice the multiply-adds."""
        return 2 * self.multiply_adds

    @property
    def receptive_field(self) -> tuple | None:
        """Of the last row that has one: pixels, rows and columns."""
        fields = [row.receptive_field for row in self.rows if row.receptive_field]
        return fields[-1] if fields else None


def profile(model: keras.layers.Layer, input_shape: Any = None) -> Profile:
    """Counts what a model costs, layer by layer.

    The model is traced, not run, so that large ones take no longer than their number
    of layers asks. Attention inside `MultiHeadAttention` (Keras's and ours) and in
    layers with a method `multiply_adds` is counted; the matrix of attention weights,
    which fused kernels never store, is not among the activations. Running moments are
    "statistics", not parameters.

    Args:
        model: any Keras model or layer that is called on one argument.
        input_shape: shape without the batch, such as `(224, 224, 3)`; a list or dict
            of `keras.KerasTensor` where the model takes several. By default the
            model's own, whose sides must then be known.

    Returns:
        The costs; the receptive fields only on the TensorFlow backend.

    Raises:
        ValueError: a side of the input is unknown, or a layer gives maps of unknown
            size.
    """
    inputs = _inputs(model, input_shape)
    calls = traces.trace(model, inputs)
    fields = _fields(calls)
    rows, counted = [], _Once()
    for index, call in enumerate(calls):
        row = _row(call, traces.inner_calls(calls, index), counted, fields)
        if row.parameters or row.statistics or row.multiply_adds or row.activations:
            rows.append(row)
    shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape[1:]), inputs)
    return Profile(rows, shapes, _uncounted(calls))


def _inputs(model, shape):
    """Makes the symbols that the model is traced on, one picture each."""
    if shape is None:
        try:
            symbols = model.input
        except (AttributeError, ValueError):
            raise ValueError(
                f"a model without an input of its own needs input_shape: {model.name}"
            ) from None
    elif isinstance(shape, (tuple, list)) and all(
        n is None or isinstance(n, int) for n in shape
    ):
        symbols = keras.KerasTensor((1, *shape))
    else:
        symbols = shape

    def fixed(tensor):
        if None in tensor.shape[1:]:
            raise ValueError(
                f"an input has fixed sides here, received {tuple(tensor.shape[1:])}; "
                "give input_shape"
            )
        return keras.KerasTensor((1, *tensor.shape[1:]), tensor.dtype)

    return keras.tree.map_structure(fixed, symbols)


class _Once:
    """Remembers what was counted, by identity; holds it, so that ids stay its own."""

    def __init__(self):
        self.seen = {}

    def new(self, things):
        """Returns those of the things that did not come before."""
        fresh = [thing for thing in things if id(thing) not in self.seen]
        self.seen |= {id(thing): thing for thing in fresh}
        return fresh


def _row(call, inner, counted, fields):
    layer = call.layer
    # Weights belong to the innermost layer that holds them.
    below = {id(w) for other in inner for w in other.layer.weights}
    weights = counted.new(w for w in layer.weights if id(w) not in below)
    trainable = {id(w) for w in layer.trainable_weights}
    # So do outputs: a model that ends in a layer gives that layer's tensor.
    given = {id(t) for other in inner for t in (*other.outputs, *other.inputs)}
    outputs = counted.new(
        t
        for t in call.outputs
        if id(t) not in given and not any(t is x for x in call.inputs)
    )
    sizes = [_size(call, tensor) for tensor in outputs]
    row = Row(
        path=call.path or layer.name,
        kind=type(layer).__name__,
        output=tuple(call.outputs[0].shape[1:]) if len(call.outputs) == 1 else None,
        parameters=sum(math.prod(w.shape) for w in weights if id(w) in trainable),
        statistics=sum(math.prod(w.shape) for w in weights if id(w) not in trainable),
        activations=sum(sizes),
    )
    if not any(isinstance(c.layer, COVERING) for c in _around(call)):
        row.multiply_adds = multiply_adds(call) or 0
    row.memory = sum(math.prod(w.shape) * _bytes(w) for w in weights) + sum(
        size * _bytes(tensor) for size, tensor in zip(sizes, outputs, strict=True)
    )
    field = fields.get(_name(call.outputs[0])) if len(call.outputs) == 1 else None
    if field is not None:
        row.receptive_field = tuple(span.pixels() for span in field)
        row.stride = tuple(span.stride for span in field)
    return row


def _around(call):
    while call.parent is not None:
        call = call.parent
        yield call


def _size(call, tensor):
    if None in tuple(tensor.shape):
        raise ValueError(
            f"maps have fixed sizes here, {call.path} gives {tuple(tensor.shape)}"
        )
    return math.prod(tensor.shape)


def _bytes(tensor):
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    bits = re.search(r"\d+", dtype)
    return max(1, int(bits.group()) // 8) if bits else 1


def _name(tensor):
    return (
        getattr(tensor, "name", None)
        if keras.backend.backend() == "tensorflow"
        else None
    )


def _fields(calls):
    if keras.backend.backend() != "tensorflow":
        return {}
    from mlcvtf.explain.receptive_field import receptive_fields

    return receptive_fields(calls)


def _uncounted(calls):
    """Finds layers with products in TensorFlow's graph and without a formula."""
    graph = next((getattr(t, "graph", None) for c in calls for t in c.inputs), None)
    if graph is None:
        return []
    operations = graph.get_operations()
    owner = [None] * len(operations)
    for call in calls:
        # Later calls are deeper or elsewhere: the innermost stays.
        owner[call.begins : call.ends] = [call] * max(0, call.ends - call.begins)
    paths = {}
    for operation, call in zip(operations, owner, strict=True):
        if call is None or not operation.type.startswith(PRODUCTS):
            continue
        covered = any(isinstance(c.layer, COVERING) for c in _around(call))
        if not covered and multiply_adds(call) is None:
            paths[call.path or call.layer.name] = None
    return list(paths)
