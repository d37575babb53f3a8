"""Boxes against loops, Keras and OpenCV."""

import doctest

import numpy as np
import pytest
from keras import ops

from mlcvtf.ops import boxes


def random_boxes(seed, *shape):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 20, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(0, 20, (*shape, 2))], -1)


def loop_iou(a, b):
    """Counts the cells of a fine grid of whole-pixel boxes."""
    grid = np.zeros((2, 60, 60), bool)
    for layer, (x1, y1, x2, y2) in zip(grid, (a, b), strict=True):
        layer[int(y1):int(y2), int(x1):int(x2)] = True
    union = np.sum(grid[0] | grid[1])
    return np.sum(grid[0] & grid[1]) / union if union else 0.0


def test_iou_equals_counting_pixels():
    a, b = random_boxes(0, 40).round(), random_boxes(1, 40).round()
    expected = [loop_iou(x, y) for x, y in zip(a, b, strict=True)]
    assert np.count_nonzero(expected) > 10
    np.testing.assert_allclose(boxes.iou(a, b), expected, atol=1e-6)


def test_iou_broadcasts_and_equals_keras():
    from keras.utils.bounding_boxes import compute_iou

    a, b = random_boxes(2, 7).astype("float32"), random_boxes(3, 9).astype("float32")
    matrix = ops.convert_to_numpy(boxes.iou(a[:, None], b[None]))
    assert matrix.shape == (7, 9)
    np.testing.assert_allclose(matrix, compute_iou(a, b, "xyxy"), atol=1e-6)


def test_giou_equals_its_definition():
    a, b = random_boxes(4, 50), random_boxes(5, 50) + 8
    for x, y, value in zip(a, b, np.asarray(boxes.giou(a, b)), strict=True):
        width = max(0, min(x[2], y[2]) - max(x[0], y[0]))
        height = max(0, min(x[3], y[3]) - max(x[1], y[1]))
        both = width * height
        union = (np.prod(x[2:] - x[:2]) + np.prod(y[2:] - y[:2])) - both
        hull = np.prod(np.maximum(x[2:], y[2:]) - np.minimum(x[:2], y[:2]))
        assert value == pytest.approx(both / union - (hull - union) / hull, abs=1e-6)


def test_no_boxes():
    none = np.zeros((0, 4), "float32")
    assert boxes.iou(none[:, None], none[None]).shape == (0, 0)
    some = random_boxes(6, 3).astype("float32")
    assert boxes.iou(none[:, None], some[None]).shape == (0, 3)
    assert boxes.xywh_to_xyxy(none).shape == (0, 4)


def test_empty_and_inside_out_boxes_overlap_nothing():
    point, wrong = np.array([5.0, 5, 5, 5]), np.array([9.0, 9, 1, 1])
    whole = np.array([0.0, 0, 10, 10])
    for other in (point, wrong):
        assert float(boxes.area(other)) == 0
        assert float(boxes.iou(other, whole)) == 0
        assert float(boxes.iou(other, other)) == 0
        assert np.isfinite(float(boxes.giou(other, other)))


def test_gradients_are_right_and_finite():
    tensorflow = pytest.importorskip("tensorflow")
    moving = tensorflow.Variable([[0.0, 0, 4, 4], [8, 8, 8, 8], [20, 20, 22, 22]])
    fixed = tensorflow.constant([[1.0, 0, 5, 4], [8, 8, 8, 8], [0, 0, 4, 4]])
    for measure in (boxes.iou, boxes.giou):
        with tensorflow.GradientTape() as tape:
            total = ops.sum(measure(moving, fixed))
        gradient = np.asarray(tape.gradient(total, moving))
        assert np.isfinite(gradient).all()
        step = 1e-2
        for row, column in ((0, 0), (0, 2), (2, 0), (2, 3)):
            shift = np.zeros((3, 4), "float32")
            shift[row, column] = step
            ahead = np.sum(measure(moving + shift, fixed))
            behind = np.sum(measure(moving - shift, fixed))
            assert gradient[row, column] == pytest.approx(
                (ahead - behind) / (2 * step), abs=2e-3)


def test_giou_pulls_distant_boxes_together():
    near = boxes.giou(np.array([0.0, 0, 1, 1]), np.array([2.0, 0, 3, 1]))
    far = boxes.giou(np.array([0.0, 0, 1, 1]), np.array([9.0, 0, 10, 1]))
    assert float(far) < float(near) < 0


@pytest.mark.parametrize("source", ["xywh", "cxcywh"])
def test_formats_equal_keras_and_go_back(source):
    from keras.utils.bounding_boxes import convert_format

    there = getattr(boxes, f"xyxy_to_{source}")
    back = getattr(boxes, f"{source}_to_xyxy")
    box = random_boxes(7, 2, 5).astype("float32")
    keras_name = {"xywh": "xywh", "cxcywh": "center_xywh"}[source]
    np.testing.assert_allclose(there(box), convert_format(box, "xyxy", keras_name),
                               atol=1e-5)
    np.testing.assert_allclose(back(there(box)), box, atol=1e-5)


def test_clip():
    cut = boxes.clip(np.array([[-3.0, 2, 50, 9], [5, -1, 6, 40]]), height=20, width=30)
    np.testing.assert_array_equal(cut, [[0, 2, 30, 9], [5, 0, 6, 20]])


def test_examples():
    assert doctest.testmod(boxes).failed == 0
