"""Augmented batches: right boxes, equal in both paths, a function of their number."""

import numpy as np
import pytest

from mlcvtf.data import augment, datasets
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.augment_geometry import RandomAffine, RandomCrop, RandomFlip
from mlcvtf.data.augment_mixing import CopyPaste, Mosaic
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet, with_boxes
from mlcvtf.data.samples import OnPicture
from mlcvtf.errors import InputError
from tests.data.drawn import drawn, random_box, seen
from tests.data.made_sets import coco, encoded, noise, write_coco

SIZE = (64, 96)
CHAIN = (CopyPaste(0.7), Mosaic(0.5), RandomAffine(20), RandomCrop(), RandomFlip(),
         OnPicture(augment.distort), OnPicture(augment.degrade))


def assert_same(one, other):
    """Checks batches bit for bit; unknown landmarks are NaN in both."""
    (images, targets, *_), (other_images, other_targets, *_) = one, other
    np.testing.assert_array_equal(images, other_images)
    if not isinstance(targets, dict):
        targets, other_targets = {"": targets}, {"": other_targets}
    assert set(targets) == set(other_targets)
    for name, values in targets.items():
        np.testing.assert_array_equal(values, other_targets[name])
        assert values.dtype == other_targets[name].dtype


def polygon(box):
    x1, y1, x2, y2 = box
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def objects(count=6, size=(50, 80), bad=()):
    """Pictures with one rectangle each, its mask and its corners as landmarks."""
    records = []
    for i in range(count):
        box = random_box(np.random.default_rng(i), size)
        sample = drawn(box, size=size)
        data = b"no picture" if i in bad else encoded(sample.image)
        record = with_boxes(Place(f"{i}.png", data=data), size[::-1], [box], [i])
        records.append(record._replace(segments=(polygon(box),),
                                       landmarks=sample.landmarks))
    return RecordSet(records, tuple("abcdef"), "boxes")


def classes(kind, count=6):
    def place(seed):
        return Place(f"{seed}.png", data=encoded(noise(seed)))

    def mask(seed):
        return Place("mask.png", data=encoded(noise(seed)[..., 0]))

    return RecordSet([Record(place(i), label=i, mask=mask(i), pair=place(i))
                      for i in range(count)], tuple("abcdef"), kind)


def examples_of(kind="boxes", augmentations=CHAIN, **settings):
    if kind == "boxes":
        settings = {"masks": "target"} | settings
        return Examples(objects(), SIZE, augment=augmentations, **settings)
    chain = [one for one in augmentations if not getattr(one, "others", 0)]
    return Examples(classes(kind), SIZE, augment=chain, **settings)


@pytest.mark.parametrize("kind", ["boxes", "label", "mask", "pair"])
def test_both_paths_give_equal_batches_of_the_stated_form(kind):
    examples, order = examples_of(kind), Order(6, 2, seed=4)
    data = datasets.batches(examples, order, 2)
    arrays = ArrayBatches(examples, order)
    plain = ArrayBatches(examples_of(kind, ()), order)
    for number, batch in enumerate(data.as_numpy_iterator()):
        assert_same(tuple(batch), tuple(arrays[number]))
        assert not np.array_equal(batch[0], plain[number][0])
    assert number == 5
    if kind == "boxes":
        shapes = {name: (values.shape, values.dtype)
                  for name, values in batch[1].items()}
        # One box a picture, three more by the mosaic and one by copy-paste.
        assert shapes == {
            "boxes": ((2, 5, 4), np.float32), "labels": ((2, 5), np.int32),
            "landmarks": ((2, 5, 5, 2), np.float32),
            "masks": ((2, 5, *SIZE), np.uint8)}
        assert {k: v.shape for k, v in data.element_spec[1].items()} == {
            k: v[0] for k, v in shapes.items()}


def test_batches_depend_on_seed_epoch_and_position_alone():
    order = Order(6, 2, seed=4, shuffle=False)
    one, again = (ArrayBatches(examples_of(), order) for _ in range(2))
    backwards = [again[i] for i in reversed(range(6))][::-1]
    for i in range(6):
        assert_same(one[i], backwards[i])
    # The same pictures in the next epoch and with another seed, augmented anew.
    assert not np.array_equal(one[0][0], one[3][0])
    other = ArrayBatches(examples_of(), Order(6, 2, seed=5, shuffle=False))
    assert not np.array_equal(one[0][0], other[0][0])
    rest = datasets.batches(examples_of(), order, 2, start=4).as_numpy_iterator()
    for i, batch in zip((4, 5), rest, strict=True):
        assert_same(tuple(batch), tuple(one[i]))


def test_each_position_draws_for_itself():
    found = objects()
    same = found._replace(records=[found.records[0]] * 3)
    examples = Examples(same, SIZE, augment=[RandomAffine()])
    first, *others = (examples.at(Order(3, 1), 0, i)[0] for i in range(3))
    assert not any(np.array_equal(first, other) for other in others)


def test_shards_together_are_the_batch_of_one():
    whole = ArrayBatches(examples_of(), Order(6, 4, seed=1))[0]
    parts = [ArrayBatches(examples_of(), Order(6, 2, seed=1, shard_index=i,
                                               shard_count=2))[0] for i in range(2)]
    np.testing.assert_array_equal(whole[0], np.concatenate([p[0] for p in parts]))
    np.testing.assert_array_equal(
        whole[1]["boxes"], np.concatenate([p[1]["boxes"] for p in parts]))


def test_a_cache_changes_nothing():
    order = Order(6, 2)
    plain, cached = (ArrayBatches(examples_of(cache=cache), order)
                     for cache in (False, True))
    for i in (0, 1, 2, 3, 4, 5, 0):
        assert_same(tuple(plain[i]), tuple(cached[i]))


