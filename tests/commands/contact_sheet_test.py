"""What the contact sheet shows, on a canvas whose pixels can be counted."""

import numpy as np
import pytest
from PIL import Image

from mlcvtf.commands import contact_sheet
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet, with_boxes
from mlcvtf.errors import InputError
from tests.data.made_sets import encoded

WIDTH, HEIGHT, STRIP = (contact_sheet.WIDTH, contact_sheet.HEIGHT, contact_sheet.STRIP)


def grey(width=160, height=128):
    return Place("grey.png", data=encoded(np.full((height, width, 3), 128, np.uint8)))


def test_boxes_are_where_they_belong_in_their_colour():
    record = with_boxes(grey(), (160, 128), [(40, 32, 80, 64)] * 7, [1] * 7)
    tile = contact_sheet.tile(record, ("cat", "dog"))
    assert tile.shape == (HEIGHT + STRIP, WIDTH, 3)
    # Twice the size; seven boxes are too many for labels.
    rows, columns = np.nonzero((tile == contact_sheet.colour(1)).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (80, 64, 160, 128)
    few = contact_sheet.tile(record._replace(boxes=record.boxes[:1],
                                             labels=record.labels[:1]), ("cat", "dog"))
    plate = (few[:64] == contact_sheet.colour(1)).all(-1)
    assert plate.sum() > 200, "a label stands above the box"


def test_masks_are_tinted_by_value():
    values = np.zeros((128, 160), np.uint8)
    values[:, 80:] = 1
    record = Record(grey(), mask=Place("mask.png", data=encoded(values)))
    tile = contact_sheet.tile(record, ())
    assert (tile[100, 80] == 128).all()
    mixed = 0.45 * 128 + 0.55 * np.array(contact_sheet.colour(1))
    np.testing.assert_allclose(tile[100, 240], mixed, atol=1)
    other = Record(grey(), mask=Place("mask.png", data=encoded(values[:5])))
    assert (contact_sheet.tile(other, ())[100, 240] == 128).all()


def test_a_picture_that_cannot_be_read_says_so():
    record = Record(Place("bad.png", data=b"x"), label=0)
    tile = contact_sheet.tile(record, ("cat",))
    assert ((tile == (190, 40, 40)).all(-1)).sum() > 200


def test_pictures_come_from_all_over_the_set():
    parts = {"a": RecordSet([Record(grey(), label=0)] * 90, ("cat",), "label"),
             "b": RecordSet([Record(grey(), label=0)] * 10, ("dog",), "label")}
    chosen = contact_sheet.choose(parts, 20)
    assert [names for _, names in chosen] == [("cat",)] * 18 + [("dog",)] * 2
    assert len(contact_sheet.choose(parts, 500)) == 100
    sheet = contact_sheet.contact_sheet(chosen[:5])
    gap = contact_sheet.GAP
    assert sheet.shape[1] == 4 * (WIDTH + gap) + gap
    assert sheet.shape[0] > 2 * (HEIGHT + STRIP + gap) + gap, "and a legend"


def test_colours_of_neighbouring_classes_differ():
    colours = [contact_sheet.colour(label) for label in range(80)]
    assert len(set(colours)) == 80
    for one, other in zip(colours[:-1], colours[1:], strict=True):
        assert np.abs(np.subtract(one, other)).max() > 60


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    image = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    contact_sheet.write_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), image)
    with pytest.raises(InputError, match="must be writable"):
        contact_sheet.write_png(tmp_path / "no" / "a.png", image)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
