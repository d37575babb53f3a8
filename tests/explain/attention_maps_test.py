"""What is drawn of a vision Transformer: by hand, on uniform and on single weights."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError
from mlcvtf.explain import attention_maps, attention_pictures


def small(**settings):
    return vit(Variant(3, 16, 24, 2, 4), resolution=(12, 20), **settings)


def images():
    draw = np.random.default_rng(0).uniform(0, 255, (2, 12, 20, 3))
    return draw.astype("float32")


@pytest.mark.parametrize("token", [True, False])
def test_weights_are_those_of_the_forward_pass(token):
    backbone = small(class_token=token)
    weights = attention_maps.attention_weights(backbone, images())
    assert weights.shape == (3, 2, 2, 15 + token, 15 + token)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    # The last block's output, made of the last weights.
    block = backbone.get_layer("block2")
    parts = keras.Model(backbone.inputs[0], [block.input, block.output])
    x, y = parts(images())
    value = np.asarray(block.attention.value(block.attention_norm(x)))
    value = value.reshape(2, -1, 2, 8).transpose(0, 2, 1, 3)
    joined = (weights[2] @ value).transpose(0, 2, 1, 3).reshape(2, -1, 16)
    h = x + block.attention.project(joined)
    np.testing.assert_allclose(
        h + block.feed_forward(block.feed_forward_norm(h)), y, atol=1e-4)


def test_filters_are_principal_components():
    backbone = small()
    kernel = np.random.default_rng(1).normal(size=(4, 4, 3, 16)).astype("float32")
    # One direction along which filters differ far more than along any other.
    wave = np.cos(np.arange(48)).reshape(4, 4, 3, 1)
    kernel = 0.01 * kernel + wave * np.linspace(-5, 5, 16)
    backbone.get_layer("patches").kernel.assign(kernel)
    filters = attention_maps.patch_filters(backbone, count=5)
    assert filters.shape == (5, 4, 4, 3)
    assert filters.min() == 0 and filters.max() == pytest.approx(1)
    like = np.corrcoef(filters[0].ravel(), wave.ravel())[0, 1]
    assert abs(like) > 0.999
    assert len(attention_maps.patch_filters(backbone)) == 16


def test_positions_are_compared_by_their_cosines():
    backbone = small()
    similarity = attention_maps.position_similarity(backbone)
    table = np.asarray(backbone.get_layer("tokens").positions)[0, 1:].reshape(3, 5, 16)
    for a, b, c, d in np.ndindex(3, 5, 3, 5):
        one, other = table[a, b], table[c, d]
        expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert similarity[a, b, c, d] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("token", [0, 1])
def test_distances_by_hand(token):
    # Two rows of three patches of 10 pixels; head 0 looks at itself, head 1 at the
    # patch in the lower right corner, head 2 everywhere alike.
    count = 6 + token
    weights = np.zeros((1, 1, 3, count, count))
    weights[0, 0, 0] = np.eye(count)
    weights[0, 0, 1, :, -1] = 1
    weights[0, 0, 2] = 1 / count
    distances = attention_maps.mean_attention_distance(weights, (2, 3), 10)
    places = np.array([(y, x) for y in (0, 10) for x in (0, 10, 20)], float)
    to_corner = np.hypot(*(places - places[-1]).T).mean()
    among = np.mean([np.hypot(*(a - b)) for a in places for b in places])
    np.testing.assert_allclose(distances, [[0, to_corner, among]], rtol=1e-5)


def test_rollout_by_hand():
    # The class token takes patch 0 in the first block and patch 1 in the second,
    # through which half of what patch 1 took from patch 2 flows.
    first, second = np.eye(4)[None], np.eye(4)[None]
    first[0, 0], first[0, 2] = np.eye(4)[1], np.eye(4)[3]
    second[0, 0] = np.eye(4)[2]
    weights = np.stack([first, second])[:, :, None]
    rollout = attention_maps.attention_rollout(weights, (1, 3))
    np.testing.assert_allclose(rollout, [[[0.25, 0.25, 0.25]]], atol=1e-6)
    without = attention_maps.attention_rollout(
        np.full((2, 1, 2, 6, 6), 1 / 6), (2, 3))
    np.testing.assert_allclose(without, np.full((1, 2, 3), 1 / 6), rtol=1e-5)


def test_rollout_finds_the_only_patch_that_is_attended_to():
    weights = np.zeros((4, 1, 2, 7, 7))
    weights[..., 4] = 1
    rollout = attention_maps.attention_rollout(weights, (2, 3))[0]
    assert np.unravel_index(rollout.argmax(), (2, 3)) == (1, 0)
    assert rollout[1, 0] == pytest.approx(1 - 0.5**4)


def test_drawings_show_what_they_should():
    filters = np.zeros((8, 4, 4, 3), "float32")
    filters[7, 0, 0] = (1.0, 0.5, 0.0)
    sheet = attention_pictures.draw_filters(filters)
    assert sheet.shape == (2 * 68 + 4, 7 * 68 + 4, 3)
    assert sheet[4 + 68, 4].tolist() == [255, 128, 0]
    similarity = np.full((3, 5, 3, 5), -1.0)
    similarity[1, 2, 0, 0] = 1.0
    sheet = attention_pictures.draw_similarity(similarity).astype(int)
    assert sheet.shape == (3 * 52 + 4, 5 * 52 + 4, 3)
    # Yellow where alike, dark elsewhere.
    bright = sheet[4 + 52 + 2, 4 + 104 + 2]
    assert bright[0] > 200 and bright[1] > 200 and sheet[10, 10].sum() < 200
    image = np.full((20, 30, 3), 200, np.uint8)
    rollout = np.zeros((2, 3))
    rollout[0, 2] = 0.4
    both = attention_pictures.draw_rollout(image, rollout)
    assert both.shape == (20, 64, 3)
    assert (both[:, :30] == 200).all()
    assert both[0, -1, 0] == 200 and both[-1, 34, 0] == 0
    figure = attention_pictures.draw_distances(np.array([[1.0, 2.0], [3.0, 9.0]]))
    assert figure.shape == (400, 600, 3) and len(np.unique(figure)) > 20


def test_a_model_without_a_vision_transformer_is_refused():
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, {"P2": keras.layers.Conv2D(2, 3)(inputs)}, name="net")
    with pytest.raises(InputError, match="with a vision Transformer, net has none"):
        attention_maps.vision_transformer(network)
    backbone = small()
    found = attention_maps.vision_transformer(ImageClassifier(backbone, 2))
    assert found is backbone