def test_an_augmentation_that_writes_into_a_sample_fails():
    def paint(sample, draw):
        sample.image[:] = 0
        return sample

    examples = examples_of(augmentations=[paint], cache=True)
    with pytest.raises(ValueError, match="read-only"):
        examples.at(Order(6, 2), 0, 0)


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_boxes_frame_what_is_drawn_after_the_whole_chain(fit):
    """One object a picture, of one colour: geometry first, then crop and fit."""
    chain = [RandomAffine(0, (0.6, 1.4), 0, 0.2), RandomCrop(), RandomFlip(0.5, 0.5)]
    examples = examples_of(augmentations=chain, fit=fit)
    order, checked = Order(6, 1), 0
    for epoch in range(10):
        for position in range(6):
            image, targets = examples.at(order, epoch, position)
            if targets["labels"][0] < 0:
                continue
            found = seen(image)
            # A pixel before the fit may be several after it.
            np.testing.assert_allclose(targets["boxes"][0], found, atol=2.5)
            rows, columns = np.nonzero(targets["masks"][0])
            mask = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            np.testing.assert_allclose(targets["boxes"][0], mask, atol=2.5)
            points = targets["landmarks"][0]
            if not np.isnan(points).any():
                frame = np.concatenate([points.min(0), points.max(0)])
                np.testing.assert_allclose(targets["boxes"][0], frame, atol=1e-2)
            checked += 1
    assert checked > 30


def test_without_augmentation_targets_are_those_of_the_record():
    image, targets = examples_of(augmentations=()).example(2)
    assert image.shape == (*SIZE, 3)
    record = objects().records[2]
    # 50x80 in 64x96 grow by 1.2.
    np.testing.assert_allclose(targets["boxes"], record.boxes * 1.2, rtol=1e-6)
    np.testing.assert_allclose(targets["landmarks"], record.landmarks * 1.2, rtol=1e-6)
    assert targets["masks"].sum() == pytest.approx(
        np.prod(record.boxes[0, 2:] - record.boxes[0, :2]) * 1.44, rel=0.1)
    assert set(examples_of(augmentations=(), masks="augment").example(2)[1]) == {
        "boxes", "labels", "landmarks"}


def test_padding_says_unknown():
    examples = Examples(objects(), SIZE, max_boxes=3, masks="target", with_crowd=True)
    _, targets = examples.example(0)
    assert targets["labels"].tolist() == [0, -1, -1]
    assert (targets["boxes"][1:] == -1).all() and not targets["crowd"].any()
    assert np.isnan(targets["landmarks"][1:]).all() and not targets["masks"][1:].any()


def test_of_too_many_boxes_the_largest_stay():
    examples = Examples(objects(), SIZE, max_boxes=2, augment=[Mosaic(1.0)])
    four = Examples(objects(), SIZE, augment=[Mosaic(1.0)])
    order, more = Order(6, 1), 0
    for position in range(6):
        _, targets = examples.at(order, 0, position)
        _, whole = four.at(order, 0, position)
        there = whole["boxes"][whole["labels"] >= 0]
        areas = np.prod(there[:, 2:] - there[:, :2], axis=1)
        more += len(there) > 2
        np.testing.assert_array_equal(
            targets["boxes"][:len(there)], there[np.sort(np.argsort(-areas)[:2])])
    assert more


def test_bad_pictures_are_replaced_as_partners_too():
    examples = Examples(objects(bad=(1, 4)), SIZE, on_bad_image="skip",
                        augment=[Mosaic(1.0)])
    batches = ArrayBatches(examples, Order(6, 1))
    again = ArrayBatches(Examples(objects(bad=(1, 4)), SIZE, on_bad_image="skip",
                                  augment=[Mosaic(1.0)]), Order(6, 1))
    for i in reversed(range(6)):
        assert_same(tuple(batches[i]), tuple(again[i]))
    assert set(examples.replaced) == {"1.png", "4.png"}
    # Positions, not partners.
    assert examples.replacements == 2
    examples = Examples(objects(bad=(1,)), SIZE, augment=[Mosaic(1.0)])
    with pytest.raises(InputError, match="1.png"):
        [examples.at(Order(6, 1), epoch, 0) for epoch in range(9)]


def test_what_does_not_go_together_is_named():
    with pytest.raises(InputError, match="not joined, received Mosaic, RandomFlip"):
        Examples(classes("label"), SIZE, augment=[Mosaic(), RandomFlip()])
    with pytest.raises(InputError, match="masks is one of none, augment, target"):
        Examples(objects(), SIZE, masks="yes")
    found = objects(2)
    fewer = found.records[1]._replace(landmarks=np.zeros((1, 3, 2), np.float32))
    with pytest.raises(InputError, match=r"same number of landmarks, .* \[3, 5\]"):
        Examples(found._replace(records=[found.records[0], fewer]), SIZE)


def test_segmentations_of_a_file_become_masks(tmp_path):
    content = coco(2)
    content["annotations"][0]["segmentation"] = [[10, 5, 30, 5, 30, 25, 10, 25]]
    path = write_coco(tmp_path, content, 2)
    examples = Examples(read_coco(path, with_segments=True), (30, 40), masks="target")
    masks = examples.example(1)[1]["masks"]
    assert masks[0, 5:25, 10:30].all() and masks.sum() == 400
    # They are kept and looked at only when they are wanted.
    assert read_coco(path).records[1].segments == ()
    content["annotations"][0]["segmentation"] = [[10, 5, 30]]
    found = read_coco(write_coco(tmp_path, content, 2), with_segments=True)
    Examples(found, (30, 40)).example(1)
    with pytest.raises(InputError, match=r"three points.*\[10, 5, 30\].*1\.png"):
        Examples(found, (30, 40), masks="augment").example(1)
