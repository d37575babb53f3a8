import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.export import signatures
from tests.export import tiny_models


def compiled(model, task, **options):
    """Returns the endpoints as `keras.export.ExportArchive` compiles them."""
    endpoints = signatures.endpoints(model, task, **options)

    def function(endpoint, specification):
        call = tf.function(endpoint, specification, autograph=False)
        return lambda array: {k: v.numpy() for k, v in call(array).items()}

    return {name: function(*endpoint) for name, endpoint in endpoints.items()}


@pytest.fixture(scope="module")
def model():
    return tiny_models.detector()


@pytest.fixture(scope="module")
def detect(model):
    return compiled(model, "face_detection")


@pytest.fixture(scope="module")
def embedder():
    return tiny_models.embedder()


@pytest.fixture(scope="module")
def embed(embedder):
    return compiled(embedder, "face_embedding")


def slow_decode(maps, height, width):
    """Finds the peaks with loops; the oracle of the graph."""
    heatmap = np.asarray(maps["heatmap"])[0]
    rows, columns, classes = heatmap.shape
    found = []
    for row in range(rows):
        for column in range(columns):
            for label in range(classes):
                score = heatmap[row, column, label]
                around = heatmap[max(row - 1, 0) : row + 2,
                                 max(column - 1, 0) : column + 2, label]
                if score <= signatures.SCORE_FLOOR or score < around.max():
                    continue
                offset, size, points = (np.asarray(maps[name])[0, row, column]
                                        for name in ("offset", "size", "landmarks"))
                centre = (np.array([column, row]) + offset) * 4
                low = np.clip(centre - size / 2, 0, (width, height))
                high = np.clip(centre + size / 2, 0, (width, height))
                if np.all(high > low):
                    box = np.concatenate([low, high])
                    found.append((score, label, box, points.reshape(5, 2) + centre))
    return sorted(found, key=lambda entry: -entry[0])[:100]


@pytest.mark.parametrize("count", [0, 1, 12, 200])
def test_detector_equals_loops(model, detect, count):
    image = tiny_models.spots(96, 160, count)
    expected = slow_decode(model(image[None].astype(np.float32)), 96, 160)
    assert len(expected) >= min(count, 10), "the picture must have real peaks"
    found = detect["serving_default"](image)
    assert len(found["scores"]) == len(expected)
    if count == 0:
        assert found["boxes"].shape == (0, 4)
        assert found["landmarks"].shape == (0, 5, 2)
        return
    scores, labels, boxes, points = (np.array(v) for v in zip(*expected, strict=True))
    np.testing.assert_allclose(found["scores"], scores, atol=1e-6)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-3)
    np.testing.assert_allclose(found["landmarks"], points, atol=1e-3)
    np.testing.assert_array_equal(found["labels"], labels)
    assert found["labels"].dtype == np.int32


def test_several_classes_equal_loops():
    generator = np.random.default_rng(0)
    maps = {"heatmap": generator.uniform(0, 1, (1, 8, 16, 3)),
            "offset": generator.uniform(0, 1, (1, 8, 16, 2)),
            "size": generator.uniform(1, 90, (1, 8, 16, 2)),
            "landmarks": generator.uniform(-20, 20, (1, 8, 16, 10))}
    maps = {name: value.astype(np.float32) for name, value in maps.items()}

    def model(images, training):
        return {name: tf.constant(value) for name, value in maps.items()}

    found = compiled(model, "face_detection")["prepared"](
        np.zeros((32, 64, 3), np.float32))
    expected = slow_decode(maps, 32, 64)
    np.testing.assert_array_equal(found["labels"], [e[1] for e in expected])
    np.testing.assert_allclose(found["boxes"], [e[2] for e in expected], atol=1e-4)
    assert set(found["labels"]) == {0, 1, 2}


@pytest.mark.parametrize("refine", [False, True])
def test_detector_agrees_with_the_verb_of_centernet(refine):
    model = CenterNet(
        mobilenet_v2(0.35, last_channels=None),
        1,
        5,
        8,
        8,
        scale_free=refine,
        refine=refine,
    )
    generator = np.random.default_rng(1)
    for weight in model.heads["heatmap"].weights:
        bias = weight.path.endswith("bias")
        weight.assign(generator.normal(0, 0 if bias else 1, weight.shape))
    image = generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected = model.detect(image[None].astype(np.float32))
    found = compiled(model, "face_detection")["serving_default"](image)
    count = len(found["scores"])
    assert count > 3
    scores = np.asarray(expected["scores"])[0]
    boxes = np.clip(np.asarray(expected["boxes"])[0], 0, [96, 64, 96, 64])
    kept = (scores > signatures.SCORE_FLOOR) & np.all(boxes[:, 2:] > boxes[:, :2], 1)
    assert kept.sum() == count
    np.testing.assert_allclose(found["scores"], scores[kept], atol=1e-5)
    np.testing.assert_allclose(found["boxes"], boxes[kept], atol=1e-2)
    np.testing.assert_allclose(found["landmarks"],
                               np.asarray(expected["landmarks"])[0][kept], atol=1e-2)


def test_large_pictures_are_shrunk_and_boxes_come_back(detect):
    small = tiny_models.spots(480, 640, 9)
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    expected, found = (detect["serving_default"](image) for image in (small, large))
    assert len(found["scores"]) == len(expected["scores"]) > 5
    # Bilinear look-ups at half the size average four equal pixels: nothing changes.
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-6)
    np.testing.assert_allclose(found["boxes"], 2 * expected["boxes"], atol=1e-3)
    np.testing.assert_allclose(found["landmarks"], 2 * expected["landmarks"],
                               atol=1e-3)


