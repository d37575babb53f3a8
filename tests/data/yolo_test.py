"""YOLO text: fractions of a picture whose size only the picture knows."""

import io

import numpy as np
import pytest
from PIL import Image

from mlcvtf.data import yolo
from mlcvtf.errors import InputError
from tests.data.made_sets import noise, write


@pytest.fixture
def root(tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        write(tmp_path / f"images/{split}/{name}.png", noise(ord(name)))
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.5 1 1\n\n0 0.25 0.5 0.1 0.2\n")
    write(tmp_path / "labels/val/c.txt", "2 0.1 0.2 0.5 0.2 0.3 0.9\n")
    write(tmp_path / "classes.txt", "cat\ndog\nox\n")
    return tmp_path


def test_fractions_become_pixels(root):
    found = yolo.read_yolo(root)
    assert found.names == ("cat", "dog", "ox")
    a, b, c = found.records
    np.testing.assert_allclose(a.boxes, [[0, 0, 40, 30], [8, 12, 12, 18]], rtol=1e-6)
    assert a.labels.tolist() == [1, 0] and (a.width, a.height) == (40, 30)
    assert b.boxes.shape == (0, 4)
    # The bounds of a triangle.
    np.testing.assert_allclose(c.boxes, [[4, 6, 20, 27]], rtol=1e-6)


def test_a_split_is_a_folder(root):
    assert len(yolo.read_yolo(root, split="train").records) == 2
    with pytest.raises(InputError, match="has none in test"):
        yolo.read_yolo(root, split="test")


def test_text_beside_the_picture_and_numbers_for_names(tmp_path):
    write(tmp_path / "x.png", noise(0))
    write(tmp_path / "x.txt", "3 0.5 0.5 0.5 0.5")
    found = yolo.read_yolo(tmp_path)
    assert found.names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(found.records[0].boxes, [[10, 7.5, 30, 22.5]])


def test_a_picture_on_its_side_is_measured_upright(tmp_path):
    """EXIF orientation 6: what is stored as 40x30 shows as 30x40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(noise(0)).save(file, "jpeg", exif=exif)
    write(tmp_path / "x.jpg", file.getvalue())
    write(tmp_path / "x.txt", "0 0.5 0.5 1 1")
    record, = yolo.read_yolo(tmp_path).records
    assert (record.width, record.height) == (30, 40)
    np.testing.assert_array_equal(record.boxes, [[0, 0, 30, 40]])


@pytest.mark.parametrize("text, names", [
    ("nc: 2\nnames: [cat, 'big dog']\n", ("cat", "big dog")),
    ("names:\n  0: cat\n  1: \"dog\" # good\npath: x\n", ("cat", "dog")),
    ("path: .\nnames:\n- cat\n- dog", ("cat", "dog")),
    ("names: [cat,\n  dog]\n", ("cat", "dog")),
])
def test_names_of_yaml(text, names):
    assert yolo.names_of_yaml(text, "data.yaml") == names


@pytest.mark.parametrize("text", ["nc: 2\n", "names:\n", "names:\n  1: cat\n"])
def test_yaml_without_a_list_of_names_is_named(tmp_path, text):
    write(tmp_path / "x.png", noise(0))
    write(tmp_path / "data.yaml", text)
    with pytest.raises(InputError, match="data.yaml"):
        yolo.read_yolo(tmp_path)


@pytest.mark.parametrize("line", [
    "0 0.5 0.5 1", "0 0.5 0.5 1 x", "0 0.5 0.5 1 nan", "0 0.5 0.5 1 inf",
    "0.5 0.5 0.5 1 1", "-1 0.5 0.5 1 1", "nan 0.5 0.5 1 1", "0 0.5 0.5 1 1 1",
    "3 0.5 0.5 1 1", "inf 0.5 0.5 1 1", "999999999999 0.5 0.5 1 1",
])
def test_a_bad_line_is_named(root, line):
    write(root / "labels/train/b.txt", f"0 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(InputError, match="line 2 of .*labels/train/b.txt") as caught:
        yolo.read_yolo(root)
    assert "\n" not in str(caught.value)


def test_text_that_is_none_and_folders_that_are_none(root, tmp_path):
    write(root / "labels/train/b.txt", b"\xff\xfe\xff")
    with pytest.raises(InputError, match="b.txt: it is not UTF-8"):
        yolo.read_yolo(root)
    with pytest.raises(InputError, match="is none"):
        yolo.read_yolo(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has none"):
        yolo.read_yolo(tmp_path / "empty")


def test_a_picture_that_cannot_be_read_has_no_boxes(root):
    write(root / "images/train/a.png", b"no picture")
    record = yolo.read_yolo(root).records[0]
    assert record.width is None and len(record.boxes) == 0
