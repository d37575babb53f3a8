"""COCO JSON against numbers that were worked out by hand."""

import json

import numpy as np
import pytest

from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.errors import InputError
from tests.case import shared_data
from tests.data.made_sets import coco, noise, write, write_coco


def test_boxes_labels_and_flags(tmp_path):
    found = read_coco(write_coco(tmp_path))
    assert found.kind == "boxes"
    # Ascending by the file's numbers, 3 before 7.
    assert found.names == ("dog", "cat") and found.category_ids == (3, 7)
    assert [len(record.boxes) for record in found.records] == [0, 1, 2, 3]
    last = found.records[3]
    np.testing.assert_array_equal(
        last.boxes, [[0, 3, 4, 8.5], [2.5, 3, 6.5, 8.5], [5, 3, 9, 8.5]])
    assert last.boxes.dtype == np.float32 and last.labels.dtype == np.int32
    assert last.labels.tolist() == [1, 0, 1]
    assert last.crowd.tolist() == [False, False, True]
    assert not last.difficult.any()
    assert (last.width, last.height) == (40, 30)
    assert last.image.member == "3.png"
    assert found.records[0].boxes.shape == (0, 4)


def test_difficult_objects_are_marked_and_no_target(tmp_path):
    content = coco()
    content["annotations"][-1]["difficult"] = 1
    found = read_coco(write_coco(tmp_path, content))
    marks = [record.difficult.tolist() for record in found.records]
    assert marks == [[], [False], [False, False], [False, False, True]]
    _, targets = Examples(found, (30, 40)).example(3)
    assert targets["labels"].tolist() == [1, 0, -1]


@pytest.mark.parametrize("annotations, images", [
    ("train.json", "train"), ("train.json", "images"), ("train.json", "."),
    ("annotations/instances_train.json", "train"),
])
def test_pictures_are_found_beside(tmp_path, annotations, images):
    path = write(tmp_path / annotations, json.dumps(coco(1)))
    picture = write(tmp_path / images / "0.png", noise(0))
    assert read_coco(path).records[0].image.path == str(picture)
    elsewhere = write(tmp_path / "elsewhere" / "0.png", noise(0))
    found = read_coco(path, elsewhere.parent)
    assert found.records[0].image.path == str(elsewhere)


def test_a_name_that_two_categories_have_gets_their_number(tmp_path):
    content = coco()
    content["categories"].append({"id": 9, "name": "cat"})
    found = read_coco(write_coco(tmp_path, content))
    assert found.names == ("dog", "cat (7)", "cat (9)")


def test_key_points_are_middles_of_pixels_and_unknown_ones_nan(tmp_path):
    content = coco(3)
    # The second object of the third picture; the first has none.
    content["annotations"][2]["keypoints"] = [3, 4, 2, 0, 0, 0, 7, 1, 1]
    found = read_coco(write_coco(tmp_path, content, 3))
    assert found.records[1].landmarks is None
    points = found.records[2].landmarks
    assert points.shape == (2, 3, 2) and points.dtype == np.float32
    assert np.isnan(points[0]).all()
    np.testing.assert_array_equal(points[1], [[3.5, 4.5], [np.nan] * 2, [7.5, 1.5]])
    # 40x30 twice as large, and padding rows as unknown as the others.
    targets = Examples(found, (60, 80)).example(2)[1]
    np.testing.assert_array_equal(targets["landmarks"], points * 2)
    assert np.isnan(Examples(found, (60, 80)).example(0)[1]["landmarks"]).all()
    content["annotations"][1]["keypoints"] = [3, 4, 2]
    with pytest.raises(InputError, match=r"number of key points, 2.png .* \[1, 3\]"):
        read_coco(write_coco(tmp_path, content, 3))


def broken(change):
    content = coco()
    change(content)
    return content


@pytest.mark.parametrize("change, message", [
    (lambda c: c.pop("images"), "has the lists images"),
    (lambda c: c.update(annotations={}), "has the lists images"),
    (lambda c: c["annotations"][0].pop("bbox"), "has the lists images"),
    (lambda c: c["annotations"][4].pop("bbox"), "number 4 .*'bbox'"),
    (lambda c: c["annotations"][4].update(bbox=[1, 2, 3]), "number 4 .*not enough"),
    (lambda c: c["annotations"][4].update(bbox=[1, 2, 3, "x"]), "number 4 .*'x'"),
    (lambda c: c["annotations"][4].update(bbox=[1, 2, 3, float("nan")]), "number 4 "),
    (lambda c: c["annotations"][4].update(bbox=None), "number 4 "),
    (lambda c: c["annotations"][4].update(keypoints=[1, 2]), "number 4 "),
    (lambda c: c["annotations"][4].update(keypoints=["x", 1, 2]), "number 4 .*'x'"),
    (lambda c: c["annotations"][4].update(image_id=5), "unknown 5"),
    (lambda c: c["annotations"][4].update(image_id=[5]), "number 4 "),
    (lambda c: c["annotations"][4].update(category_id=5), "unknown 5"),
    (lambda c: c["images"].append(c["images"][0]), "id of its own"),
    (lambda c: c["images"].append(3), "id of its own"),
    (lambda c: c["categories"].append({"id": "3"}), "has both"),
    (lambda c: c["images"][0].pop("file_name"), "file_name"),
    (lambda c: c["images"][0].update(file_name="../0.png"), "stays in its folder"),
    (lambda c: c["images"][0].update(file_name="/etc/0.png"), "stays in its folder"),
    (lambda c: c["images"][0].update(width=0), "whole numbers over 0"),
    (lambda c: c["images"][0].pop("width"), "whole numbers over 0"),
])
def test_what_is_not_of_the_form_is_named(tmp_path, change, message):
    path = write_coco(tmp_path, broken(change))
    with pytest.raises(InputError, match=message) as caught:
        read_coco(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [
    "", "{", '{"images": [', "\xff", "[" * 100_000, "1" * 10_000,
], ids=["empty", "cut", "cut list", "no UTF-8", "deep", "digits"])
def test_malformed_json_is_one_line(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="bad.json") as caught:
        read_coco(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="none.json: No such file"):
        read_coco(tmp_path / "none.json")
    path = write_coco(tmp_path)
    with pytest.raises(InputError, match="none.zip is neither: No such file"):
        read_coco(path, tmp_path / "none.zip")


def test_counts_of_the_shared_sets():
    for name, pictures, boxes in (("coco_mini", 284, 2171), ("bccd", 205, 2804),
                                  ("penn_fudan", 99, 240)):
        found = read_coco(shared_data(name) / "train.json")
        assert len(found.records) == pictures
        assert sum(len(record.boxes) for record in found.records) == boxes
    image, targets = Examples(found, (64, 96)).example(0)
    # FudanPed00004.jpg: 320x321 pixels, first box [134.95, 47.71, 126.87, 225.59].
    assert image.shape == (64, 96, 3) and not image[:, 64:].any() and image.any()
    np.testing.assert_allclose(
        targets["boxes"][0],
        [134.95 / 5, 47.71 * 64 / 321, 261.82 / 5, 273.3 * 64 / 321], rtol=1e-5)
