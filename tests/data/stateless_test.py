"""Keras's augmentation layers as functions of the position, boxes and labels too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.data import datasets, stateless
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.errors import InputError
from tests.case import assert_same_tree
from tests.data.datasets_test import made
from tests.data.drawn import extent
from tests.data.keras_augmentation_test import RIGHT, STAYING, WRONG, layer_of
from tests.data.made_sets import write_coco

# Those that cannot be, and why.
REFUSED = {
    "AugMix": "states of the layers",
    "RandAugment": "states of the layers",
    "RandomColorJitter": "states of the layers",
    "CutMix": "mixes several",
    "MixUp": "mixes several",
}
ARGUMENTS = {**RIGHT, **STAYING, "RandomCrop": (64, 100), "RandomShear": (0.3, 0.3)}
TAKEN = sorted(set(ARGUMENTS) - set(REFUSED))
# Geometry, colour, noise, and one that draws nothing; tracing all takes a minute.
QUICK = ("RandomBrightness", "RandomErasing", "RandomFlip", "RandomRotation",
         "Resizing")
# They draw nothing.
FIXED = {"AutoContrast", "CenterCrop", "Equalization", "MaxNumBoundingBoxes",
         "Resizing"}


def example(seed=0):
    """One picture with a bright rectangle, its box, a row of padding and a mask."""
    image = np.random.default_rng(seed).integers(0, 60, (96, 160, 3)).astype(np.float32)
    image[30:60, 40:90] = 255
    mask = np.zeros((96, 160, 1), np.int32)
    mask[30:60, 40:90] = 1
    return {
        "images": image, "labels": np.int32(3), "segmentation_masks": mask,
        "bounding_boxes": {"boxes": np.float32([[40, 30, 90, 60], [-1] * 4]),
                           "labels": np.int32([1, -1])},
    }


def arrays(tree):
    return tf.nest.map_structure(lambda x: np.array(x), tree)


@pytest.mark.parametrize("name", [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in TAKEN])
def test_a_layer_is_a_function_of_the_position(name):
    def made(seed=5, number=0):
        return stateless.stateless(layer_of(name, ARGUMENTS[name]), seed, number)

    change = made()
    # In a graph and outside, in any order, by another layer object: the same.
    graph = tf.function(lambda epoch, position: change(example(), epoch, position))
    places = [(0, 0), (0, 1), (1, 0), (0, 2), (7, 1)]
    first = {p: arrays(graph(*map(tf.constant, p))) for p in places}
    for place in reversed(places):
        again = made()(example(), *place)
        assert_same_tree(arrays(again), first[place], 1e-6)
    one = first[0, 0]
    assert one["images"].dtype == np.float32
    assert one["bounding_boxes"]["boxes"].dtype == np.float32
    assert one["bounding_boxes"]["labels"].dtype == np.int32
    assert one["labels"] == 3 and one["segmentation_masks"].dtype == np.int32
    others = [*list(first.values())[1:], arrays(made(seed=6)(example(), 0, 0)),
              arrays(made(number=1)(example(), 0, 0))]
    differ = [not np.array_equal(o["images"], one["images"]) for o in others]
    assert any(differ) != (name in FIXED)


@pytest.mark.parametrize("name", sorted(set(RIGHT) - FIXED))
def test_boxes_and_masks_move_with_the_picture(name):
    change = stateless.stateless(layer_of(name, RIGHT[name]), 1)
    moved = 0
    for position in range(8):
        found = arrays(change(example(), 0, position))
        seen = extent(found["images"][..., 0] > 150)
        box = found["bounding_boxes"]["boxes"][0]
        if seen is None or (box <= 1).any() or (box[2:] >= (159, 95)).any():
            continue
        np.testing.assert_allclose(box, seen, atol=1.3)
        np.testing.assert_allclose(
            box, extent(found["segmentation_masks"][..., 0] > 0), atol=1.3)
        moved += not np.array_equal(box, example()["bounding_boxes"]["boxes"][0])
    assert moved


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_stateless_is_refused(name):
    arguments = {"CutMix": (0.5,), "MixUp": (0.3,), "AugMix": WRONG["AugMix"][:1],
                 "RandAugment": WRONG["RandAugment"][:1]} | STAYING
    with pytest.raises(InputError, match=REFUSED[name]):
        stateless.stateless(layer_of(name, arguments[name]), 1)


def test_another_layer_is_refused():
    with pytest.raises(InputError, match="changes pictures, received Dense"):
        stateless.stateless(keras.layers.Dense(1), 1)


def layers():
    return [keras.layers.RandomFlip(bounding_box_format="xyxy", seed=1),
            keras.layers.RandomTranslation(0.2, 0.2, bounding_box_format="xyxy"),
            keras.layers.RandomBrightness(0.2, bounding_box_format="xyxy")]


def streams(examples, order, start=0, epochs=3):
    data = datasets.batches(examples, order, epochs, start, layers())
    return list(data.as_numpy_iterator())


@pytest.mark.parametrize("kind", ["boxes", "label", "mask"])
def test_a_start_in_the_middle_is_the_same_stream(tmp_path, kind):
    found = read_coco(write_coco(tmp_path, count=7)) if kind == "boxes" else made(kind)
    examples, order = Examples(found, (16, 24)), Order(7, 2, seed=4)
    whole = streams(examples, order)
    assert len(whole) == 9
    # In the middle of an epoch, by new layers in a new data set.
    for one, other in zip(whole[4:], streams(examples, order, 4), strict=True):
        assert_same_tree(one, other)
    plain = list(datasets.batches(examples, order, 3).as_numpy_iterator())
    assert not any(np.array_equal(a[0], b[0])
                   for a, b in zip(whole, plain, strict=True))
    assert not np.array_equal(whole[0][0], whole[3][0])
    specification = datasets.batches(examples, order, layers=layers()).element_spec
    assert specification == datasets.batches(examples, order).element_spec


def test_shards_get_what_one_worker_gets():
    examples = Examples(made("label"), (16, 24))
    whole = streams(examples, Order(7, 2, seed=1))
    parts = [streams(examples, Order(7, 1, seed=1, shard_index=i, shard_count=2))
             for i in range(2)]
    for step, batch in enumerate(whole):
        images = np.concatenate([part[step][0] for part in parts])
        np.testing.assert_allclose(images, batch[0], atol=1e-4)


def test_padding_and_places_beside_the_picture_stay_what_they_are(tmp_path):
    examples = Examples(read_coco(write_coco(tmp_path)), (16, 24))
    for _, targets in streams(examples, Order(4, 2)):
        padding = targets["labels"] < 0
        assert padding.any() and (targets["boxes"][padding] == -1).all()
    data = datasets.batches(
        Examples(made("mask"), (40, 40)), Order(7, 7), layers=[
            keras.layers.RandomTranslation(0.0, (0.2, 0.2), fill_mode="constant")])
    _, masks = next(data.as_numpy_iterator())
    # Letterboxed below, and what came in from the left.
    assert (masks[:, 31:] == -1).all() and (masks[:, :, :7] == -1).all()
    assert (masks[:, :29, 9:] >= 0).all()


def test_targets_that_keras_does_not_move_are_refused():
    examples = Examples(made("pair"), (16, 24))
    with pytest.raises(InputError, match="received pair"):
        datasets.batches(examples, Order(7, 2), layers=layers())
