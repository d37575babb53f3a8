"""OpenCV's XML: what is written is read again, and hostile files are refused."""

import dataclasses

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import load_cascade, opencv_xml, save_opencv_xml
from mlcvtf.errors import InputError
from tests.detection.viola_jones.cascades import random_cascade
from tests.detection.viola_jones.scan_test import KINDS, picture

OLD = """<?xml version="1.0"?>
<opencv_storage><made_up type_id="opencv-haar-classifier"><size>8 6</size><stages>
<_><trees>
<_><_><feature><rects><_>0 0 8 6 -1.</_><_>0 0 4 6 2.</_></rects><tilted>0</tilted>
</feature><threshold>0.25</threshold><left_node>1</left_node><right_val>0.5</right_val>
</_>
<_><feature><rects><_>4 1 2 2 -1.</_><_>4 1 1 2 2.</_></rects><tilted>1</tilted>
</feature><threshold>-0.125</threshold><left_val>-1.5</left_val><right_val>2.5</right_val>
</_></_></trees><stage_threshold>-0.75</stage_threshold><parent>-1</parent><next>-1</next>
</_></stages></made_up></opencv_storage>
"""


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "cascade.xml"
    save_opencv_xml(random_cascade(0, nodes=(1, 3), tilted=0.4), path)
    return path


def same(a, b):
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(x, y, err_msg=field.name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again(kind, tmp_path):
    cascade = random_cascade(4, **KINDS[kind])
    # Places of a third rectangle that is none are not written.
    cascade.rectangles[cascade.weights == 0] = 0
    save_opencv_xml(cascade, tmp_path / "cascade.xml")
    same(load_cascade(tmp_path / "cascade.xml"), cascade)
    assert [path.name for path in tmp_path.iterdir()] == ["cascade.xml"]


def test_a_stump_is_written_with_its_left_leaf_first(tmp_path):
    cascade = random_cascade(4)
    cascade.children[0], cascade.leaves[:2] = (-1, 0), (7, 8)
    save_opencv_xml(cascade, tmp_path / "cascade.xml")
    found = load_cascade(tmp_path / "cascade.xml")
    np.testing.assert_array_equal(found.children[0], (0, -1))
    np.testing.assert_array_equal(found.leaves[:2], (8, 7))


def test_the_old_format_is_read(tmp_path):
    path = tmp_path / "old.xml"
    path.write_text(OLD)
    cascade = load_cascade(path)
    assert cascade.window == (8, 6)
    np.testing.assert_array_equal(cascade.tree_nodes, [2])
    np.testing.assert_array_equal(cascade.children, [[1, 0], [-1, -2]])
    np.testing.assert_array_equal(cascade.leaves, [0.5, -1.5, 2.5])
    np.testing.assert_array_equal(cascade.thresholds, [0.25, -0.125])
    np.testing.assert_array_equal(cascade.tilted, [False, True])
    np.testing.assert_array_equal(cascade.stage_thresholds, [-0.75])
    np.testing.assert_array_equal(cascade.rectangles[0, 1], [0, 0, 4, 6])
    assert len(cascade.detect(picture(), min_neighbors=0)) > 0


CHANGES = {
    "LBP": (">HAAR<", ">LBP<", "its features must be HAAR, they are 'LBP'"),
    "HOG": (">BOOST<", ">TREE<", "its stages must be BOOST"),
    "window": ("<width>14<", "<width>9999999<", "sides up to 1024"),
    "half a pixel": ("<width>14<", "<width>14.5<", "a whole number is expected"),
    "small window": ("<width>14<", "<width>2<", "a window has at least 3 x 3 pixels"),
    "no window": ("<width>14</width>", "", "must hold width, it does not"),
    "not a number": ("<stageThreshold>", "<stageThreshold>x", "could not convert"),
    "not finite": ("<leafValues>", "<leafValues>nan ", "numbers must be finite"),
    "a leaf too many": ("<leafValues>", "<leafValues>1 ", "one leaf more than nodes"),
    "nodes": ("<internalNodes>", "<internalNodes>1 ", "a node has 4 numbers"),
    "three stages": ("<stages>", "<stages><_></_>", "must hold weakClassifiers"),
    "document type": (
        "<opencv_storage>",
        '<!DOCTYPE x [<!ENTITY a "b">]><opencv_storage>',
        "a document type is not allowed",
    ),
    "root": ("opencv_storage>", "html>", "its root must be opencv_storage"),
    "unfinished": ("</opencv_storage>", "", "no element found"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_cascade_is_refused(name, stored):
    old, new, rule = CHANGES[name]
    text = stored.read_text()
    assert old in text
    stored.write_text(text.replace(old, new, -1 if name == "root" else 1))
    with pytest.raises(InputError, match=rule) as caught:
        load_cascade(stored)
    assert "\n" not in str(caught.value) and str(stored) in str(caught.value)


@pytest.mark.parametrize(
    "field, place, value, rule",
    [
        ("features", 0, 10**6, "a node's feature exists"),
        ("features", 0, -1, "a node's feature exists"),
        ("children", (1, 0), 5, "a child is a later node or a leaf"),
        ("children", (1, 0), -9, "a child is a later node or a leaf"),
        ("children", (2, 0), 1, "a child is a later node or a leaf"),
        ("rectangles", (0, 0, 0), -1, "a rectangle lies in the window"),
        ("rectangles", (0, 0, 2), 15, "a rectangle lies in the window"),
        ("rectangles", (0, 1, 3), 0, "a rectangle lies in the window"),
    ],
)
def test_indices_are_checked(field, place, value, rule, tmp_path):
    cascade = random_cascade(0, nodes=(1, 3))
    # A cascade checks itself; a file can be anything.
    getattr(cascade, field)[place] = value
    path = tmp_path / "cascade.xml"
    save_opencv_xml(cascade, path)
    with pytest.raises(InputError, match=rule):
        load_cascade(path)


def test_files_that_cannot_be_read_or_written(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="expected a cascade at .*No such file"):
        load_cascade(tmp_path / "none.xml")
    with pytest.raises(InputError, match="expected a cascade at .*directory"):
        load_cascade(tmp_path)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        save_opencv_xml(random_cascade(0), tmp_path / "no" / "where.xml")
    path = tmp_path / "binary.xml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="must be a cascade of OpenCV"):
        load_cascade(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="must be a cascade of OpenCV"):
        load_cascade(path)
    monkeypatch.setattr(opencv_xml, "LARGEST_FILE", 100)
    save_opencv_xml(random_cascade(0), path)
    with pytest.raises(InputError, match="a cascade has at most 0 MiB"):
        load_cascade(path)
