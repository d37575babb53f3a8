"""Receptive fields of all tensors of a traced model (TensorFlow only).

The place i of a map sees the pixels from `i * stride + first` to `i * stride + last`
of the image. A window of k places with dilation d and stride s, behind p places of
padding, makes of these

    first' = first - p * stride,  last' = last + ((k - 1) d - p) * stride,
    stride' = s * stride,

and where branches meet the wider bounds hold; after upsampling they are bounds, at most
one place of the coarser map too wide. Going through TensorFlow's graph instead
of the layers sees also what layers do by `keras.ops`: residual sums, padding, gates.
What mixes all places (global pooling, flattening, attention, a squeeze-and-excitation
gate) sees the whole image; so does, to be on the safe side, every other operation that
changes height or width and has no rule here.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from mlcvtf.explain.trace import Call

# Operations whose result depends on shapes only.
SHAPES = {"Shape", "ShapeN", "Rank", "Size", "ZerosLike", "OnesLike"}
WINDOWS = {"Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool"}
# Operations that keep height and width and still mix places, or may do.
MIXING = {
    "BatchMatMulV2",
    "Cumsum",
    "Einsum",
    "MatMul",
    "PartitionedCall",
    "ReverseV2",
    "Roll",
    "StatefulPartitionedCall",
    "Transpose",
}
WINDOW_LAYERS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
)
POINTWISE_LAYERS = (keras.layers.Dense, keras.layers.BatchNormalization)


class Span(NamedTuple):
    """What a place of a map sees along one axis of the image.

    Attributes:
        stride: pixels between neighbouring places; a fraction after upsampling.
        first: first pixel that place 0 sees.
        last: last pixel that place 0 sees.
    """

    stride: float
    first: float
    last: float

    def pixels(self) -> int | float:
        """Returns the number of pixels from first to last."""
        extent = self.last - self.first
        return math.inf if math.isinf(extent) else math.floor(extent + 1e-9) + 1


WHOLE = (Span(math.inf, -math.inf, math.inf),) * 2


def receptive_fields(calls: list[Call]) -> dict[str, tuple[Span, Span]]:
    """Finds what every tensor of a trace sees of the image.

    Args:
        calls: from `mlcvtf.explain.trace.trace` on the TensorFlow backend; the image
            is every model input of rank 4, channels last.

    Returns:
        Name of a tensor to its spans of rows and of columns; tensors that do not
        depend on an image are left out.
    """
    fields, rules = {}, {}
    for tensor in calls[0].inputs:
        if tensor.shape.rank == 4:
            fields[tensor.name] = (Span(1, 0, 0),) * 2
    for call in calls[1:]:
        rule = _layer_rule(call)
        if rule is not None:
            rules[call.outputs[0].name] = (call.inputs[0].name, rule)
    graph = next((t.graph for call in calls for t in call.inputs), None)
    for operation in graph.get_operations() if graph is not None else ():
        for tensor in operation.outputs:
            if tensor.name in fields:
                continue
            if tensor.name in rules:
                source, rule = rules[tensor.name]
                field = fields.get(source)
                field = rule(field) if field not in (None, WHOLE) else field
            else:
                field = _operation_field(operation, fields)
            if field is not None:
                fields[tensor.name] = field
    return fields


def _window(field, sizes, strides, dilations, before):
    """Moves the spans of a map on to what a sliding window makes of it."""
    return tuple(
        Span(
            s * span.stride,
            span.first - p * span.stride,
            span.last + ((k - 1) * d - p) * span.stride,
        )
        for span, k, s, d, p in zip(
            field, sizes, strides, dilations, before, strict=True
        )
    )


def _same_padding(shape, sizes, strides, dilations):
    """Returns the places that "same" pads before a map of `shape`."""
    before = []
    for n, k, s, d in zip(shape, sizes, strides, dilations, strict=True):
        total = (math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n
        before.append(max(total, 0) // 2)
    return before


def _layer_rule(call):
    """Returns the rule of a layer of Keras, from spans to spans, or None."""
    layer = call.layer
    if not call.inputs or len(call.outputs) != 1 or call.inputs[0].shape.rank != 4:
        return None
    if call.inputs[0] is call.outputs[0]:
        return None
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    shape = call.inputs[0].shape[1:3]
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return _transposed_rule(layer, shape, call.outputs[0].shape[1:3])
    if isinstance(layer, WINDOW_LAYERS):
        sizes = getattr(layer, "kernel_size", None) or layer.pool_size
        dilations = getattr(layer, "dilation_rate", (1, 1))
        before = (0, 0)
        if layer.padding == "same":
            before = _same_padding(shape, sizes, layer.strides, dilations)
        return lambda field: _window(field, sizes, layer.strides, dilations, before)
    if isinstance(layer, keras.layers.UpSampling2D):
        blur = 0 if layer.interpolation == "nearest" else 1
        return lambda field: _upsampled(field, layer.size, blur)
    if isinstance(layer, keras.layers.Cropping2D):
        before = [-sides[0] for sides in layer.cropping]
        return lambda field: _window(field, (1, 1), (1, 1), (1, 1), before)
    if isinstance(layer, POINTWISE_LAYERS):
        return lambda field: field
    return None


def _transposed_rule(layer, shape, output):
    sizes = [
        (k - 1) * d for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    before = [0, 0]
    if layer.padding == "same":
        before = [
            max((n - 1) * s + k + 1 - o, 0) // 2
            for n, s, k, o in zip(shape, layer.strides, sizes, output, strict=True)
        ]

    def rule(field):
        # Output o takes of inputs i with o = i s - p + j d, j = 0 .. k - 1.
        return tuple(
            Span(
                span.stride / s,
                span.first + span.stride * (p - k) / s,
                span.last + span.stride * p / s,
            )
            for span, s, k, p in zip(field, layer.strides, sizes, before, strict=True)
        )

    return rule


def _upsampled(field, factors, blur):
    """Place o takes the input at o / f rounded down, or also its neighbours."""
    return tuple(
        Span(
            span.stride / f,
            span.first - span.stride * ((f - 1) / f + blur),
            span.last + span.stride * blur,
        )
        for span, f in zip(field, factors, strict=True)
    )


def _operation_field(operation, fields):
    """Returns the spans of an operation's result from those of its inputs."""
    sources = [(t, fields[t.name]) for t in operation.inputs if t.name in fields]
    if not sources or operation.type in SHAPES:
        return None
    if any(field is WHOLE for _, field in sources):
        return WHOLE
    output = operation.outputs[0].shape
    if output.rank != 4 or operation.type in MIXING:
        return WHOLE
    if operation.type in WINDOWS:
        return _window_operation(operation, *sources[0])
    if operation.type in ("Pad", "PadV2", "MirrorPad"):
        return _padded(operation, sources[0][1])
    if operation.type == "StridedSlice":
        return _sliced(operation, sources[0][1])
    if any(tensor.shape[1:3] != output[1:3] for tensor, _ in sources):
        return WHOLE
    return _union([field for _, field in sources])


