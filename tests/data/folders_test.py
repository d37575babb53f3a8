"""Folders per class, masks, pairs, tables; from folders and from archives."""

import numpy as np
import pytest

from mlcvtf.data import folders, tables
from mlcvtf.errors import InputError
from tests.case import shared_data
from tests.data.made_sets import noise, write, write_zip


def pictures(*names):
    return {name: noise(i) for i, name in enumerate(names)}


def test_the_folder_is_the_class(tmp_path):
    files = pictures("dog/a.png", "cat/deep/b.png", "cat/c.png", "dog/.hidden.png",
                     "__MACOSX/dog/a.png")
    for name, image in files.items():
        write(tmp_path / "set" / name, image)
    write(tmp_path / "set/readme.txt", "no picture")
    archive = write_zip(tmp_path / "set.zip", files)
    for root in (tmp_path / "set", archive):
        found = folders.read_class_folders(root)
        assert found.names == ("cat", "dog") and found.kind == "label"
        assert [record.label for record in found.records] == [0, 0, 1]
    chosen = folders.read_class_folders(archive, names=("dog", "ox", "cat"))
    assert [record.label for record in chosen.records] == [2, 2, 0]


def test_class_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="neither"):
        folders.read_class_folders(tmp_path / "none")
    with pytest.raises(InputError, match="no pictures"):
        folders.read_class_folders(tmp_path)
    write(tmp_path / "cat/a.png", noise(0))
    with pytest.raises(InputError, match="the classes are dog, received cat"):
        folders.read_class_folders(tmp_path, names=("dog",))
    with pytest.raises(InputError, match="some twice"):
        folders.read_class_folders(tmp_path, names=("cat", "cat"))
    write(tmp_path / "loose.png", noise(0))
    with pytest.raises(InputError, match="loose.png in none"):
        folders.read_class_folders(tmp_path)


def test_masks_and_partners_are_called_alike(tmp_path):
    images = write_zip(tmp_path / "i.zip", pictures("a.jpg", "b.png", "d/c.png"))
    masks = write_zip(tmp_path / "m.zip", pictures("a.png", "d/c_mask.png", "z.png"))
    found = folders.read_masks(images, masks, ("sky", "road"))
    assert [r.mask and r.mask.member for r in found.records] == [
        "a.png", None, "d/c_mask.png"]
    assert found.kind == "mask" and found.names == ("sky", "road")
    pairs = folders.read_pairs(images, masks)
    assert pairs.kind == "pair" and pairs.records[0].pair.member == "a.png"
    assert pairs.records[0].mask is None
    twice = write_zip(tmp_path / "t.zip", pictures("a.png", "a.jpg"))
    with pytest.raises(InputError, match="two called a"):
        folders.read_masks(images, twice)
    empty = write_zip(tmp_path / "e.zip", {})
    with pytest.raises(InputError, match="e.zip has none"):
        folders.read_masks(empty, masks)


def test_tables(tmp_path):
    table = write(tmp_path / "t.csv", "file,class,mask\nb.png,dog,m.png\na.png,cat,n\n")
    archive = write_zip(tmp_path / "t.zip", pictures("a.png", "b.png"))
    found = tables.read_class_table(table, archive)
    assert [(r.image.member, r.label) for r in found.records] == [
        ("b.png", 1), ("a.png", 0)]
    masks = tables.read_mask_table(table, archive, archive, mask="mask")
    assert [r.mask.member for r in masks.records] == ["m.png", "n"]
    with pytest.raises(InputError, match="lacks colour"):
        tables.read_class_table(table, archive, label="colour")


@pytest.mark.parametrize("text, message", [
    ("file,class\n", "has none"),
    ("file,class\na.png,\n", "row 2"),
    ("file,class\na.png,cat\nb.png\n", "row 3"),
    ("file,class\n../a.png,cat\n", "stays in its folder"),
    (b"file,class\n\xff,cat\n", "UTF-8"),
])
def test_bad_tables_are_named(tmp_path, text, message):
    table = write(tmp_path / "t.csv", text)
    archive = write_zip(tmp_path / "t.zip", {})
    with pytest.raises(InputError, match=message):
        tables.read_class_table(table, archive)


def test_counts_of_the_shared_sets():
    clothing = shared_data("clothing10")
    found = tables.read_class_table(clothing / "train.csv", clothing / "train.zip")
    counts = np.bincount([record.label for record in found.records])
    assert len(found.records) == 3068
    assert counts[found.names.index("t-shirt")] == 795
    fudan = shared_data("penn_fudan")
    masks = folders.read_masks(fudan / "val.zip", fudan / "val_masks.zip")
    assert len(masks.records) == 30 and all(r.mask for r in masks.records)
