"""From a record to arrays: places of drawn things must agree with their boxes."""

import io

import numpy as np
import pytest
from PIL import Image

from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet, read_mask, with_boxes
from mlcvtf.errors import InputError
from tests.data.made_sets import encoded, noise, write


def drawn(width=60, height=40, box=(10, 5, 40, 25)):
    """A black picture with a white rectangle."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


def place(image, name="made.png"):
    return Place(name, data=encoded(image) if isinstance(image, np.ndarray) else image)


def of(*records, kind="boxes", names=("a", "b", "c")):
    return RecordSet(records, names, kind)


@pytest.mark.parametrize("fit, size", [
    ("letterbox", (60, 60)), ("letterbox", (20, 50)), ("letterbox", (120, 240)),
    ("stretch", (60, 60)), ("stretch", (80, 30)),
])
def test_the_box_frames_what_was_drawn(fit, size):
    box = (10, 5, 40, 25)
    record = with_boxes(place(drawn(box=box)), (60, 40), [box], [2])
    image, targets = Examples(of(record), size, fit).example(0)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    rows, columns = np.nonzero(image[..., 0] > 127)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(targets["boxes"][0], seen, atol=1.01)
    assert targets["labels"].tolist() == [2]


def test_letterbox_stays_in_the_corner_on_black():
    white = np.full((20, 40, 3), 255, np.uint8)
    image, _ = Examples(of(Record(place(white), label=1), kind="label"),
                        (60, 60)).example(0)
    assert (image[:30] == 255).all() and not image[30:].any()


def test_boxes_are_padded_and_crowds_left_out():
    record = with_boxes(
        place(noise(0)), None, [(0, 0, 5, 5), (1, 1, 6, 6), (2, 2, 7, 7)], [0, 1, 2],
        crowd=[False, True, False], difficult=[False, False, True])
    _, targets = Examples(of(record), (30, 40), max_boxes=4).example(0)
    assert targets["labels"].tolist() == [0, -1, -1, -1]
    np.testing.assert_array_equal(targets["boxes"][1:], np.full((3, 4), -1))
    _, targets = Examples(of(record), (30, 40), with_crowd=True).example(0)
    assert targets["labels"].tolist() == [0, 1, 2]
    assert targets["crowd"].tolist() == [False, True, True]
    with pytest.raises(InputError, match="at most max_boxes=2 boxes, received 3"):
        Examples(of(record), (30, 40), max_boxes=2)
    _, targets = Examples(of(Record(place(noise(0)))), (30, 40)).example(0)
    assert targets["boxes"].tolist() == [[-1] * 4]


@pytest.mark.parametrize("box, rule", [
    ((-3, 0, 5, 5), "inside its picture"), ((0, 0, 5, 33), "inside its picture"),
    ((4, 4, 4, 9), "a width and a height"), ((9, 4, 4, 9), "a width and a height"),
])
@pytest.mark.parametrize("known", [True, False])
def test_a_bad_box_is_named_or_clipped(box, rule, known):
    size = (40, 30) if known else None
    record = with_boxes(place(noise(0), "x.png"), size, [(1, 1, 3, 3), box], [0, 1])
    with pytest.raises(InputError, match=f"{rule}.*{box[0]}, {box[1]}.* in x.png"):
        # Before any picture is read where the annotation knows the size.
        examples = Examples(of(record), (30, 40))
        assert not known
        examples.example(0)
    _, targets = Examples(of(record), (30, 40), on_bad_box="clip").example(0)
    if "inside" in rule:
        np.testing.assert_array_equal(
            targets["boxes"][1], np.clip(box, 0, [40, 30, 40, 30]))
    else:
        assert targets["labels"].tolist() == [0, -1]


def test_a_pixel_too_far_is_clipped_silently():
    record = with_boxes(place(noise(0)), (40, 30), [(-0.5, 0, 40.9, 30)], [0])
    _, targets = Examples(of(record), (30, 40)).example(0)
    assert targets["boxes"].tolist() == [[0, 0, 40, 30]]


def test_a_picture_of_another_size_than_annotated_is_named():
    record = with_boxes(place(noise(0), "x.png"), (41, 30), [], [])
    with pytest.raises(InputError, match="x.png has 40x30 pixels, not 41x30"):
        Examples(of(record), (30, 40)).example(0)


def test_masks_keep_their_values_and_mark_the_margin():
    mask = np.zeros((30, 40), np.uint8)
    mask[:15, 20:] = 200
    record = Record(place(noise(0)), mask=place(mask))
    _, targets = Examples(of(record, kind="mask"), (20, 20)).example(0)
    expected = np.full((20, 20), -1)
    expected[:15] = 0
    expected[:8, 10:] = 200
    # Row 7 of 15 is the middle row, 15 of 30: its nearest is the first without value.
    expected[7] = 0
    expected[15:] = -1
    np.testing.assert_array_equal(targets["mask"], expected)
    assert targets["mask"].dtype == np.int32


@pytest.mark.parametrize("kind", ["mask", "pair"])
def test_a_mask_or_partner_of_another_size_or_none_is_named(kind):
    other = Record(place(noise(0), "x.png"), **{kind: place(noise(1, 41)[..., 0])})
    none = Record(place(noise(0), "y.png"))
    examples = Examples(of(other, none, kind=kind), (20, 20))
    with pytest.raises(InputError, match=f"a {kind} has the size.*x.png.*41x30"):
        examples.example(0)
    with pytest.raises(InputError, match="y.png has none"):
        examples.example(1)


def test_pairs_are_fitted_alike():
    record = Record(place(noise(0)), pair=place(noise(0)))
    image, targets = Examples(of(record, kind="pair"), (20, 20)).example(0)
    np.testing.assert_array_equal(image, targets["pair"])


def test_masks_are_numbers_in_every_encoding():
    values = np.array([[0, 1], [2, 255]], np.uint8)
    np.testing.assert_array_equal(read_mask(place(values)), values)
    # As in VOC: the indices count, not the colours that a viewer shows.
    palette = Image.new("P", (2, 2))
    palette.putdata(values.ravel().tolist())
    palette.putpalette([9, 200, 30] * 256)
    file = io.BytesIO()
    palette.save(file, "png")
    np.testing.assert_array_equal(read_mask(place(file.getvalue())), values)
    deep = np.array([[0, 300], [65535, 7]], np.uint16)
    np.testing.assert_array_equal(read_mask(place(deep)), deep)
    one_bit = np.array([[True, False]])
    np.testing.assert_array_equal(read_mask(place(one_bit)), [[1, 0]])
    grey = np.repeat(values[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read_mask(place(grey)), values)
    with pytest.raises(InputError, match="has colours"):
        read_mask(place(noise(0)))
    with pytest.raises(InputError, match="whole picture"):
        read_mask(place(encoded(noise(0))[:60]))


def mixed(bad=(2, 5), count=8):
    records = [Record(place(b"no picture" if i in bad else noise(i), f"{i}.png"),
                      label=i) for i in range(count)]
    return of(*records, kind="label", names=tuple("abcdefgh"[:count]))


def test_fail_names_the_picture():
    examples = Examples(mixed(), (30, 40))
    with pytest.raises(InputError, match="2.png"):
        examples.at(Order(8, 1, shuffle=False), 0, 2)


def test_skip_takes_the_next_of_the_order_and_counts():
    examples = Examples(mixed(bad=(2, 5, 6, 7)), (30, 40), on_bad_image="skip")
    order = Order(8, 1, seed=3)
    sequence = [order.record(4, p) for p in range(8)]
    expected = []
    for p in range(8):
        following = sequence[p:] + sequence[:p]
        expected.append(next(i for i in following if i not in (2, 5, 6, 7)))
    seen = [int(examples.at(order, 4, p)[1]["label"]) for p in range(8)]
    assert seen == expected
    assert examples.replacements == 4
    assert set(examples.replaced) == {"2.png", "5.png", "6.png", "7.png"}
    assert "10 bytes" in examples.replaced["2.png"]


def test_skip_stops_where_nothing_is_left():
    examples = Examples(mixed(range(8)), (30, 40), on_bad_image="skip")
    with pytest.raises(InputError, match="of 8 here none can"):
        examples.at(Order(8, 1), 0, 0)


def test_the_cache_reads_once(tmp_path):
    path = write(tmp_path / "x.png", noise(0))
    records = of(Record(Place(str(path)), label=1), kind="label")
    kept, fresh = (Examples(records, (30, 40), cache=c) for c in (True, False))
    image, _ = kept.example(0)
    path.unlink()
    np.testing.assert_array_equal(kept.example(0)[0], image)
    with pytest.raises(InputError, match="No such file"):
        fresh.example(0)


def test_settings_that_are_not_known():
    for setting in ("fit", "on_bad_image", "on_bad_box"):
        with pytest.raises(InputError, match=f"{setting} is one of"):
            Examples(mixed(), (8, 8), **{setting: "x"})
