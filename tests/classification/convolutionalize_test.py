"""The convolutional form against the classifier, window by window."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.classification.convolutionalize import convolutionalize
from mlcvtf.classification.inception_classifier import BottleneckClassifier
from tests.conformance.descriptors import pyramid

layers = keras.layers


def images(height, width, batch=2, seed=0):
    values = np.random.default_rng(seed).uniform(0, 255, (batch, height, width, 3))
    return values.astype("float32")


def randomise(model):
    """Gives all weights, statistics too, values under which a mistake shows."""
    generator = np.random.default_rng(1)
    model.set_weights([
        generator.uniform(0.5, 1.5, w.shape) if "varia" in w.path or "gamma" in w.path
        else generator.normal(0, 0.3, w.shape) for w in model.weights])
    return model


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def flattened():
    return keras.Sequential([
        keras.Input((20, 16, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(7, "relu"),
        layers.BatchNormalization(),
        layers.Dense(5, "softmax"),
    ])


def gated():
    """A block of squeeze and excitation, two pools and a sum of two branches."""
    x = inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(6, 3, 2, padding="same")(x / 255)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(6, "sigmoid")(gate)
    x = x * layers.Reshape((1, 1, 6))(gate)
    mean, most = layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)
    x = layers.Concatenate()([layers.LayerNormalization()(mean), most])
    x = layers.Add()([layers.Dense(4)(x), layers.Dense(4, "tanh")(x)])
    return keras.Model(inputs, {"scores": layers.Softmax()(x)})


@pytest.mark.parametrize("make", [flattened, gated])
def test_equals_the_classifier_at_its_size(make):
    model = randomise(make())
    network = convolutionalize(model)
    height, width = model.input_shape[1:3]
    assert network.input_shape == (None, None, None, 3)
    assert network.count_params() == model.count_params()
    pictures = images(height, width)
    expected, found = model(pictures), network(pictures)
    if isinstance(expected, dict):
        (expected,), (found,) = expected.values(), found.values()
    assert found.shape == (2, 1, 1, expected.shape[-1])
    np.testing.assert_allclose(array(found)[:, 0, 0], array(expected), atol=1e-5)
    assert array(expected).std() > 1e-3


def test_each_place_is_the_classifier_on_its_window():
    # No padding anywhere: windows of the image are windows of all maps.
    model = randomise(flattened())
    picture = images(27, 22, batch=1)
    heat = array(convolutionalize(model)(picture))
    assert heat.shape == (1, 4, 4, 5)
    for row in range(4):
        for column in range(4):
            top, left = 2 * row, 2 * column
            window = picture[:, top:top + 20, left:left + 16]
            np.testing.assert_allclose(heat[:, row, column], array(model(window)),
                                       atol=1e-5)


@pytest.mark.parametrize("make", [
    lambda: ImageClassifier(pyramid(), 3, dropout=0.2),
    lambda: ImageClassifier(mobilenet_v2(0.1, 16), 3),
    lambda: BottleneckClassifier(pyramid(), 3, features=6),
])
def test_image_classifiers(make):
    model = randomise(make())
    network = convolutionalize(model, (64, 64))
    expected = array(model(images(64, 64))["logits"])
    found = array(network(images(64, 64))["logits"])
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-4, atol=1e-4)
    level = 2 ** int(model.level[1:])
    larger = array(network(images(64 + level, 64 + 2 * level))["logits"])
    assert larger.shape == (2, 2, 3, 3)


def test_without_windows_the_mean_of_the_map_is_the_classifiers_score():
    model = randomise(ImageClassifier(pyramid(), 3))
    network = convolutionalize(model, windows=False)
    for size in ((64, 64), (96, 64), (16, 16)):
        heat = array(network(images(*size))["logits"])
        assert heat.shape[1:3] == (size[0] // 16, size[1] // 16)
        if size == (64, 64):
            expected = array(model(images(*size))["logits"])
            np.testing.assert_allclose(heat.mean((1, 2)), expected, rtol=1e-4,
                                       atol=1e-4)


def test_a_network_of_keras_applications():
    model = randomise(keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, classes=7, classifier_activation=None))
    network = convolutionalize(model)
    expected = array(model(images(64, 64)))
    np.testing.assert_allclose(array(network(images(64, 64)))[:, 0, 0], expected,
                               atol=1e-4 * np.abs(expected).max())
    assert network(images(96, 64)).shape == (2, 2, 1, 7)


def test_can_be_saved_and_the_classifier_stays_as_it_was(tmp_path):
    model = randomise(flattened())
    before = [array(w).copy() for w in model.weights]
    network = convolutionalize(model)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(array(loaded(images(27, 22))),
                                  array(network(images(27, 22))))
    network.set_weights([0 * array(w) for w in network.weights])
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, array(weight))


def functional(*steps, shape=(12, 12, 3)):
    x = inputs = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(inputs, x, name="network")


@pytest.mark.parametrize("make, message", [
    (lambda: functional(layers.Conv2D(3, 3)), "has none"),
    (lambda: functional(layers.Flatten()), "has none"),
    (lambda: functional(layers.Flatten(), layers.BatchNormalization(name="middle"),
                        layers.Dense(2)), r"middle \(BatchNormalization\) between"),
    (lambda: functional(layers.Reshape((432,), name="r"), layers.Dense(2)),
     r"r \(Reshape\) makes a vector of a map; what can be turned is Flatten"),
    (lambda: functional(layers.Flatten(), layers.Dense(4),
                        layers.RepeatVector(2), layers.Flatten(), layers.Dense(2)),
     r"network has none|cannot"),
    (lambda: functional(layers.Flatten(), layers.Dense(4), lambda x: x[:, ::2],
                        layers.Dense(2)), r"\(GetItem\) cannot slide over a map"),
    (lambda: functional(layers.GlobalAveragePooling2D(), layers.Dense(2),
                        shape=(None, None, 3)), "network takes any size; size is"),
    (lambda: keras.Sequential([layers.Flatten(), layers.Dense(2)]), "received Seq"),
    (lambda: ImageClassifier(vit(Variant(1, 8, 8, 2, 16), resolution=32), 2),
     "after flattening or global pooling, image_classifier.* has none"),
    (lambda: functional(layers.Reshape((144, 3)), layers.Reshape((12, 12, 3)),
                        layers.Flatten(), layers.Dense(2)), "cannot take any size"),
])
def test_refuses_what_it_cannot_turn(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        convolutionalize(make())
    assert "\n" not in str(caught.value)
