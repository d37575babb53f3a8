"""EfficientNet against `keras.applications`, published counts and stored numbers."""

import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet as keras_efficientnet

from mlcvtf.backbones.efficientnet import VARIANTS, Scaling, efficientnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights import efficientnet as weights
from mlcvtf.weights.name_map import carry
from tests.backbones import peers

# Trainable, with 1,000 classes: torchvision's documentation of its weights.
PARAMETERS = {
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
}
# A small network of the family.
TINY = Scaling(0.25, 0.3, 64, 0.0)
# The blocks whose input is a level, in the peer's names.
LEVELS = {f"P{level}": f"block{block}a_expand_conv"
          for level, block in enumerate((2, 3, 4, 6), 1)}


def keras_peer(name, size):
    """Builds Keras's network with a head and weights by name."""
    peer = getattr(keras.applications, name)(
        input_shape=(*size, 3), weights=None, classifier_activation=None
    )
    for variable in peer.weights:
        if not variable.path.startswith("normalization"):
            path = variable.path.replace("dwconv", "depthwise")
            variable.assign(peers.draw(path, variable.shape))
    standardise(peer)
    return peer


def standardise(peer):
    """Gives a peer what its ImageNet weights hold: deviations as variances."""
    layer = next(layer for layer in peer.layers
                 if isinstance(layer, keras.layers.Normalization))
    layer.adapt_mean.assign((0.485, 0.456, 0.406))
    layer.adapt_variance.assign((0.229, 0.224, 0.225))
    layer.finalize_state()


def carried(peer, name, **options):
    """Carries a peer's weights into our network."""
    backbone = weights.network("keras", name, **options)
    model = ImageClassifier(backbone, 1000)
    arrays = {v.path: np.asarray(v) for v in peer.weights}
    carry(model, arrays, weights.rules("keras"), weights.SKIPPED["keras"])
    return model


def keras_outputs(peer, images):
    maps = {level: peer.get_layer(name).input for level, name in LEVELS.items()}
    maps["P5"] = peer.get_layer("top_activation").output
    found = keras.Model(peer.inputs[0], {**maps, "logits": peer.output})(images)
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.parametrize("name, size", [
    ("EfficientNetB0", (75, 64)),
    *(pytest.param(f"EfficientNetB{i}", (75, 64), marks=pytest.mark.slow)
      for i in range(1, 8)),
])
def test_equals_keras_applications(name, size):
    peer = keras_peer(name, size)
    normalisation = weights.keras_normalisation(peer)
    model = carried(peer, name, normalisation=normalisation)
    images = peers.smooth(2, *size)
    gap = peers.difference(peers.outputs(model, images), keras_outputs(peer, images))
    assert gap <= peers.BIGGEST


def test_normalisation_of_keras_is_read(monkeypatch, tmp_path):
    """Keras divides by its ImageNet weights' deviations in two steps."""
    file = tmp_path / "tiny.weights.h5"
    monkeypatch.setattr(keras_efficientnet.file_utils, "get_file",
                        lambda *args, **kwargs: str(file))

    def peer_of(weights):
        return keras_efficientnet.EfficientNet(
            0.25, 1.0, 224, name="tiny", weights=weights, weights_name="b0",
            blocks_args=keras_efficientnet.DEFAULT_BLOCKS_ARGS[:1],
        )

    plain = peer_of(None)
    mean, deviation = weights.keras_normalisation(plain)
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    np.testing.assert_allclose(deviation, 255, rtol=1e-6)
    standardise(plain)
    plain.save_weights(file)
    peer = peer_of("imagenet")
    mean, deviation = weights.keras_normalisation(peer)
    np.testing.assert_allclose(mean, [123.675, 116.28, 103.53], rtol=1e-5)
    np.testing.assert_allclose(deviation, [58.395, 57.12, 57.375], rtol=1e-5)
    # So what the importer builds by default is right.
    images = peers.smooth(1, 224, 224)
    first = keras.Model(peer.inputs[0], peer.get_layer("stem_conv_pad").input)
    ours = efficientnet(TINY).get_layer("normalisation")
    np.testing.assert_allclose(first(images), ours(images), atol=1e-5)