def _union(fields):
    if any(
        a.stride != b.stride
        for field in fields
        for a, b in zip(field, fields[0], strict=True)
    ):
        return WHOLE
    return tuple(
        Span(spans[0].stride, min(s.first for s in spans), max(s.last for s in spans))
        for spans in zip(*fields, strict=True)
    )


def _window_operation(operation, tensor, field):
    strides = operation.get_attr("strides")[1:3]
    if operation.get_attr("data_format") != b"NHWC":
        return WHOLE
    if "Pool" in operation.type:
        sizes, dilations = operation.get_attr("ksize")[1:3], (1, 1)
    else:
        sizes = operation.inputs[1].shape[:2]
        dilations = operation.get_attr("dilations")[1:3]
    padding, before = operation.get_attr("padding"), (0, 0)
    if padding == b"EXPLICIT":
        before = operation.get_attr("explicit_paddings")[2:6:2]
    elif padding == b"SAME":
        before = _same_padding(tensor.shape[1:3], sizes, strides, dilations)
    return _window(field, sizes, strides, dilations, before)


def _padded(operation, field):
    sides = tf.get_static_value(operation.inputs[1])
    if sides is None:
        return WHOLE
    return _window(
        field, (1, 1), (1, 1), (1, 1), [int(sides[axis][0]) for axis in (1, 2)]
    )


def _sliced(operation, field):
    begins, _, strides = (tf.get_static_value(t) for t in operation.inputs[1:4])
    masks = [
        operation.get_attr(name)
        for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    ]
    if begins is None or strides is None or any(masks) or len(begins) < 3:
        return WHOLE if any(masks) or begins is None or len(begins) > 1 else field
    mask = operation.get_attr("begin_mask")
    starts = [0 if mask >> axis & 1 else int(begins[axis]) for axis in (1, 2)]
    steps = [int(strides[axis]) for axis in (1, 2)]
    if min(*starts, *steps) < 0:
        return WHOLE
    return _window(field, (1, 1), steps, (1, 1), [-start for start in starts])
