"""Multiply-adds of one call of a layer, by formula.

A convolution costs K_h K_w D_in D_out O_h O_w, where D_in is that of one group; a dense
layer S_in S_out at every position; attention two products of queries x keys x their
width. Biases, normalisation and activations are not counted, as in the papers'
tables: FLOPs are twice these figures.

A layer of another kind that multiplies by itself, outside its sub-layers, says so by a
method `multiply_adds(**shapes) -> int`, which is used before anything here. It is given
the shapes of the tensors that the call has, by the names of its arguments.
"""

import math

import keras

from mlcvtf.explain.trace import Call

TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
# By name, since this area takes models and imports none: `mlcvtf.layers.attention`.
OWN_ATTENTION = "mlcvtf>MultiHeadAttention"
# Layers whose formula holds for what they call as well.
COVERING = RECURRENT


def multiply_adds(call: Call) -> int | None:
    """Counts the multiply-adds of a layer's own, without those of its sub-layers.

    Args:
        call: from `mlcvtf.explain.trace.trace`, all shapes known.

    Returns:
        The number for the whole batch, or None where no formula is known, which is
        right for layers without products and wrong for others.
    """
    layer = call.layer
    shapes = [tuple(tensor.shape) for tensor in call.inputs]
    own = getattr(layer, "multiply_adds", None)
    if callable(own):
        return int(own(**_named_shapes(call)))
    if isinstance(layer, keras.layers.Dense):
        return math.prod(shapes[0][:-1]) * math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum(layer.equation, shapes[0], layer.kernel.shape)
    if isinstance(layer, SEPARABLE):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        weights = sum(math.prod(kernel.shape) for kernel in kernels)
        return weights * _positions(layer, call.outputs[0].shape)
    if isinstance(layer, TRANSPOSED):
        return math.prod(layer.kernel.shape) * _positions(layer, shapes[0])
    if _is_convolution(layer):
        return math.prod(layer.kernel.shape) * _positions(layer, call.outputs[0].shape)
    if isinstance(layer, RECURRENT):
        # The kernels of input and state; the bias of a GRU has two rows.
        kernels = [w for w in layer.weights if "bias" not in w.name]
        return math.prod(shapes[0][:2]) * sum(math.prod(w.shape) for w in kernels)
    return _attention(call)


def _named_shapes(call):
    """Returns argument name to shape, or to a list or dict of shapes."""
    shapes = {}
    for name, value in call.arguments.items():
        tensors = keras.tree.flatten(value)
        if tensors and all(keras.ops.is_tensor(tensor) for tensor in tensors):
            shapes[name] = keras.tree.map_structure(lambda t: tuple(t.shape), value)
    return shapes


def _attention(call):
    """Counts the products of queries with keys and of their weights with values."""
    layer, arguments = call.layer, call.arguments
    if keras.saving.get_registered_name(type(layer)) == OWN_ATTENTION:
        batch, queries = arguments["queries"].shape[:2]
        keys = arguments.get("keys")
        keys = queries if keys is None else keys.shape[1]
        return batch * queries * keys * (layer.query.units + layer.value.units)
    if isinstance(layer, keras.layers.MultiHeadAttention):
        batch, queries = arguments["query"].shape[:2]
        keys = arguments["value"].shape[1]
        width = layer.key_dim + layer.value_dim
        return batch * queries * keys * layer.num_heads * width
    if isinstance(layer, keras.layers.GroupQueryAttention):
        batch, queries = arguments["query"].shape[:2]
        keys = arguments["value"].shape[1]
        return batch * queries * keys * layer.num_query_heads * 2 * layer.head_dim
    if isinstance(layer, keras.layers.Attention):
        query, value = (tensor.shape for tensor in arguments["inputs"][:2])
        pairs = query[0] * query[1] * value[1]
        # The additive form has no product for its scores; it is an Attention as well.
        if isinstance(layer, keras.layers.AdditiveAttention):
            return pairs * value[2]
        return pairs * (query[2] + value[2])
    return None


def _is_convolution(layer):
    """Says whether a layer slides one kernel, grouped and depthwise ones alike."""
    kernel, size = getattr(layer, "kernel", None), getattr(layer, "kernel_size", None)
    if kernel is None or size is None or not hasattr(layer, "strides"):
        return False
    sides = (size,) if isinstance(size, int) else tuple(size)
    shape = getattr(kernel, "shape", ())
    # A square kernel may be written as one number.
    return len(shape) > 2 and tuple(shape[: len(sides)]) == sides


def _positions(layer, shape):
    """Returns batch times places of a map."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return math.prod(shape) // (shape[1] if first else shape[-1])


def _einsum(equation, shape, kernel_shape):
    """Counts one product per combination of all indices."""
    inputs, kernel = equation.replace(" ", "").split("->")[0].split(",")
    if "..." in inputs:
        before, after = inputs.split("...")
        labels = [*before, *[None] * (len(shape) - len(before) - len(after)), *after]
    else:
        labels = list(inputs)
    free = [
        n for label, n in zip(labels, shape, strict=True) if label not in set(kernel)
    ]
    return math.prod(free) * math.prod(kernel_shape)
