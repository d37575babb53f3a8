"""Findings on sets with one fault each."""

import numpy as np
import pytest
from PIL import Image

from mlcvtf.data.check import NOTES, PROBLEMS, check, near_duplicates
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet, with_boxes
from tests.data.made_sets import encoded, noise


def place(image, name):
    return Place(name, data=encoded(image) if isinstance(image, np.ndarray) else image)


def look(*records, kind="boxes", names=("cat", "dog")):
    return check({"all": RecordSet(records, names, kind)})


def kinds(findings):
    return {kind for found in (findings.problems, findings.notes)
            for kind, lines in found.items() if lines}


def good(seed=0, boxes=((0, 0, 40, 30),), size=(40, 30)):
    return with_boxes(place(noise(seed), f"{seed}.png"), size, boxes, [0] * len(boxes))


def test_a_clean_set_has_figures_and_no_findings():
    findings = look(good(0), good(1, [(0, 0, 10, 20), (5, 5, 25, 10)]))
    assert kinds(findings) == set()
    assert findings.parts["all"] == {
        "pictures": 2, "width": [40, 40, 40], "height": [30, 30, 30], "boxes": 3,
        "crowd": 0, "difficult": 0, "empty_pictures": 0, "most_boxes": 2,
        "box_width": [10, 20, 40], "box_height": [5, 20, 30],
        "classes": {"cat": 3, "dog": 0}}


@pytest.mark.parametrize("record, kind, line", [
    (with_boxes(place(b"x", "a.png"), (40, 30), [], []), "unreadable", "a.png (1 byte"),
    (with_boxes(place(encoded(noise(1))[:80], "a.png"), (40, 30), [(0, 0, 1, 1)], [0]),
     "unreadable", "truncated"),
    (good(1, size=(30, 40)), "size", "1.png: 40x30, annotated 30x40"),
    (good(1, [(3, 3, 3, 9)]), "empty_box", "1.png: (3, 3, 3, 9)"),
    (good(1, [(9, 3, 3, 9)]), "empty_box", "1.png: (9, 3, 3, 9)"),
    (good(1, [(0, 0, 41.5, 9)]), "out_of_range_box", "(0, 0, 41.5, 9) in 40x30"),
    (good(1, [(0, -2, 4, 9)]), "out_of_range_box", "(0, -2, 4, 9)"),
    (good(1, [(0, -2, 4, 9)], None), "out_of_range_box", "in 40x30"),
    (good(0), "duplicate", "0.png = 0.png"),
    (good(1, []), "empty", "1.png"),
], ids=range(10))
def test_each_fault_is_found_and_named(record, kind, line):
    findings = look(good(0), record)
    # A box in a picture of another size may be out of it as well.
    assert kind in kinds(findings) and kinds(findings) <= {kind, "out_of_range_box",
                                                           "empty"}
    lines = (findings.problems | findings.notes)[kind]
    assert len(lines) == 1 and line in lines[0]


def test_boxes_of_an_unreadable_picture_are_judged_by_its_annotation():
    record = with_boxes(place(b"x", "a.png"), (40, 30), [(0, 0, 90, 9)], [0])
    assert kinds(look(record)) == {"unreadable", "out_of_range_box"}


def test_masks():
    def mask(width=40, value=3):
        image = np.zeros((30, width), np.uint8)
        image[:15] = value
        return place(image, "mask.png")

    findings = look(
        Record(place(noise(0), "0.png"), mask=mask()),
        Record(place(noise(1), "1.png"), mask=mask(41)),
        Record(place(noise(2), "2.png")),
        Record(place(noise(3), "3.png"), mask=place(b"x", "bad.png")),
        kind="mask", names=())
    assert findings.problems["mask_size"] == ["mask.png: 41x30, the picture 40x30"]
    assert findings.problems["mask"][0] == "2.png has none"
    assert "bad.png" in findings.problems["mask"][1]
    assert findings.parts["all"]["mask_values"] == {"0": 0.5, "3": 0.5}


def test_duplicates_are_found_across_parts():
    parts = {name: RecordSet([Record(place(noise(0), f"{name}.png"), label=0)],
                             ("cat",), "label") for name in ("train", "val")}
    findings = check(parts)
    assert findings.problems["duplicate"] == ["train.png = val.png"]
    assert findings.notes["near_duplicate"] == []


def test_near_duplicates_are_copies_and_not_other_pictures():
    image = noise(0, 160, 120)
    small = np.asarray(Image.fromarray(image).resize((80, 60)))
    records = [Record(place(image, "a"), label=0),
               Record(place(encoded(image, "jpg", quality=60), "b"), label=0),
               Record(place(small, "c"), label=0),
               Record(place(image[:, ::-1].copy(), "mirrored"), label=0)]
    records += [Record(place(noise(i, 160, 120), f"{i}"), label=0)
                for i in range(1, 30)]
    flat = [np.full((30, 40, 3), value, np.uint8) for value in (90, 91)]
    records += [Record(place(f, f"flat{i}"), label=0) for i, f in enumerate(flat)]
    findings = look(*records, kind="label")
    assert findings.notes["near_duplicate"] == ["a ~ b", "a ~ c", "b ~ c"]


def test_near_duplicates_beyond_one_block_of_rows(monkeypatch):
    from mlcvtf.data import check as module

    monkeypatch.setattr(module, "ROWS", 3)
    seen = [module._Seen(str(i), bytes([i]), noise(i % 5, 17, 16)[..., 0])
            for i in range(10)]
    assert near_duplicates(seen) == [f"{i} ~ {i + 5}" for i in range(5)]


def test_an_empty_set_is_no_error():
    assert kinds(look()) == set()
    assert set(PROBLEMS).isdisjoint(NOTES)
