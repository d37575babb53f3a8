"""Inception-v1's heads: in the loss of training, nowhere else. The bottleneck."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.backbones.inception import AUXILIARY, inception_v1
from mlcvtf.classification.inception_classifier import (
    TAPS,
    BottleneckClassifier,
    InceptionClassifier,
)
from mlcvtf.export import saved_model, signatures
from mlcvtf.layers.auxiliary_head import AuxiliaryHead
from tests.weights import peers


def backbone():
    x = images = keras.Input((None, None, 3))
    outputs = {}
    for level in (1, 2):
        x = keras.layers.Conv2D(6, 3, 2, padding="same", activation="relu",
                                name=f"stage{level}")(x)
        outputs[f"P{level}"] = x
    return keras.Model(images, outputs)


def classifier(**options):
    heads = {"stage1": AuxiliaryHead(3, 8, 16, name="auxiliary1")}
    return InceptionClassifier(backbone(), 3, **{"heads": heads} | options)


def cross_entropy(logits, labels):
    logits = np.asarray(logits, "float64")
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.mean([row[label] for row, label in zip(shares, labels, strict=True)])


def test_the_papers_heads():
    model = InceptionClassifier(inception_v1(), 1000)
    assert tuple(model.heads) == TAPS == AUXILIARY
    assert model.dropout == 0.4 and model.auxiliary_weight == 0.3
    for head, channels in zip(model.heads.values(), (512, 528), strict=True):
        assert head.dropout == 0.7
        shapes = [tuple(v.shape) for v in head.weights]
        assert shapes == [(1, 1, channels, 128), (128,), (2048, 1024), (1024,),
                          (1024, 1000), (1000,)]
    heads = sum(v.count_params() for v in model.heads.values())
    assert model.count_params() == 6_998_552 + heads


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_training_adds_the_discounted_losses_of_the_heads(weight):
    heads = {f"stage{n}": AuxiliaryHead(3, 8, 16, dropout=0.0) for n in (1, 2)}
    model = classifier(heads=heads, auxiliary_weight=weight)
    labels = np.array([2, 0])
    outputs = model(peers.smooth_pictures(2, 32, 40) / 255, training=False)
    main = cross_entropy(outputs["logits"], labels)
    parts = [cross_entropy(head(outputs[tap]), labels) for tap, head in heads.items()]
    loss = {t: float(model.compute_loss(None, labels, outputs, training=t))
            for t in (True, False)}
    assert loss[False] == pytest.approx(main, rel=1e-5)
    assert loss[True] == pytest.approx(main + weight * sum(parts), rel=1e-5)
    assert min(parts) > 0.1


def test_call_gives_the_same_things_in_training_and_at_inference():
    model = classifier()
    found = [model(peers.smooth_pictures(2, 32, 40), training=t) for t in (True, False)]
    shapes = [{k: tuple(v.shape) for k, v in outputs.items()} for outputs in found]
    assert shapes[0] == shapes[1] == {"logits": (2, 3), "stage1": (2, 4, 4, 6)}


def test_training_reaches_the_heads_and_evaluation_leaves_them_out():
    model = classifier(dropout=0.0)
    x, y = peers.smooth_pictures(8, 32, 32), np.arange(8) % 3
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    before = model.heads["stage1"].get_weights()
    trained = model.fit(x, y, batch_size=8, verbose=0).history["loss"][0]
    assert not any(map(np.array_equal, before, model.heads["stage1"].get_weights()))
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    main = cross_entropy(model(x, training=False)["logits"], y)
    assert evaluated == pytest.approx(main, rel=1e-4)
    assert np.isfinite(trained)


def test_no_graph_of_inference_reads_the_heads():
    model = classifier()
    specification = tf.TensorSpec((None, None, None, 3))
    run = tf.function(lambda x: model(x, training=False))
    graph = run.get_concrete_function(specification).graph
    read = {variable.name for variable in graph.variables}
    heads = {v.value.name for head in model.heads.values() for v in head.weights}
    assert len(read) == len(model.weights) - len(heads)
    assert not read & heads


@pytest.mark.slow
def test_the_saved_model_holds_no_weights_of_the_heads(tmp_path):
    # The head's dense kernel alone, 16 places x 64 x 512 numbers, takes 2 MB.
    heads = {"stage1": AuxiliaryHead(3, 64, 512)}
    model = classifier(heads=heads)
    size = (32, 32)
    endpoints = signatures.endpoints(model, "classification", freeze=True, size=size)
    saved_model.write(tmp_path, endpoints)
    content = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert content < 500_000
    image = peers.smooth_pictures(1, 32, 32)[0].astype("uint8")
    loaded = tf.saved_model.load(str(tmp_path))
    found = loaded.serving_default(tf.constant(image))["scores"]
    expected = model.classify(image[None].astype("float32"))["scores"][0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_learns_and_comes_back_from_its_file(tmp_path):
    model = classifier(dropout=0.0)
    images = np.zeros((6, 16, 16, 3), "float32")
    images[np.arange(6), :, :, np.arange(6) % 3] = 200
    labels = np.arange(6) % 3
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.fit(images, labels, epochs=60, verbose=0)
    np.testing.assert_array_equal(model.classify(images)["labels"], labels)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(model.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(copy.heads["stage1"].weights) == 6
    np.testing.assert_allclose(copy(images)["logits"], model(images)["logits"],
                               rtol=1e-5)


def test_a_frozen_backbone_stays_while_the_heads_learn():
    model = classifier()
    model.backbone.trainable = False
    trainable = {v.path for v in model.trainable_variables}
    assert not any(path.startswith("stage") for path in trainable)
    assert len(trainable) == 6 + 2


@pytest.mark.parametrize("options, message", [
    ({"auxiliary_weight": -1}, "auxiliary_weight is at least 0, received -1"),
    ({"heads": None}, "heads are on layers of .*, received inception4a, inception4d"),
    ({"windows": "all"}, "windows is one of .*, received 'all'"),
    ({"dropout": 1.0}, "dropout is 0 to below 1, received 1.0"),
])
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options)


def test_bottleneck_is_a_projection_normalised():
    model = BottleneckClassifier(backbone(), 3, 5, epsilon=0.5)
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.2, 1.5, variable.shape))
    images = peers.smooth_pictures(2, 16, 24) / 255
    maps = np.asarray(model.backbone(images)["P2"])
    gamma, beta, mean, variance = model.normalisation.get_weights()
    features = maps.mean((1, 2)) @ model.project.get_weights()[0]
    features = (features - mean) / np.sqrt(variance + 0.5) * gamma + beta
    found = model(images, training=False)
    np.testing.assert_allclose(found["features"], features, rtol=1e-4)
    kernel, bias = model.head.get_weights()
    np.testing.assert_allclose(found["logits"], features @ kernel + bias, rtol=1e-4)
    expected = features / np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(model.embed(images), expected, rtol=1e-4)


def test_bottleneck_refuses():
    with pytest.raises(ValueError, match="features is at least 1, received 0"):
        BottleneckClassifier(backbone(), 3, 0)
