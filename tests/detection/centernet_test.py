"""CenterNet: its losses by hand, and that it learns."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.ops import heatmaps


def tiny(**arguments):
    keras.utils.set_random_seed(0)
    backbone = mobilenet_v2(0.35, last_channels=None, momentum=0.9)
    return CenterNet(backbone, width=16, head_channels=16, **arguments)


def scene(generator, side=64):
    """A dark picture with one bright rectangle of class 0 or 1, and its corners."""
    image = np.full((side, side, 3), 40.0, np.float32)
    w, h = generator.integers(14, 30, 2)
    x, y = generator.integers(0, side - w), generator.integers(0, side - h)
    label = int(generator.integers(2))
    image[y : y + h, x : x + w] = (230, 60, 60) if label else (60, 60, 230)
    return image, [x, y, x + w, y + h], label


def batch(count, seed):
    generator = np.random.default_rng(seed)
    images, boxes, labels = zip(*(scene(generator) for _ in range(count)), strict=True)
    boxes, labels = np.array(boxes, np.float32)[:, None], np.array(labels)[:, None]
    corners = np.stack([boxes[..., :2], boxes[..., 2:]], axis=2)
    return np.stack(images), {"boxes": boxes, "labels": labels, "landmarks": corners}


def outputs(height=16, width=16, classes=2, points=2):
    generator = np.random.default_rng(1)
    maps = {
        "logits": generator.normal(size=(1, height, width, classes)),
        "offset": generator.uniform(size=(1, height, width, 2)),
        "size": generator.uniform(5, 30, (1, height, width, 2)),
        "landmarks": generator.normal(size=(1, height, width, 2 * points)),
    }
    return {k: v.astype(np.float32) for k, v in maps.items()}


@pytest.mark.parametrize("scale_free", [False, True])
@pytest.mark.parametrize("regression", ["l1", "huber"])
def test_regression_terms_by_hand(scale_free, regression):
    model = tiny(
        classes=2,
        landmarks=2,
        scale_free=scale_free,
        regression=regression,
        offset_weight=2.0,
        size_weight=3.0,
        landmark_weight=5.0,
    )
    maps = outputs()
    y = {
        "boxes": np.array([[[9, 13, 30, 40], [0, 0, 1, 1]]], np.float32),
        "labels": np.array([[1, -1]]),
        "landmarks": np.array([[[[10, 14], [28, 39]], [[0, 0], [0, 0]]]], np.float32),
    }
    none = dict(y, labels=np.array([[-1, -1]]))
    without = tiny(
        classes=2, landmarks=2, offset_weight=0, size_weight=0, landmark_weight=0
    )
    found = float(model.compute_loss(y=y, y_pred=maps)) - float(
        without.compute_loss(y=y, y_pred=maps)
    )
    # The centre (19.5, 26.5) lies in cell column 4, row 6.
    huber = lambda e: np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5)  # noqa: E731
    term = huber if regression == "huber" else np.abs
    offset = maps["offset"][0, 6, 4] - (19.5 / 4 - 4, 26.5 / 4 - 6)
    size = maps["size"][0, 6, 4]
    size = np.log(size / (21, 27)) if scale_free else (size - (21, 27)) / 4
    points = maps["landmarks"][0, 6, 4].reshape(2, 2) - [[-9.5, -12.5], [8.5, 12.5]]
    points = points / (21, 27) if scale_free else points / 4
    expected = 2 * term(offset).sum() + 3 * term(size).sum() + 5 * term(points).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert float(model.compute_loss(y=none, y_pred=maps)) >= 0


def test_the_refinement_learns_the_way_from_cells_near_a_landmark():
    weights = {"offset_weight": 0.0, "size_weight": 0.0, "landmark_weight": 3.0}
    common = {"classes": 2, "landmarks": 2, "scale_free": True, **weights}
    model, maps = tiny(refine=True, **common), outputs()
    maps["features"] = np.random.default_rng(2).normal(size=(1, 16, 16, 16))
    maps["features"] = maps["features"].astype(np.float32)
    field = np.asarray(model.heads["refinement"](maps["features"]))
    y = {
        "boxes": np.array([[[9, 13, 29, 43], [0, 0, 1, 1]]], np.float32),
        "labels": np.array([[1, -1]]),
        "landmarks": np.array([[[[11, 15], [27, 62]], [[0, 0], [0, 0]]]], np.float32),
    }
    found = float(model.compute_loss(y=y, y_pred=maps)) - float(
        tiny(**common).compute_loss(y=y, y_pred=maps)
    )
    assert field.std() > 0
    expected = 0.0
    for point, (x, y_) in enumerate([(11, 15), (27, 62)]):
        for right in (-2, 0, 2):
            for down in (-3, 0, 3):
                # A tenth of the box's 20 x 30 pixels away; the map ends at 64 pixels.
                column = (x + right) // 4
                row = min((y_ + down) // 4, 15)
                way = field[0, row, column, 2 * point : 2 * point + 2]
                truth = np.array([x - 4 * column - 2, y_ - 4 * row - 2]) / (20, 30)
                expected += 3 * np.abs(way - truth).sum() / 9
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_second_look_is_the_head_at_some_cells():
    model = tiny(classes=1, landmarks=3, scale_free=True, refine=True)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2, 6, 7, 16)).astype(np.float32)
    field = np.asarray(model.heads["refinement"](features))
    columns = np.array([[0, 5, 3], [2, 5, 0]], "int32")
    rows = np.array([[0, 4, 2], [4, 1, 3]], "int32")
    patches = heatmaps.gather_patches(features, columns, rows)
    found = np.asarray(model.look(patches)).reshape(2, 3, 2, 2, 6)
    for picture, number in np.ndindex(2, 3):
        row, column = rows[picture, number], columns[picture, number]
        expected = field[picture, row : row + 2, column : column + 2]
        np.testing.assert_allclose(found[picture, number], expected, atol=1e-6)


@pytest.mark.parametrize("refine", [False, True])
def test_unknown_landmarks_cost_nothing(refine):
    model = tiny(classes=2, landmarks=2, scale_free=True, refine=refine)
    maps = outputs()
    maps["features"] = np.ones((1, 16, 16, 16), np.float32)
    y = {
        "boxes": np.array([[[9, 13, 30, 40]]], np.float32),
        "labels": np.array([[1]]),
        "landmarks": np.full((1, 1, 2, 2), np.nan, np.float32),
    }
    moved = dict(maps, landmarks=maps["landmarks"] + 100)
    moved["features"] = 3 * maps["features"]
    one = float(model.compute_loss(y=y, y_pred=maps))
    assert np.isfinite(one)
    assert one == float(model.compute_loss(y=y, y_pred=moved))


def test_order_and_number_of_padded_boxes_change_nothing():
    model = tiny(classes=2, landmarks=2)
    images, y = batch(4, 3)
    maps = model(images)
    padded = {
        "boxes": np.concatenate([np.full((4, 2, 4), 7.0), y["boxes"]], 1),
        "labels": np.concatenate([np.full((4, 2), -1), y["labels"]], 1),
        "landmarks": np.concatenate([np.full((4, 2, 2, 2), 9.0), y["landmarks"]], 1),
    }
    np.testing.assert_allclose(
        float(model.compute_loss(y=y, y_pred=maps)),
        float(model.compute_loss(y=padded, y_pred=maps)),
        rtol=1e-5,
    )


def test_picture_without_objects():
    model = tiny(classes=2)
    images = np.zeros((1, 32, 32, 3), np.float32)
    y = {"boxes": np.zeros((1, 0, 4), np.float32), "labels": np.zeros((1, 0), np.int32)}
    assert np.isfinite(float(model.compute_loss(y=y, y_pred=model(images))))


def test_neighbours_share_an_object_by_its_gaussian():
    box = np.array([[[9, 13, 57, 61]]], np.float32)
    y = {"boxes": box, "labels": np.array([[1]])}
    maps = outputs()
    weights = {"size_weight": 0.0, "offset_weight": 1.0}
    with_heat = float(
        tiny(classes=2, neighbours=1, **weights).compute_loss(y=y, y_pred=maps)
    )
    heat = float(
        tiny(classes=2, size_weight=0.0, offset_weight=0.0).compute_loss(
            y=y, y_pred=maps
        )
    )
    # The centre (33, 37) lies in cell column 8, row 9. A square of 12 cells keeps an
    # overlap of 0.7 while both corners move inwards by r where (12 - 2r)^2 = 0.7 144.
    radius = min(
        6 * (1 - np.sqrt(0.7)),
        6 * (1 / np.sqrt(0.7) - 1),
        12 - np.sqrt(144 - 144 * 0.3 / 1.7),
    )
    sigma = (2 * radius + 1) / 6
    total, error = 0.0, 0.0
    for row in (8, 9, 10):
        for column in (7, 8, 9):
            away = (row - 9) ** 2 + (column - 8) ** 2
            weight = np.exp(-away / (2 * sigma**2))
            offset = maps["offset"][0, row, column] - (33 / 4 - column, 37 / 4 - row)
            total, error = total + weight, error + weight * np.abs(offset).sum()
    np.testing.assert_allclose(with_heat - heat, error / total, rtol=1e-4)


def test_neighbours_outside_the_picture_count_nothing():
    y = {"boxes": np.array([[[0, 0, 6, 6]]], np.float32), "labels": np.array([[0]])}
    model = tiny(classes=2, neighbours=1)
    maps = outputs()
    for name in ("offset", "size"):
        maps[name][0, :2, :2] = 0
    far = {k: v + 100 * (k != "logits") for k, v in maps.items()}
    for name in ("logits", "offset", "size"):
        far[name][0, :2, :2] = maps[name][0, :2, :2]
    one = float(model.compute_loss(y=y, y_pred=maps))
    assert one == float(model.compute_loss(y=y, y_pred=far))


@pytest.mark.parametrize(
    "scale_free, refine",
    [
        pytest.param(False, False, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
        (True, True),
    ],
)
def test_learns_boxes_classes_and_landmarks(scale_free, refine):
    weights = {"size_weight": 1.0, "landmark_weight": 1.0} if scale_free else {}
    model = tiny(
        classes=2, landmarks=2, scale_free=scale_free, refine=refine, **weights
    )
    model.compile(keras.optimizers.Adam(3e-3))
    images, targets = batch(64, 0)
    model.fit(images, targets, batch_size=16, epochs=30, verbose=0)
    found = {k: np.asarray(v) for k, v in model.detect(images, 1).items()}
    error = np.abs(found["boxes"][:, 0] - targets["boxes"][:, 0]).mean()
    assert error < 2.5
    assert (found["labels"] == targets["labels"]).mean() > 0.95
    corners = np.abs(found["landmarks"][:, 0] - targets["landmarks"][:, 0]).mean()
    assert corners < 2.5


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="classes is at least 1"):
        tiny(classes=0)
    with pytest.raises(
        ValueError, match="regression is 'l1' or 'huber', received 'l2'"
    ):
        tiny(classes=1, regression="l2")
    with pytest.raises(ValueError, match="neighbours is at least 0, received -1"):
        tiny(classes=1, neighbours=-1)
    with pytest.raises(
        ValueError, match="refine is for landmarks and scale_free, received 5"
    ):
        tiny(classes=1, landmarks=5, refine=True)
    with pytest.raises(ValueError, match="received 0 landmarks and scale_free=True"):
        tiny(classes=1, scale_free=True, refine=True)
