"""Polygons and run lengths against pictures by hand and against pycocotools."""

import json
import pathlib

import numpy as np
import pytest

from mlcvtf.data.segments import draw_polygon, read_masks, run_lengths
from tests.case import shared_data

# Written by make_segments.py with pycocotools.
FIXTURE = pathlib.Path(__file__).with_name("segments.json")


def test_run_lengths_are_those_of_pycocotools():
    for case in json.loads(FIXTURE.read_text()):
        height, width = case["size"]
        plain = {"counts": case["plain"], "size": case["size"]}
        mask = run_lengths(plain, height, width)
        compressed = {"counts": case["compressed"], "size": case["size"]}
        np.testing.assert_array_equal(run_lengths(compressed, height, width), mask)
        assert mask.sum() == case["area"]
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert [columns.min(), rows.min(), np.ptp(columns) + 1,
                    np.ptp(rows) + 1] == case["bbox"]


def test_polygons_are_near_those_of_pycocotools():
    """It rounds vertices outwards, by up to a pixel."""
    checked = 0
    for case in json.loads(FIXTURE.read_text()):
        if not case["polygons"]:
            continue
        height, width = case["size"]
        theirs = run_lengths({"counts": case["plain"], "size": case["size"]}, height,
                             width)
        (ours,) = read_masks([case["polygons"]], 1, height, width)
        grown = np.pad(theirs, 1)
        near = [grown[1 + i:1 + i + height, 1 + j:1 + j + width]
                for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert (ours <= np.max(near, axis=0)).all()
        assert (ours >= np.min(near, axis=0)).all()
        both = (ours & theirs).sum() / max(1, (ours | theirs).sum())
        assert both > 0.85 or theirs.sum() < 60
        checked += 1
    assert checked >= 5


def test_a_polygon_is_filled_by_the_middles_of_pixels():
    # A triangle, worked out by hand; reaching out of the picture is cut.
    expected = [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert draw_polygon([3.9, 0, 0.9, 3, 9, 3], 3, 4).tolist() == expected
    square = draw_polygon([-5, -5, 9, -5, 9, 9, -5, 9], 3, 4)
    assert square.all()
    # A hole by the even-odd rule: the inner square is gone through backwards or not.
    ring = [0, 0, 6, 0, 6, 6, 0, 6, 0, 0, 2, 2, 4, 2, 4, 4, 2, 4, 2, 2]
    filled = draw_polygon(ring, 6, 6)
    assert not filled[2:4, 2:4].any() and filled.sum() == 32


def test_objects_have_one_mask_each():
    masks = read_masks(
        [[[0, 0, 2, 0, 2, 2, 0, 2], [2, 2, 4, 2, 4, 3, 2, 3]], None,
         {"counts": [3, 3, 6], "size": [3, 4]}], 3, 3, 4)
    assert masks.dtype == np.uint8
    assert masks[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]
    assert not masks[1].any()
    assert masks[2].tolist() == [[0, 1, 0, 0]] * 3
    assert read_masks((), 2, 3, 4).shape == (2, 3, 4)


@pytest.mark.parametrize("segment, rule", [
    ("text", "a list of polygons or run lengths, received text"),
    ([[0, 0, 1, 1]], "three points"), ([[0, 0, 1, 1, 2]], "three points"),
    ([[0, 0, 1, 1, 2, "x"]], "three points"), ([7], "three points"),
    ([[0, 0, 1, 1, 2, float("nan")]], "three points"),
    ({"counts": [12], "size": [4, 3]}, "3 rows and 4 columns"),
    ({"counts": [11], "size": [3, 4]}, "add up to 12"),
    ({"counts": [13, -1], "size": [3, 4]}, "add up to 12"),
    ({"size": [3, 4]}, "add up to 12"), ({"counts": [12]}, "3 rows"),
    ({"counts": "\x00", "size": [3, 4]}, "no run lengths"),
    ({"counts": "o" * 99, "size": [3, 4]}, "no run lengths"),
])
def test_what_is_no_segmentation_is_named(segment, rule):
    with pytest.raises(ValueError, match=rule):
        read_masks([segment], 1, 3, 4)


@pytest.mark.peer
def test_the_shared_set_agrees_with_pycocotools():
    api = pytest.importorskip("pycocotools.mask", reason="needs pycocotools (coco)")
    content = json.loads((shared_data("coco_mini") / "val.json").read_text())
    size = {one["id"]: (one["height"], one["width"]) for one in content["images"]}
    ratios = []
    for annotation in content["annotations"]:
        polygons = annotation.get("segmentation")
        if not polygons:
            continue
        height, width = size[annotation["image_id"]]
        packed = api.merge(api.frPyObjects(polygons, height, width))
        theirs = api.decode(packed)
        packed["counts"] = packed["counts"].decode()
        np.testing.assert_array_equal(run_lengths(packed, height, width), theirs)
        (ours,) = read_masks([polygons], 1, height, width)
        if theirs.sum() >= 400:
            ratios.append((ours & theirs).sum() / (ours | theirs).sum())
    assert len(ratios) > 100 and min(ratios) > 0.85 and np.mean(ratios) > 0.95
