"""VOC XML: pixels from 1, difficult objects, and XML that is out to harm."""

import numpy as np
import pytest

from mlcvtf.data import voc
from mlcvtf.errors import InputError
from tests.data.made_sets import noise, voc_xml, write

OBJECTS = [("dog", 1, 1, 40, 30, 0), ("cat", 11, 6, 20, 10, 1)]


@pytest.fixture
def root(tmp_path):
    for name, objects in (("one", OBJECTS), ("two", []), ("three", OBJECTS[:1])):
        write(tmp_path / "JPEGImages" / f"{name}.png", noise(len(name)))
        write(tmp_path / "Annotations" / f"{name}.xml",
              voc_xml(objects, name=f"{name}.png"))
    write(tmp_path / "ImageSets/Main/val.txt", "three\none 1\n")
    return tmp_path


def test_pixels_count_from_one_and_the_last_is_inside(root):
    found = voc.read_voc(root)
    assert found.names == ("cat", "dog")
    one = found.records[0]
    # The whole picture; and columns 11 to 20, rows 6 to 10, counted from 1.
    np.testing.assert_array_equal(one.boxes, [[0, 0, 40, 30], [10, 5, 20, 10]])
    assert one.labels.tolist() == [1, 0]
    assert one.difficult.tolist() == [False, True] and not one.crowd.any()
    assert (one.width, one.height) == (40, 30)
    assert one.image.path.endswith("JPEGImages/one.png")
    assert [len(record.boxes) for record in found.records] == [2, 1, 0]


def test_a_split_and_classes_are_chosen(root):
    found = voc.read_voc(root, "val", names=("dog", "horse", "cat"))
    assert [r.image.path.rsplit("/", 1)[1] for r in found.records] == [
        "three.png", "one.png"]
    assert found.records[1].labels.tolist() == [0, 2]
    with pytest.raises(InputError, match="dog, horse, received cat in"):
        voc.read_voc(root, names=("dog", "horse"))
    with pytest.raises(InputError, match="train.txt: No such file"):
        voc.read_voc(root, "train")
    write(root / "ImageSets/Main/val.txt", "four\n")
    with pytest.raises(InputError, match="four has none"):
        voc.read_voc(root, "val")


def test_files_side_by_side_with_a_stale_name(tmp_path):
    write(tmp_path / "b.jpg", noise(1))
    write(tmp_path / "b.xml", voc_xml(OBJECTS, 0, 0, "C:\\photos\\a.jpg"))
    record, = voc.read_voc(tmp_path).records
    assert record.image.path == str(tmp_path / "b.jpg")
    assert record.width is None and len(record.boxes) == 2


def test_parts_of_an_object_are_no_objects(tmp_path):
    part = ("<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax>"
            "<ymax>5</ymax></bndbox></part></object>")
    text = voc_xml(OBJECTS[:1]).replace("</object>", part)
    _, _, objects = voc.parse_objects(write(tmp_path / "a.xml", text))
    assert objects == [("dog", (0, 0, 40, 30), False)]


LAUGHS = ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ha">' + "".join(
    f'<!ENTITY b{i} "{"&b;" * 10}">' for i in range(9)) + "]><annotation>&b8;"
    "</annotation>")
OUTSIDE = ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
           "<annotation>&b;</annotation>")


@pytest.mark.parametrize("text, message", [
    (LAUGHS, "no document type"),
    (OUTSIDE, "no document type"),
    ("<!DOCTYPE annotation><annotation/>", "no document type"),
    ("", "must be whole XML"),
    ("<annotation>", "must be whole XML"),
    ("<annotation>&b;</annotation>", "must be whole XML"),
    ('<?xml version="1.0" encoding="nobody-9"?><a/>', "must be whole XML"),
    ("<a>" * 50 + "</a>" * 50, "at most 32 deep"),
    ("<a>" + " " * voc.MAX_BYTES + "</a>", "at most 10000000 bytes"),
    (voc_xml([("dog", 1, "x", 2, 3, 0)]), "four numbers"),
    (voc_xml([("dog", 1, "nan", 2, 3, 0)]), "four numbers"),
    (voc_xml([("dog", 1, "1e999", 2, 3, 0)]), "four numbers"),
    (voc_xml([("dog", 1, 1, 2, 3, "x")]), "four numbers"),
    (voc_xml([("", 1, 1, 2, 3, 0)]), "without a name"),
    (voc_xml(OBJECTS).replace("<ymax>30</ymax>", ""), "four numbers"),
    (voc_xml(OBJECTS, "x"), "four numbers"),
], ids=range(16))
def test_hostile_and_malformed_xml_is_one_line(tmp_path, text, message):
    write(tmp_path / "bad.xml", text)
    with pytest.raises(InputError, match=message) as caught:
        voc.read_voc(tmp_path)
    assert "bad.xml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_xml_is_named(tmp_path):
    with pytest.raises(InputError, match="has none"):
        voc.read_voc(tmp_path)
