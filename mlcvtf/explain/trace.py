"""The calls of a model's layers, nested ones included, with their tensors.

Keras lists the layers of a model, but not those that a layer of one's own keeps in a
list or makes in `build`, and it gives no shapes of either. All of them pass one public
door, `keras.layers.Layer.__call__`. So the model is traced once, which computes
nothing, while that method also writes down who was called with what. It is put back
right after, and calls of other threads go through unseen.
"""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras


@dataclasses.dataclass
class Call:
    """One call of one layer.

    Attributes:
        layer: the layer that was called.
        path: names of the layers around it and its own, joined by "/"; the model's
            own name is left out.
        parent: the call that this one is a part of, or None for the model's.
        depth: number of calls that this one is a part of.
        arguments: argument name to what was given.
        inputs: the tensors among the arguments, in order.
        outputs: the tensors that came back, in order.
        begins: number of operations in TensorFlow's graph before the call.
        ends: the same after it; both are 0 on other backends.
    """

    layer: keras.layers.Layer
    path: str
    parent: "Call | None"
    depth: int
    arguments: dict[str, Any]
    inputs: list
    outputs: list = dataclasses.field(default_factory=list)
    begins: int = 0
    ends: int = 0


class _Probe(keras.layers.Layer):
    """Runs a function on the tensors that a backend traces with."""

    def __init__(self, function: Callable):
        super().__init__(autocast=False, dtype="float32")
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def trace(model: keras.layers.Layer, inputs: Any) -> list[Call]:
    """Traces a model and lists the calls of its layers.

    Args:
        model: any layer or model.
        inputs: `keras.KerasTensor` with fixed shapes, or a list or dict of such, as
            the model's first argument.

    Returns:
        The calls in the order of their beginning; the first is the model's own.
    """
    calls, options = [], {}
    if isinstance(model, keras.Model) or (
        "training" in inspect.signature(model.call).parameters
    ):
        options["training"] = False

    def run(tensors):
        with _recording(calls):
            return model(tensors, **options)

    _Probe(run)(inputs)
    return calls


def inner_calls(calls: list[Call], index: int) -> list[Call]:
    """Returns the calls that were made inside the one at an index, at any depth."""
    depth = calls[index].depth
    return list(itertools.takewhile(lambda c: c.depth > depth, calls[index + 1 :]))


@contextlib.contextmanager
def _recording(calls: list[Call]) -> Iterator[None]:
    original = keras.layers.Layer.__call__
    thread, around = threading.get_ident(), []

    @functools.wraps(original)
    def called(layer, *args, **kwargs):
        if threading.get_ident() != thread:
            return original(layer, *args, **kwargs)
        parent = around[-1] if around else None
        names = [] if parent is None else [parent.path, layer.name]
        call = Call(
            layer,
            "/".join(filter(None, names)),
            parent,
            len(around),
            _arguments(layer, args, kwargs),
            _tensors((args, kwargs)),
        )
        calls.append(call)
        call.begins = _operations(call.inputs)
        around.append(call)
        try:
            outputs = original(layer, *args, **kwargs)
        finally:
            around.pop()
        call.outputs = _tensors(outputs)
        call.ends = _operations(call.outputs)
        return outputs

    keras.layers.Layer.__call__ = called
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


def _tensors(structure):
    return [x for x in keras.tree.flatten(structure) if keras.ops.is_tensor(x)]


def _arguments(layer, args, kwargs):
    """Returns the arguments of a call by their names."""
    signature = inspect.signature(layer.call)
    if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        # A functional model says `training` to all its layers; Keras leaves it out
        # where a layer does not take it.
        kwargs = {k: v for k, v in kwargs.items() if k in signature.parameters}
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError:
        return {}


def _operations(tensors):
    for tensor in tensors:
        graph = getattr(tensor, "graph", None)
        if graph is not None:
            return len(graph.get_operations())
    return 0
