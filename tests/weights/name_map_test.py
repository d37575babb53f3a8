"""Arrays by name into a model, and what does not fit."""

import keras
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.weights.name_map import Rule, carry

RULES = [
    Rule(r"(conv\d)\.weight", r"\1/kernel", "convolution"),
    Rule(r"fc\.weight", "logits/kernel", "dense"),
    Rule(r"fc\.bias", "logits/bias"),
]


def model():
    images = keras.Input((6, 5, 3))
    x = keras.layers.Conv2D(4, (3, 2), use_bias=False, name="conv1")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(2, name="logits")(x), name="small")


def arrays():
    draw = np.random.default_rng(0).normal
    return {
        "conv1.weight": draw(size=(4, 3, 3, 2)),
        "fc.weight": draw(size=(2, 4)),
        "fc.bias": draw(size=2),
        "step": np.array(3),
    }


def test_gives_the_sums_of_the_source():
    network, source = model(), arrays()
    report = carry(network, source, RULES, skipped=["step"])
    assert report.parameters == 72 + 8 + 2 and report.skipped == ["step"]
    images = np.random.default_rng(1).normal(size=(1, 6, 5, 3))
    # PyTorch's convolution in loops.
    maps = np.zeros((4, 4, 4))
    for o, y, x in np.ndindex(4, 4, 4):
        patch = images[0, y : y + 3, x : x + 2].transpose(2, 0, 1)
        maps[o, y, x] = (patch * source["conv1.weight"][o]).sum()
    expected = source["fc.weight"] @ maps.mean((1, 2)) + source["fc.bias"]
    np.testing.assert_allclose(np.asarray(network(images))[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("fc.bias"), "received 1 that do not: missing logits/bias"),
        (lambda a: a.update(extra=np.zeros(1)), "unexpected extra"),
        (
            lambda a: a.update({"conv2.weight": a["conv1.weight"]}),
            r"unexpected conv2.weight \(for conv2/kernel\)",
        ),
        (
            lambda a: a.update({"fc.weight": np.zeros((3, 4))}),
            r"fc.weight has shape \[3, 4\], logits/kernel \[4, 2\]",
        ),
    ],
)
def test_refuses_what_does_not_fit(change, message):
    network, source = model(), arrays()
    change(source)
    before = network.get_weights()
    with pytest.raises(InputError, match=message):
        carry(network, source, RULES, skipped=["step"])
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_refuses_two_arrays_for_one_variable():
    rules = [*RULES, Rule("old_bias", "logits/bias")]
    source = arrays() | {"old_bias": np.zeros(2)}
    with pytest.raises(InputError, match="old_bias is a second array for logits/bias"):
        carry(model(), source, rules, skipped=["step"])


def test_states_of_random_numbers_are_no_weights():
    images = keras.Input((4,))
    dropped = keras.layers.Dropout(0.5)(images)
    network = keras.Model(images, keras.layers.Dense(2, name="logits")(dropped))
    source = {name: value for name, value in arrays().items() if "fc" in name}
    assert len(network.variables) == 3
    assert len(carry(network, source, RULES).loaded) == 2


def test_a_pointwise_convolution_becomes_a_dense_layer():
    images = keras.Input((4,))
    network = keras.Model(images, keras.layers.Dense(2, name="logits")(images))
    kernel = np.random.default_rng(0).normal(size=(1, 1, 4, 2)).astype("float32")
    rules = [Rule("conv/kernel", "logits/kernel", "pointwise"),
             Rule("conv/bias", "logits/bias")]
    carry(network, {"conv/kernel": kernel, "conv/bias": np.zeros(2)}, rules)
    np.testing.assert_array_equal(network.get_layer("logits").kernel, kernel[0, 0])
