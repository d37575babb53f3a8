"""Every form is recognised by its files and read with its parts."""

import json

import pytest

from mlcvtf.data import formats
from mlcvtf.errors import InputError
from tests.data.made_sets import coco, noise, voc_xml, write, write_coco, write_zip


def as_coco(folder):
    write_coco(folder)
    write_coco(folder, name="val")
    write(folder / "train_captions.json", json.dumps([{"image_id": 10}]))
    write(folder / "stuff.json", json.dumps(
        {"images": [], "annotations": [{"segments_info": []}], "categories": []}))
    return {"train": 4, "val": 4}


def as_published_coco(folder):
    write(folder / "train2017/0.png", noise(0))
    write(folder / "annotations/instances_train2017.json", json.dumps(coco(1)))
    return {"instances_train2017": 1}


def as_voc(folder):
    write(folder / "JPEGImages/one.png", noise(0))
    write(folder / "Annotations/one.xml", voc_xml([("dog", 1, 1, 5, 5, 0)]))
    return {"all": 1}


def as_yolo(folder):
    write(folder / "images/one.png", noise(0))
    write(folder / "labels/one.txt", "0 0.5 0.5 1 1")
    return {"all": 1}


def as_flat_yolo(folder):
    write(folder / "one.png", noise(0))
    write(folder / "one.txt", "0 0.5 0.5 1 1")
    return {"all": 1}


def as_masks(folder):
    write(folder / "images/one.png", noise(0))
    write(folder / "masks/one.png", noise(0)[..., 0])
    return {"all": 1}


def as_packed_masks(folder):
    for name in ("train", "val"):
        write_zip(folder / f"{name}.zip", {"one.png": noise(0)})
        write_zip(folder / f"{name}_labels.zip", {"one_label.png": noise(0)[..., 0]})
    return {"train": 1, "val": 1}


def as_table(folder):
    write_zip(folder / "train.zip", {"one.png": noise(0)})
    write(folder / "train.csv", "file,class\none.png,cat\n")
    return {"train": 1}


def as_classes(folder):
    write(folder / "cat/one.png", noise(0))
    write(folder / "dog/two.png", noise(1))
    write(folder / "info.json", "{}")
    return {"all": 2}


FORMS = [("coco", as_coco), ("coco", as_published_coco), ("voc", as_voc),
         ("yolo", as_yolo), ("yolo", as_flat_yolo), ("masks", as_masks),
         ("masks", as_packed_masks), ("table", as_table), ("classes", as_classes)]


@pytest.mark.parametrize("form, make", FORMS, ids=[m.__name__ for _, m in FORMS])
def test_is_recognised_and_read(tmp_path, form, make):
    expected = make(tmp_path)
    assert formats.recognise(tmp_path) == form
    parts = formats.read_folder(tmp_path, form)
    assert {name: len(part.records) for name, part in parts.items()} == expected


def test_every_form_is_tried():
    assert {form for form, _ in FORMS} == set(formats.FORMATS)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="is in none"):
        formats.recognise(tmp_path)
    for call in (formats.recognise, lambda f: formats.read_folder(f, "coco")):
        with pytest.raises(InputError, match="none is none"):
            call(tmp_path / "none")
    for form in formats.FORMATS:
        with pytest.raises(InputError):
            formats.read_folder(tmp_path, form)
