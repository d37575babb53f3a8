"""The transcriber: its loss by hand, generation against calls, and that it learns."""

import keras
import numpy as np
import pytest

from mlcvtf.classification.transcriber import Transcriber
from mlcvtf.layers.transformer_stacks import TransformerDecoder

SYMBOLS, LENGTH = 4, 3


def backbone(channels=8):
    images = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = keras.layers.Conv2D(channels, 4, 4, padding="same", activation="relu")(x)
    return keras.Model(images, {"P2": x})


def transcriber(depth=1, width=16, **settings):
    decoder = TransformerDecoder(depth, 2, 2 * width)
    return Transcriber(backbone(), decoder, SYMBOLS, LENGTH, width, **settings)


def strips(count, seed=0):
    """Blocks of 8 pixels whose brightness is the symbol, from the left."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, 8, 8 * LENGTH, 3), "float32")
    labels = np.full((count, LENGTH), -1, "int32")
    for row in range(count):
        length = generator.integers(1, LENGTH + 1)
        labels[row, :length] = generator.integers(0, SYMBOLS, length)
        for place in range(length):
            value = 60 * (labels[row, place] + 1)
            images[row, :, 8 * place : 8 * place + 8] = value
    return images, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_up_to_the_end(smoothing):
    model = transcriber(label_smoothing=smoothing)
    labels = np.array([[2, 0, -1], [1, -1, -1]])
    logits = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("float32")
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    errors = []
    for row, wanted in ((0, (2, 0, 4)), (1, (1, 4))):
        for place, token in enumerate(wanted):
            target = np.eye(5)[token] * (1 - smoothing) + smoothing / 5
            errors.append(-(target * shares[row, place]).sum())
    loss = model.compute_loss(None, labels, {"logits": keras.ops.array(logits)})
    assert float(loss) == pytest.approx(np.mean(errors), rel=1e-5)
    loss = model.compute_loss(
        None, labels, {"logits": keras.ops.array(logits)}, np.array([0, 1]))
    assert float(loss) == pytest.approx(np.mean(errors[3:]), rel=1e-5)


def test_metrics_count_symbols_and_whole_sequences():
    model = transcriber()
    labels = np.array([[2, 0, -1], [1, -1, -1]])
    logits = np.zeros((2, 4, 5), "float32")
    # The first is right up to its end, whatever comes behind; the second has no end.
    for row, found in ((0, (2, 0, 4, 1)), (1, (1, 0, 0, 0))):
        logits[row, range(4), found] = 1
    model.compute_metrics(None, labels, {"logits": keras.ops.array(logits)})
    assert float(model.accuracy.result()) == pytest.approx(4 / 5)
    assert float(model.whole.result()) == pytest.approx(1 / 2)


def test_what_comes_later_does_not_reach_earlier_logits():
    model, (images, labels) = transcriber(), strips(4)
    labels[:] = [[1, 2, 3]] * 4
    before = np.asarray(model({"images": images, "labels": labels})["logits"])
    labels[:, 1] = 0
    after = np.asarray(model({"images": images, "labels": labels})["logits"])
    np.testing.assert_allclose(after[:, :2], before[:, :2], atol=1e-5)
    assert np.abs(after[:, 2:] - before[:, 2:]).max() > 1e-3


def best_by_calls(model, images):
    """Greedy transcription that computes everything anew for every symbol."""
    count = len(images)
    labels, done = np.full((count, LENGTH), -1), np.zeros(count, bool)
    for place in range(LENGTH):
        logits = model({"images": images, "labels": labels})["logits"]
        token = np.argmax(logits[:, place], axis=-1)
        done |= token == SYMBOLS
        labels[~done, place] = token[~done]
    return labels


def test_transcribing_with_the_cache_equals_calls():
    keras.utils.set_random_seed(3)
    model, (images, _) = transcriber(depth=2), strips(16)
    for weight in model.trainable_weights:
        weight.assign(2.5 * keras.ops.convert_to_numpy(weight))
    found = model.transcribe(images)
    expected = best_by_calls(model, images)
    assert len(np.unique(expected, axis=0)) > 1
    np.testing.assert_array_equal(found["labels"], expected)
    one_beam = model.transcribe(images, beams=2)
    assert one_beam["labels"].shape == (16, LENGTH)


def test_the_score_is_the_probability_of_the_sequence():
    model, (images, _) = transcriber(), strips(5)
    found = model.transcribe(images)
    labels = np.asarray(found["labels"])
    logits = np.asarray(model({"images": images, "labels": labels})["logits"])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for row in range(5):
        length = (labels[row] >= 0).sum()
        expected = np.prod(shares[row, range(length), labels[row, :length]])
        if length < LENGTH:
            expected *= shares[row, length, SYMBOLS]
        else:
            expected *= shares[row, LENGTH].max()
        assert float(found["scores"][row]) == pytest.approx(expected, rel=1e-4)


def test_it_learns_to_read():
    keras.utils.set_random_seed(0)
    images, labels = strips(512)
    model = transcriber(width=32)
    model.compile(keras.optimizers.Adam(2e-3))
    inputs = {"images": images, "labels": labels}
    fitted = model.fit(inputs, labels, batch_size=16, epochs=12, verbose=0)
    history = fitted.history
    assert history["whole"][-1] > 0.9 > history["whole"][0]
    images, labels = strips(64, seed=1)
    for beams in (1, 3):
        found = np.asarray(model.transcribe(images, beams)["labels"])
        assert np.mean(np.all(found == labels, axis=1)) > 0.9


@pytest.mark.parametrize(("change", "message"), [
    ({"symbols": 1}, "symbols is at least 2 and length at least 1, received 1 and 3"),
    ({"label_smoothing": 1.0}, "label_smoothing is 0 to below 1, received 1.0"),
    ({"backbone": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])},
     "a backbone gives a dict of maps, received"),
])
def test_wrong_arguments_are_refused(change, message):
    arguments = {"backbone": backbone(), "decoder": TransformerDecoder(1, 2, 8),
                 "symbols": SYMBOLS, "length": LENGTH, "width": 8}
    with pytest.raises(ValueError, match=message):
        Transcriber(**arguments | change)