def test_small_pictures_are_never_enlarged_but_padded_with_black(detect):
    image = tiny_models.spots(50, 70, 3)
    padded = np.zeros((64, 96, 3), np.uint8)
    padded[:50, :70] = image
    found, expected = (detect["serving_default"](i) for i in (image, padded))
    assert len(found["scores"]) >= 3
    boxes = np.minimum(expected["boxes"], [70, 50, 70, 50])
    kept = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    np.testing.assert_allclose(found["boxes"], boxes[kept], atol=1e-4)
    np.testing.assert_allclose(found["landmarks"], expected["landmarks"][kept],
                               atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (2000, 3), (17, 33)])
def test_extreme_sizes(detect, shape):
    found = detect["serving_default"](np.full((*shape, 3), 255, np.uint8))
    height, width = shape
    assert len(found["scores"]) >= 1
    assert np.all(found["boxes"] >= 0)
    assert np.all(found["boxes"] <= [width, height, width, height])
    assert np.all(found["boxes"][:, 2:] > found["boxes"][:, :2])


def test_batch_equals_single_pictures(detect):
    images = np.stack([tiny_models.spots(70, 100, count, seed=count)
                       for count in (0, 1, 7)])
    batch = detect["batch"](images)
    assert batch["boxes"].shape == (3, 100, 4)
    counts = []
    for index, image in enumerate(images):
        expected = detect["serving_default"](image)
        kept = batch["labels"][index] >= 0
        counts.append(kept.sum())
        for name, value in expected.items():
            np.testing.assert_allclose(batch[name][index][kept], value, atol=1e-4)
        assert not batch["boxes"][index][~kept].any()
        assert not batch["scores"][index][~kept].any()
        assert (batch["labels"][index][~kept] == -1).all()
    assert counts[0] == 0 < counts[1] < counts[2]


def test_embedder_averages_over_the_mirror_image(embedder, embed):
    generator = np.random.default_rng(0)
    face = generator.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    vector = embed["serving_default"](face)["embedding"]
    assert vector.shape == (128,)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)
    features = [np.asarray(embedder(image[None].astype(np.float32))["features"])[0]
                for image in (face, face[:, ::-1])]
    expected = (features[0] + features[1]) / 2 + np.linspace(-1, 1, 128)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    mirrored = embed["serving_default"](face[:, ::-1].copy())["embedding"]
    np.testing.assert_allclose(vector, mirrored, atol=1e-6)
    alone = features[0] + np.linspace(-1, 1, 128)
    assert np.abs(vector - alone / np.linalg.norm(alone)).max() > 1e-3


def test_embedder_resizes_and_batches(embed):
    face = tiny_models.spots(56, 56, 4)
    large = np.repeat(np.repeat(face, 4, axis=0), 4, axis=1)
    middle = np.repeat(np.repeat(face, 2, axis=0), 2, axis=1)
    vector = embed["serving_default"](middle)["embedding"]
    # 224 to 112 pixels averages four equal ones.
    np.testing.assert_allclose(embed["serving_default"](large)["embedding"], vector,
                               atol=1e-5)
    batch = embed["batch"](np.stack([middle, 255 - middle]))["embedding"]
    np.testing.assert_allclose(batch[0], vector, atol=1e-5)
    assert np.abs(batch[1] - vector).max() > 1e-3
    one = embed["serving_default"](np.zeros((1, 1, 3), np.uint8))["embedding"]
    assert np.isfinite(one).all()


def test_a_classifier_stretches_pictures_and_gives_shares():
    keras.utils.set_random_seed(0)
    images = keras.Input((24, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(images))
    logits = keras.layers.Dense(3)(keras.layers.Rescaling(0.01)(x))
    classifier = keras.Model(images, {"logits": logits})
    classify = compiled(classifier, "classification", size=(24, 32))
    pictures = np.stack([tiny_models.spots(48, 64, 3), tiny_models.spots(48, 64, 9)])
    found = classify["batch"](pictures)["scores"]
    small = tf.image.resize(pictures.astype(np.float32), (24, 32))
    expected = tf.nn.softmax(classifier(small)["logits"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    one = classify["serving_default"](pictures[1])["scores"]
    np.testing.assert_allclose(one, found[1], atol=1e-6)
    frozen = compiled(classifier, "classification", size=(24, 32), freeze=True)
    np.testing.assert_allclose(frozen["batch"](pictures)["scores"], found, atol=1e-6)
    with pytest.raises(ValueError, match="classifier's input, received None"):
        signatures.endpoints(classifier, "classification")


def test_card_describes_inputs_and_outputs(embedder):
    picture = {"name": "image", "dtype": "uint8", "shape": [None, None, 3]}
    assert signatures.card_input(embedder, "face_embedding", {}) == picture | {
        "shape": [112, 112, 3]}
    assert signatures.card_input(None, "face_detection", {"longest_side": 320}) == (
        picture | {"longest_side": 320})
    assert signatures.card_input(None, "detection", {}) == (
        picture | {"longest_side": signatures.LONGEST_SIDE})
    given = {"size": (96, 64)}
    found = signatures.card_input(None, "classification", given)
    assert found == picture | {"size": [96, 64]}
    assert signatures.options(found) == {"size": [96, 64]}
    outputs = {"boxes": tf.TensorSpec([None, 4], tf.float32)}
    assert signatures.card_outputs(outputs) == {
        "boxes": {"dtype": "float32", "shape": [None, 4]}}


def test_refusals(model):
    with pytest.raises(ValueError, match="task is one of .* received 'depth'"):
        signatures.endpoints(model, "depth")
    with pytest.raises(ValueError, match="multiple of 32, received 100"):
        signatures.endpoints(model, "face_detection", 100)
