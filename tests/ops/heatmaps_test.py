"""Heat maps against slow oracles."""

import keras
import numpy as np

from mlcvtf.ops import heatmaps


def corner_iou(width, height, dx1, dy1, dx2, dy2):
    """IoU of a box and the box with its corners moved."""
    inter_w = min(width, width + dx2) - max(0, dx1)
    inter_h = min(height, height + dy2) - max(0, dy1)
    inter = max(inter_w, 0) * max(inter_h, 0)
    other = (width + dx2 - dx1) * (height + dy2 - dy1)
    return inter / (width * height + other - inter)


def test_radius_is_the_largest_that_keeps_the_overlap():
    for width, height in ((10.0, 10.0), (5.0, 40.0), (33.0, 12.0)):
        radius = float(heatmaps.gaussian_radius(width, height, 0.7))
        ious = [
            corner_iou(width, height, a * radius, a * radius, b * radius, b * radius)
            for a in (-1, 1)
            for b in (-1, 1)
        ]
        assert abs(min(ious) - 0.7) < 1e-4


def test_targets_equal_a_loop():
    boxes = np.array([[[8, 8, 40, 32], [20, 12, 60, 60], [0, 0, 0, 0]]], np.float32)
    labels = np.array([[1, 1, -1]])
    found = np.asarray(heatmaps.gaussian_targets(boxes, labels, 20, 16, 2, 4))
    expected = np.zeros((20, 16, 2))
    for (x1, y1, x2, y2), label in zip(boxes[0] / 4, labels[0], strict=True):
        if label < 0:
            continue
        cx, cy = np.floor((x1 + x2) / 2), np.floor((y1 + y2) / 2)
        radius = float(heatmaps.gaussian_radius(x2 - x1, y2 - y1))
        sigma = (2 * radius + 1) / 6
        for row in range(20):
            for column in range(16):
                value = np.exp(-((column - cx) ** 2 + (row - cy) ** 2) / (2 * sigma**2))
                expected[row, column, label] = max(expected[row, column, label], value)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert (found == 1.0).sum() == 2 and found[..., 0].max() == 0


def test_padding_and_order_of_boxes_change_nothing():
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 40, (1, 3, 2))
    boxes = np.concatenate([corner, corner + 20], -1)
    labels = np.array([[0, 1, 0]])
    one = np.asarray(heatmaps.gaussian_targets(boxes, labels, 16, 16, 2, 4))
    padded = np.concatenate([boxes[:, ::-1], generator.uniform(0, 40, (1, 4, 4))], 1)
    more = np.concatenate([labels[:, ::-1], np.full((1, 4), -1)], 1)
    two = np.asarray(heatmaps.gaussian_targets(padded, more, 16, 16, 2, 4))
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_local_maxima_equal_a_loop():
    values = np.random.default_rng(0).uniform(size=(1, 7, 5, 2)).astype(np.float32)
    found = np.asarray(heatmaps.local_maxima(values))
    for row in range(7):
        for column in range(5):
            for channel in range(2):
                window = values[
                    0,
                    max(row - 1, 0) : row + 2,
                    max(column - 1, 0) : column + 2,
                    channel,
                ]
                value = values[0, row, column, channel]
                expected = value if value == window.max() else 0
                assert found[0, row, column, channel] == expected


def test_decode_gives_back_what_was_encoded():
    maps = {
        "heatmap": np.zeros((1, 8, 8, 3), np.float32),
        "offset": np.zeros((1, 8, 8, 2), np.float32),
        "size": np.zeros((1, 8, 8, 2), np.float32),
        "landmarks": np.zeros((1, 8, 8, 4), np.float32),
    }
    maps["heatmap"][0, 2, 5, 1], maps["heatmap"][0, 6, 1, 2] = 0.9, 0.6
    maps["offset"][0, 2, 5], maps["size"][0, 2, 5] = (0.25, 0.5), (12, 8)
    maps["landmarks"][0, 2, 5] = (-3, -1, 3, 2)
    found = heatmaps.decode_peaks(
        {k: keras.ops.convert_to_tensor(v) for k, v in maps.items()}, 4, 2
    )
    np.testing.assert_allclose(found["scores"], [[0.9, 0.6]])
    np.testing.assert_array_equal(found["labels"], [[1, 2]])
    np.testing.assert_allclose(found["boxes"][0][0], [15, 6, 27, 14])
    np.testing.assert_allclose(found["landmarks"][0][0], [[18, 9], [24, 12]])


