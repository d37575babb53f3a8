"""Costs against TensorFlow's own profiler, formulas by hand and gradients."""

import math
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.explain import profile as profiles
from mlcvtf.explain.profile import profile
from tests.conformance.descriptors import pyramid

COUNTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMul", "BatchMatMulV2")


def tensorflow_flops(model, shape):
    """Sums what TensorFlow's profiler says of products, ignoring all else."""
    @tf.function(input_signature=[tf.TensorSpec((1, *shape))])
    def forward(images):
        return model(images, training=False)

    v1 = tf.compat.v1.profiler
    options = v1.ProfileOptionBuilder(v1.ProfileOptionBuilder.float_operation())
    found = v1.profile(forward.get_concrete_function().graph, cmd="op",
                       options=options.with_empty_output().build())
    total, node = 0, found
    while node.children:
        (node,) = node.children
        if node.name in COUNTED:
            total += node.float_ops
    return total


def functional(shape, *layers):
    x = images = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(images, x)


class Branches(keras.layers.Layer):
    """Keeps its layers in a list and a dict, and joins them by operators."""

    def __init__(self, groups=None):
        super().__init__()
        conv = keras.layers.Conv2D
        if groups is None:
            self.list = [conv(4, 3, padding="same"), conv(4, 5, padding="same")]
        else:
            self.list = [conv(4 // groups, 3, padding="same") for _ in range(groups)]
        self.groups = groups
        self.by_name = {"last": keras.layers.DepthwiseConv2D(3, 2, padding="same")}

    def call(self, x):
        if self.groups is None:
            x = self.list[0](x) + self.list[1](x)
        else:
            parts = keras.ops.split(x, self.groups, axis=-1)
            x = keras.ops.concatenate(
                [c(p) for c, p in zip(self.list, parts, strict=True)], axis=-1)
        return self.by_name["last"](x)


layers = keras.layers
NETWORKS = {
    "convolutions": lambda: functional(
        # TensorFlow splits a dilated map into phases, which must have one size, or
        # it counts its own filling as well.
        (35, 27, 3), layers.Conv2D(8, 3, 2, padding="same"),
        layers.Conv2D(5, (3, 1), dilation_rate=2), layers.MaxPooling2D(),
        layers.Conv2D(4, 1, use_bias=False)),
    "perceptron": lambda: functional(
        (9,), layers.Dense(7, "relu"), layers.Dense(3)),
    "flattened": lambda: functional(
        (12, 12, 3), layers.Conv2D(4, 5), layers.Flatten(), layers.Dense(10)),
    "separable": lambda: functional(
        (20, 20, 6), layers.SeparableConv2D(10, 3, padding="same"),
        layers.DepthwiseConv2D(3, 2, depth_multiplier=2)),
    "nested": lambda: functional((17, 17, 3), Branches()),
    "mobilenet_v2": lambda: ImageClassifier(mobilenet_v2(0.35), 10),
    "classifier": lambda: ImageClassifier(pyramid(), 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_products_equal_tensorflows_profiler(name):
    model = NETWORKS[name]()
    shape = {"mobilenet_v2": (96, 64, 3), "classifier": (64, 64, 3)}.get(name)
    shape = shape or model.input_shape[1:]
    found = profile(model, shape)
    assert found.uncounted == []
    assert found.flops == tensorflow_flops(model, shape) > 0
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    assert found.parameters == trainable
    assert found.total("statistics") == model.count_params() - trainable


def test_grouped_convolution_costs_what_its_split_form_costs():
    grouped = functional((17, 17, 8), layers.Conv2D(4, 3, groups=2, padding="same"),
                         layers.DepthwiseConv2D(3, 2, padding="same"))
    split = functional((17, 17, 8), Branches(groups=2))
    found = profile(grouped)
    assert found.parameters == profile(split).parameters
    assert found.flops == tensorflow_flops(split, (17, 17, 8)) > 0
    # G times less than ungrouped, by the course.
    (row,) = [row for row in found.rows if row.kind == "Conv2D"]
    assert row.multiply_adds * 2 == 3 * 3 * 8 * 4 * 17 * 17


def test_the_published_figures_of_mobilenet_v2():
    with keras.StatelessScope(initialize_variables=False):
        found = profile(ImageClassifier(mobilenet_v2(), 1000), (224, 224, 3))
    assert found.parameters == 3_504_872
    # "300M" in the paper's table 4.
    assert found.multiply_adds == 300_774_272


def test_one_convolution_by_hand():
    found = profile(functional((20, 30, 3), layers.Conv2D(8, (5, 3), 2)))
    (row,) = found.rows
    # (K_w K_h) D_in D_out + D_out; places ((20 - 5) / 2 + 1) x ((30 - 3) / 2 + 1).
    assert row.output == (8, 14, 8)
    assert row.parameters == 5 * 3 * 3 * 8 + 8
    assert row.multiply_adds == 5 * 3 * 3 * 8 * 8 * 14
    assert row.activations == 8 * 14 * 8
    assert row.memory == 4 * (row.parameters + row.activations)
    assert row.receptive_field == (5, 3) and row.stride == (2, 2)


def test_depthwise_separable_counts():
    found = profile(functional(
        (16, 16, 12), layers.SeparableConv2D(20, 3, padding="same", use_bias=False)))
    assert found.parameters == 3 * 3 * 12 + 1 * 1 * 12 * 20
    assert found.multiply_adds == (3 * 3 * 12 + 12 * 20) * 16 * 16


def test_transposed_convolution_costs_what_its_convolution_costs():
    up = functional((8, 8, 6), layers.Conv2DTranspose(4, 3, 2, padding="same"))
    down = functional((16, 16, 4), layers.Conv2D(6, 3, 2, padding="same"))
    assert profile(up).multiply_adds == profile(down).multiply_adds


def test_attention_by_its_formula():
    queries, keys = keras.Input((10, 16)), keras.Input((7, 12))
    attention = layers.MultiHeadAttention(4, key_dim=3, value_dim=5, output_shape=6)
    model = keras.Model([queries, keys], attention(queries, keys))
    found = profile(model)
    projections = 10 * 16 * 4 * 3 + 7 * 12 * 4 * 3 + 7 * 12 * 4 * 5 + 10 * 4 * 5 * 6
    products = 4 * (10 * 7 * 3 + 10 * 7 * 5)
    assert found.multiply_adds == projections + products
    assert found.uncounted == []
    assert found.parameters == model.count_params()


def test_attention_of_this_package_equals_that_of_keras():
    attention = pytest.importorskip("mlcvtf.layers.attention")
    queries, keys = keras.Input((10, 12)), keras.Input((7, 12))
    own = attention.MultiHeadAttention(4, 3, 5, 12)
    peer = layers.MultiHeadAttention(4, 3, 5)
    found = profile(keras.Model([queries, keys], own(queries, keys)))
    expected = profile(keras.Model([queries, keys], peer(queries, keys)))
    assert found.multiply_adds == expected.multiply_adds
    assert found.uncounted == []
    found = profile(keras.Model(queries, own(queries)))
    expected = profile(keras.Model(queries, peer(queries, queries)))
    assert found.multiply_adds == expected.multiply_adds


@pytest.mark.parametrize("kind, expected", [
    (layers.Attention, 5 * 9 * 4 + 5 * 9 * 4), (layers.AdditiveAttention, 5 * 9 * 4)])
def test_plain_attention(kind, expected):
    query, value = keras.Input((5, 4)), keras.Input((9, 4))
    model = keras.Model([query, value], kind()([query, value]))
    assert profile(model).multiply_adds == expected


@pytest.mark.parametrize("kind, gates", [
    (layers.LSTM, 4), (layers.GRU, 3), (layers.SimpleRNN, 1)])
def test_recurrent_layers_count_every_step(kind, gates):
    found = profile(functional((6, 2), kind(2)))
    assert found.multiply_adds == 6 * gates * (2 * 2 + 2 * 2)
    assert found.uncounted == []


class Product(layers.Layer):
    """Multiplies by itself."""

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))


class Counted(Product):
    def multiply_adds(self, x):
        return x[0] * x[1] * x[1] * x[2]


def test_products_without_a_formula_are_named():
    found = profile(functional((5, 3), layers.Dense(2, name="first"), Product(
        name="product")))
    assert found.uncounted == ["product"]
    assert found.multiply_adds == 5 * 3 * 2
    found = profile(functional((5, 3), Counted()))
    assert found.uncounted == [] and found.multiply_adds == 5 * 5 * 3


def test_a_layer_that_is_used_twice_has_its_weights_once():
    shared = layers.Conv2D(3, 3, padding="same")
    found = profile(functional((8, 8, 3), shared, shared))
    assert found.parameters == shared.count_params()
    assert found.multiply_adds == 2 * 9 * 9 * 64
    assert len(found.rows) == 2


def positive(model):
    """Makes every weight positive, so that no gradient cancels."""
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.1, 1, w.shape) for w in model.weights])


