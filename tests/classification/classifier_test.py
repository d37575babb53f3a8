"""The image classifier: its loss by hand, its verb, and that it learns."""

import keras
import numpy as np
import pytest

from mlcvtf.classification.classifier import ImageClassifier


def backbone():
    images = keras.Input((None, None, 3))
    fine = keras.layers.Conv2D(4, 2, 2)(images)
    # P10 is the coarsest, though it sorts before P9.
    outputs = {"P9": fine, "P10": keras.layers.Conv2D(6, 2, 2)(fine)}
    return keras.Model(images, outputs)


def logits():
    return np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]], "float32")


def entropies(smoothing):
    values = logits().astype(float)
    shares = np.log(np.exp(values) / np.exp(values).sum(1, keepdims=True))
    targets = np.eye(3)[[0, 2]] * (1 - smoothing) + smoothing / 3
    return -(targets * shares).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_with_smoothed_targets(smoothing):
    model = ImageClassifier(backbone(), 3, label_smoothing=smoothing)
    outputs = {"logits": keras.ops.convert_to_tensor(logits())}
    loss = float(model.compute_loss(None, np.array([0, 2]), outputs))
    assert loss == pytest.approx(entropies(smoothing).mean(), rel=1e-5)


def test_rows_of_weight_zero_count_for_nothing():
    model = ImageClassifier(backbone(), 3)
    outputs = {"logits": keras.ops.convert_to_tensor(logits())}
    for weights, expected in (([1, 0], entropies(0)[0]), ([0, 2], entropies(0)[1]),
                              ([0, 0], 0)):
        loss = model.compute_loss(None, np.array([0, 2]), outputs, np.array(weights))
        assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_coarsest_map_is_averaged():
    model = ImageClassifier(backbone(), 3)
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 24, 3)).astype("float32")
    maps = keras.ops.convert_to_numpy(model.backbone(images)["P10"])
    kernel, bias = (keras.ops.convert_to_numpy(v) for v in model.head.weights)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(images)["logits"]),
        maps.mean((1, 2)) @ kernel + bias, rtol=1e-3, atol=1e-3)


def test_classify_gives_shares_and_the_best_class():
    model = ImageClassifier(backbone(), 3, dropout=0.5)
    images = np.random.default_rng(1).uniform(0, 255, (5, 8, 8, 3)).astype("float32")
    first, second = model.classify(images), model.classify(images)
    scores = keras.ops.convert_to_numpy(first["scores"])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    labels = keras.ops.convert_to_numpy(first["labels"])
    assert labels.dtype == np.int32 and (labels == scores.argmax(1)).all()
    # Nothing is dropped where nothing is trained.
    np.testing.assert_array_equal(scores, keras.ops.convert_to_numpy(second["scores"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, "classes is at least 2, received 1"),
        ({"dropout": 1.0}, "dropout is 0 to below 1, received 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is 0 to below 1, received -0.1"),
        ({"backbone": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])},
         "a backbone gives a dict of maps, received"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**{"backbone": backbone(), "classes": 3} | change)


def test_it_learns_which_colour_a_rectangle_has():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)

    def batch(count):
        images = np.full((count, 32, 32, 3), 40.0, np.float32)
        labels = generator.integers(0, 3, count)
        for image, label in zip(images, labels, strict=True):
            y, x = generator.integers(0, 20, 2)
            image[y : y + 12, x : x + 12, label] = 230
        return images, labels

    x = images = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    for _ in range(2):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
    model = ImageClassifier(keras.Model(images, {"P2": x}), 3)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(*batch(256), batch_size=32, epochs=10, verbose=0).history
    assert history["accuracy"][-1] > 0.9 > history["accuracy"][0]
    images, labels = batch(96)
    found = keras.ops.convert_to_numpy(model.classify(images)["labels"])
    assert np.mean(found == labels) > 0.9