def test_more_detections_than_cells():
    maps = {
        "heatmap": np.full((1, 1, 1, 1), 0.5, np.float32),
        "offset": np.zeros((1, 1, 1, 2), np.float32),
        "size": np.ones((1, 1, 1, 2), np.float32),
    }
    found = heatmaps.decode_peaks(maps, max_detections=3)
    np.testing.assert_allclose(found["boxes"][0, 0], [-0.5, -0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found["labels"], [[0, -1, -1]])
    np.testing.assert_array_equal(found["scores"], [[0.5, 0, 0]])


def inner(patches):
    """The head of a field that is there already."""
    return patches[:, 1:3, 1:3]


def test_patches_are_cut_with_zeros_around_the_map():
    maps = np.arange(2 * 3 * 5 * 2, dtype=np.float32).reshape(2, 3, 5, 2)
    columns, rows = np.array([[0, 4], [2, 1]], "int32"), np.array([[0, 2], [1, 0]])
    found = heatmaps.gather_patches(maps, columns, rows.astype("int32"))
    padded = np.pad(maps, ((0, 0), (1, 2), (1, 2), (0, 0)))
    for number, (picture, row, column) in enumerate(
        [(0, 0, 0), (0, 2, 4), (1, 1, 2), (1, 0, 1)]
    ):
        expected = padded[picture, row : row + 4, column : column + 4]
        np.testing.assert_array_equal(found[number], expected)


def test_points_move_by_the_interpolated_field():
    generator = np.random.default_rng(0)
    field = generator.normal(size=(2, 6, 7, 4)).astype(np.float32)
    # Some lie outside the picture of 28 x 24 pixels: the border's vectors hold there.
    points = generator.uniform(-5, 33, (2, 3, 2, 2)).astype(np.float32)
    size = generator.uniform(5, 20, (2, 3, 2)).astype(np.float32)
    found = np.asarray(heatmaps.refine_points(points, size, field, inner, 4))
    for picture, thing, point in np.ndindex(2, 3, 2):
        given = points[picture, thing, point]
        x, y = np.clip(given / 4 - 0.5, 0, (6, 5))
        left, top = int(x), int(y)
        right, bottom = min(left + 1, 6), min(top + 1, 5)
        vectors = field[picture, ..., 2 * point : 2 * point + 2]
        above = vectors[top, left] * (1 + left - x) + vectors[top, right] * (x - left)
        below = vectors[bottom, left] * (1 + left - x)
        below = below + vectors[bottom, right] * (x - left)
        way = above * (1 + top - y) + below * (y - top)
        np.testing.assert_allclose(
            found[picture, thing, point], given + way * size[picture, thing], rtol=1e-4
        )


def test_decoded_landmarks_are_the_mean_of_both_answers():
    maps = {
        "heatmap": np.zeros((1, 8, 8, 1), np.float32),
        "offset": np.zeros((1, 8, 8, 2), np.float32),
        "size": np.full((1, 8, 8, 2), (12, 8), np.float32),
        "landmarks": np.zeros((1, 8, 8, 4), np.float32),
        "features": np.zeros((1, 8, 8, 4), np.float32),
    }
    maps["heatmap"][0, 2, 5, 0] = 0.9
    maps["landmarks"][0, 2, 5] = (-2, 2, 6, 2)
    # The points (18, 10) and (26, 10) are the middles of columns 4 and 6, row 2.
    maps["features"][0, 2, 4] = (0.5, 0.25, 9, 9)
    maps["features"][0, 2, 6] = (9, 9, -0.5, 1)
    found = heatmaps.decode_peaks(maps, 4, 1, inner)
    # Refined they are (24, 12) and (20, 18); it is the means that are given.
    np.testing.assert_allclose(found["landmarks"][0, 0], [[21, 11], [23, 14]])


def test_decoding_in_a_graph_of_unknown_sizes():
    import tensorflow as tf

    maps = {
        name: tf.TensorSpec([None, None, None, channels])
        for name, channels in (("heatmap", 2), ("offset", 2), ("size", 2))
    }
    decode = tf.function(
        lambda m: heatmaps.decode_peaks(m, 4, 5), input_signature=[maps]
    )
    generator = np.random.default_rng(0)
    for size in ((3, 1), (9, 7)):
        values = {
            k: tf.constant(generator.uniform(size=(2, *size, 2)), tf.float32)
            for k in maps
        }
        graph, eager = decode(values), heatmaps.decode_peaks(values, 4, 5)
        for name in eager:
            np.testing.assert_allclose(graph[name], eager[name], rtol=1e-6)
