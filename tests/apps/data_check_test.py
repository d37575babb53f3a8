"""The executable on small sets: printed lines, written files, exit codes."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.case import ROOT, child, shared_data
from tests.data.made_sets import coco, noise, voc_xml, write, write_coco, write_zip

APP = ROOT / "apps" / "data_check"


def data_check(folder, *more):
    return child([APP, folder, *more])


def assert_one_line(result, *parts, code=1):
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def with_faults(folder, boxes=12):
    """A set with boxes out of their picture, an empty one and a damaged picture."""
    content = coco(4)
    for i in range(boxes):
        content["annotations"].append(
            {"image_id": 11, "category_id": 3, "bbox": [0, 0, 50 + i, 5]})
    content["annotations"].append(
        {"image_id": 12, "category_id": 3, "bbox": [1, 2, 0, 5]})
    pictures = {f"{i}.png": noise(i) for i in range(3)} | {"3.png": b"no picture"}
    write_zip(folder / "train.zip", pictures)
    write(folder / "train.json", json.dumps(content))


def test_a_clean_set(tmp_path):
    write_coco(tmp_path)
    result = data_check(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "format coco",
        "train: 4 pictures, 6 boxes (at most 3 in a picture, 1 crowd, 0 difficult), 1 "
        "pictures without a box"]
    assert "  width 40 to 40, median 40" in lines
    assert "  2 classes: cat 4, dog 2" in lines
    assert lines[-3:] == ["note: pictures without any box: 1",
                          f"  {tmp_path}/train.zip:0.png", "no problems"]


def test_problems_are_named_and_counted(tmp_path):
    with_faults(tmp_path)
    findings = tmp_path / "findings.json"
    result = data_check(tmp_path, "--most=2", f"--json={findings}")
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    start = lines.index("boxes that reach out of their picture: 12")
    assert lines[start + 1] == f"  {tmp_path}/train.zip:1.png: (0, 0, 50, 5) in 40x30"
    assert lines[start + 3] == "  and 10 more"
    assert f"  {tmp_path}/train.zip:2.png: (1, 2, 1, 7)" in lines
    assert any("3.png (10 bytes) is not" in line for line in lines)
    assert lines[-1] == "14 problems"
    content = json.loads(findings.read_text())
    assert content["format"] == "coco"
    assert len(content["problems"]["out_of_range_box"]) == 12
    assert content["parts"]["train"]["classes"] == {"dog": 15, "cat": 4}
    printed = data_check(tmp_path, "--json=-")
    assert printed.returncode == 1 and json.loads(printed.stdout) == content


def test_a_sheet_is_drawn(tmp_path):
    with_faults(tmp_path)
    sheet = tmp_path / "sheet.png"
    assert data_check(tmp_path, f"--sheet={sheet}").returncode == 1
    image = np.asarray(Image.open(sheet))
    assert image.shape[0] > 280 and image.shape[1] == 4 * 328 + 8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_the_form_can_be_given(tmp_path):
    write(tmp_path / "cat/a.png", noise(0))
    write(tmp_path / "cat/a.xml", voc_xml([]))
    assert data_check(tmp_path).stdout.startswith("format classes\n")
    assert_one_line(data_check(tmp_path, "--format=voc"), "XML files", "has none")
    assert_one_line(data_check(tmp_path, "--format=x"), "format", code=2)


def test_masks_of_another_size(tmp_path):
    write(tmp_path / "images/a.png", noise(0))
    write(tmp_path / "masks/a.png", noise(0, 41)[..., 0])
    result = data_check(tmp_path)
    assert result.returncode == 1
    assert "a.png: 41x30, the picture 40x30" in result.stdout


def test_folders_that_are_none_are_one_line(tmp_path):
    assert_one_line(data_check(tmp_path / "none"), "none is none")
    assert_one_line(data_check(tmp_path), "is in none", "yolo")
    assert_one_line(child([APP]), "one argument", code=2)
    assert_one_line(data_check(tmp_path, "stray"), "one argument", code=2)


@pytest.mark.parametrize("name, text, part", [
    ("bad.json", '{"images": [], "annotations": [', "whole JSON"),
    ("bad.json", '{"images": [{}], "annotations": [], "categories": []}', "id of its"),
    ("bad.xml", "<annotation>", "whole XML"),
    ("bad.xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "no document type"),
    ("labels/bad.txt", "0 1 2", "line 1"),
], ids=["cut JSON", "no COCO", "cut XML", "entities", "short line"])
def test_malformed_annotations_are_one_line(tmp_path, name, text, part):
    write(tmp_path / name, text)
    write(tmp_path / "images/bad.png", noise(0))
    sheet = tmp_path / "sheet.png"
    result = data_check(tmp_path, f"--sheet={sheet}", f"--json={tmp_path / 'j.json'}")
    assert_one_line(result, name, part)
    assert not sheet.exists() and not (tmp_path / "j.json").exists()


def test_outputs_that_cannot_be_written_are_refused_first(tmp_path):
    write_coco(tmp_path)
    assert_one_line(data_check(tmp_path, "--sheet=a.jpg"), "ends in .png", "a.jpg")
    assert_one_line(data_check(tmp_path, f"--sheet={tmp_path}/no/a.png"), "writable")
    assert_one_line(data_check(tmp_path, f"--json={tmp_path}"), "writable")


def test_a_leak_between_train_and_val_is_found():
    result = data_check(shared_data("raccoon"))
    assert result.returncode == 1
    assert "train: 129 pictures, 138 boxes" in result.stdout
    assert "raccoon-98.jpg = " in result.stdout and "3 problems" in result.stdout


@pytest.mark.parametrize("name, line", [
    ("coco_mini", "train: 284 pictures, 2171 boxes"),
    ("bccd", "val: 87 pictures, 1137 boxes"),
    ("penn_fudan", "train: 99 pictures, 240 boxes"),
])
def test_the_shared_sets_are_clean(name, line):
    result = data_check(shared_data(name))
    assert result.returncode == 0, result.stdout
    assert line in result.stdout and result.stdout.endswith("no problems\n")