def seen(model, size):
    """Returns rows and columns of the image that the middle of the output sees."""
    images = tf.ones((1, size, size, 3))
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=False)
        middle = outputs[0, outputs.shape[1] // 2, outputs.shape[2] // 2]
        total = tf.reduce_sum(middle)
    gradient = np.abs(tape.gradient(total, images)[0]).sum(-1)
    return tuple(int(np.ptp(np.flatnonzero(gradient.any(axis)))) + 1
                 for axis in (1, 0))


def residual(x):
    branch = layers.Conv2D(3, 3, 2, padding="same", use_bias=False)(x)
    branch = layers.Conv2D(3, 3, padding="same", use_bias=False)(branch)
    short = layers.AveragePooling2D(2, 2, padding="same")(x)
    return branch + short


def padded(x):
    x = keras.ops.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    return layers.Conv2D(3, 7, 2, use_bias=False)(x)[:, ::2, 1::2]


FIELDS = {
    "stack": lambda x: layers.Conv2D(3, 3, 2)(layers.Conv2D(3, 5, padding="same")(x)),
    "dilated": lambda x: layers.Conv2D(3, 3, dilation_rate=4, padding="same")(
        layers.Conv2D(3, 3, dilation_rate=2, padding="same")(x)),
    "oblong": lambda x: layers.Conv2D(3, (1, 7), (1, 3), padding="same")(
        layers.AveragePooling2D((4, 2))(x)),
    "residual": lambda x: residual(residual(x)),
    "separable": lambda x: layers.SeparableConv2D(4, 5, 2, padding="same")(
        layers.DepthwiseConv2D(3)(x)),
    "grouped": lambda x: layers.Conv2D(6, 3, groups=3)(x),
    "upsampled": lambda x: layers.Conv2D(3, 3)(
        layers.UpSampling2D(2)(layers.Conv2D(3, 3, 2)(x))),
    "transposed": lambda x: layers.Conv2DTranspose(3, 4, 2, padding="same")(
        layers.Conv2D(3, 3, 2, padding="same")(x)),
    "cropped": lambda x: layers.Cropping2D(((1, 2), (3, 0)))(layers.Conv2D(3, 3)(x)),
    "nested": lambda x: Branches()(x),
    "padded": padded,
    "raw": lambda x: keras.ops.conv(x, np.ones((3, 3, 3, 2), "f"), 2,
                                     padding="same"),
    "normalised": lambda x: layers.BatchNormalization()(layers.Dense(4)(
        layers.Conv2D(3, 3)(x))),
    "gated": lambda x: x * keras.ops.mean(x, (1, 2), keepdims=True),
}


@pytest.mark.parametrize("size", [40, 41])
@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field_equals_that_of_the_gradient(name, size):
    images = keras.Input((size, size, 3))
    model = keras.Model(images, FIELDS[name](images))
    positive(model)
    field = last_field(model)
    found = seen(model, size)
    if name == "gated":
        assert field == (math.inf, math.inf) and found == (size, size)
    elif name in ("upsampled", "transposed"):
        # The field is a bound there: where the places of a window fall into the cells
        # of the coarser map is rounded, which the bound takes at its worst.
        assert all(f - 2 <= s <= f for f, s in zip(field, found, strict=True))
    else:
        assert field == found


def last_field(model):
    """Returns the field of the output, also where no layer gave it."""
    calls = profiles.traces.trace(model, keras.KerasTensor((1, *model.input_shape[1:])))
    field = profiles._fields(calls)[calls[0].outputs[0].name]
    return tuple(span.pixels() for span in field)


def test_dilation_doubles_the_receptive_field():
    stack = [layers.Conv2D(2, 3, dilation_rate=2**level, padding="same")
             for level in range(4)]
    found = profile(functional((64, 64, 3), *stack))
    assert [row.receptive_field for row in found.rows] == [
        (2 ** (level + 2) - 1,) * 2 for level in range(4)]


def test_residual_of_a_registered_block():
    rows = profile(mobilenet_v2(0.1, None, (64, 64, 3))).rows
    third = [row for row in rows if row.kind == "DepthwiseConv2D"][2]
    # The stem 3; depthwise 3 at strides 2, 2 and 4: 3 + 4 + 4 + 8.
    assert third.receptive_field == (19, 19) and third.stride == (4, 4)
    assert third.path.count("/") == 1


def test_flattening_sees_the_whole_image():
    model = NETWORKS["flattened"]()
    assert profile(model).receptive_field == (math.inf, math.inf)


def test_vectors_have_no_receptive_field():
    assert profile(NETWORKS["perceptron"]()).receptive_field is None


def test_refuses_what_has_no_size():
    with pytest.raises(ValueError, match="needs input_shape: image_classifier"):
        profile(ImageClassifier(pyramid(), 3))
    with pytest.raises(ValueError, match=r"fixed sides here, received \(None, None"):
        profile(mobilenet_v2(0.1))


def test_nothing_stays_behind_and_other_threads_go_unseen():
    before = keras.layers.Layer.__call__
    other = layers.Dense(2, name="other")

    class Starts(layers.Layer):
        def call(self, x):
            thread = threading.Thread(target=other, args=[np.ones((1, 2))])
            thread.start()
            thread.join()
            return x * 2

    found = profile(functional((3,), Starts(name="starts")))
    assert [row.path for row in found.rows] == ["starts"]
    assert other.built

    class Fails(layers.Layer):
        def call(self, x):
            raise RuntimeError("no")

        def compute_output_shape(self, shape):
            return shape

    with pytest.raises(RuntimeError):
        profile(functional((3,), Fails()))
    assert keras.layers.Layer.__call__ is before


def test_nothing_is_allocated_under_a_stateless_scope():
    with keras.StatelessScope(initialize_variables=False):
        model = functional((10**6,), layers.Dense(10**6))
        found = profile(model)
    # 4 TB, had they been made.
    assert found.parameters == 10**12 + 10**6
    assert found.multiply_adds == 10**12
    keras.utils.clear_session()