def test_refuses_another_model_s_normalisation():
    with pytest.raises(ValueError, match="starts with rescaling and normalisation"):
        weights.keras_normalisation(keras.Sequential([keras.Input((3,))]))


def test_outputs_are_those_that_torchvision_gave():
    model = peers.classifier("efficientnet", *peers.GOLDEN["efficientnet"])
    found = peers.summary(peers.outputs(model, peers.smooth(2, *peers.SIZE)))
    assert peers.difference(found, peers.golden("efficientnet")) <= peers.BIGGEST


@pytest.mark.parametrize("variant", [
    "efficientnet_b0",
    *(pytest.param(name, marks=pytest.mark.slow) for name in list(VARIANTS)[1:]),
])
def test_parameters_with_classifier_are_the_published_ones(variant):
    model = efficientnet(variant)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    head = (model.output["P5"].shape[-1] + 1) * 1000
    assert trainable + head == PARAMETERS[variant]


@pytest.mark.parametrize("origin", ["keras", "timm"])
def test_levels_have_their_strides(origin):
    model = efficientnet(TINY, origin)
    for height, width in ((64, 96), (75, 51)):
        shapes = {level: tuple(maps.shape[1:3])
                  for level, maps in model(np.zeros((1, height, width, 3))).items()}
        assert shapes == {f"P{n}": (-(-height // 2**n), -(-width // 2**n))
                          for n in range(1, 6)}


def test_origins_differ():
    # The same names and shapes, other paddings and epsilons: torchvision's B5 is the
    # one with the release's epsilon.
    models = {origin: efficientnet(TINY, origin) for origin in ("keras", "timm")}
    for model in models.values():
        for variable in model.weights:
            variable.assign(peers.draw(variable.path, variable.shape))
    images = peers.smooth(1, 64, 64)
    keras_maps, timm_maps = (np.asarray(m(images)["P5"]) for m in models.values())
    gap = np.abs(keras_maps - timm_maps).max() / np.abs(timm_maps).max()
    assert gap > 10 * peers.BIGGEST


@pytest.mark.slow
def test_epsilon_of_torchvision():
    found = {
        (variant, origin): efficientnet(variant, origin).get_layer(
            "stem_normalisation").epsilon
        for variant in ("efficientnet_b4", "efficientnet_b5")
        for origin in ("torchvision", "timm")
    }
    assert list(found.values()) == [1e-5, 1e-5, 1e-3, 1e-5]


def test_form_for_small_images():
    model = efficientnet(TINY, small_images=True, last=False)
    shapes = {level: tuple(maps.shape[1:])
              for level, maps in model(np.zeros((1, 32, 32, 3))).items()}
    assert shapes == {"P0": (32, 32, 8), "P1": (16, 16, 16), "P2": (8, 8, 80)}


def test_whole_branches_are_dropped_in_training():
    model = efficientnet(Scaling(0.25, 1.0, 64, 0.0), drop_rate=0.5)
    rates = {layer.name: layer.drop_rate for layer in model.layers
             if hasattr(layer, "drop_rate")}
    # 16 blocks: a line from 0 towards 0.5, as in the release.
    np.testing.assert_allclose(list(rates.values()), 0.5 * np.arange(16) / 16)


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="one of efficientnet_b0, .*received 'b8'"):
        efficientnet("b8")
    with pytest.raises(ValueError, match="origin is one of keras, torchvision, timm"):
        efficientnet(origin="caffe")
    with pytest.raises(ValueError, match=r"\(height, width, 3\), received"):
        efficientnet(TINY, input_shape=(32, 32, 1))
    with pytest.raises(ValueError, match="known are EfficientNetB0, "):
        weights.network("keras", "EfficientNetB8")
    with pytest.raises(ValueError, match="source is one of keras, torchvision, timm"):
        weights.rules("caffe")


def test_frozen_backbone_keeps_its_statistics():
    model = efficientnet(TINY)
    model.trainable = False
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
