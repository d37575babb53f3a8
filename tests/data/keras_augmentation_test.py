"""Which of Keras's layers move boxes rightly, measured; docs/data.md has the table.

A picture of one filled rectangle and its box go through each layer together. A layer
that is wrong is asserted to be wrong: when such a test fails, Keras has cured it, and
the table is to be changed.
"""

import inspect
import re

import keras
import numpy as np
import pytest

from tests.case import ROOT
from tests.data.drawn import extent, random_box

HEIGHT, WIDTH, BATCH, ROUNDS = 96, 160, 4, 8
CONSTANT = {"fill_mode": "constant"}
VALUES = (0, 255)

# Geometry that is right: to a pixel, or as near as said.
RIGHT = {
    "CenterCrop": (64, 100),
    "MaxNumBoundingBoxes": (3,),
    "RandomFlip": (),
    "RandomPerspective": (1.0, 0.5),
    "RandomRotation": (0.1, CONSTANT),
    "RandomTranslation": (0.3, 0.3, CONSTANT),
    "RandomZoom": (0.3, 0.3, CONSTANT),
    "Resizing": (64, 64),
}
# Layers of the picture alone: boxes and masks stay as they are, and things in place.
STAYING = {
    "AutoContrast": (),
    "Equalization": (),
    "RandomBrightness": (0.2,),
    "RandomColorDegeneration": (0.5,),
    "RandomColorJitter": (VALUES, 0.3, 0.3, 0.3, 0.1),
    "RandomContrast": (0.3,),
    "RandomErasing": (1.0,),
    "RandomGaussianBlur": (),
    "RandomHue": (0.3,),
    "RandomInvert": (0.5,),
    "RandomPosterization": (4,),
    "RandomSaturation": (0.5,),
    "RandomSharpness": (0.5,),
    "Solarization": (0.5,),
}
# Boxes that are over so many pixels off at some draw.
WRONG = {
    "AugMix": (VALUES, 10),
    "RandAugment": (VALUES, 2, 0.5, 20),
    "RandomCrop": (64, 100, 10),
    "RandomShear": (0.3, 0.3, 5),
}
# Boxes that are right and have no labels.
UNLABELLED = {"MixUp": (0.3,)}
RAISING = {
    "ContrastLimitedAdaptiveHistogramEqualization": (),
    "CutMix": (0.5,),
    "RandomElasticTransform": (1.0, 1.0),
    "RandomGrayscale": (0.5,),
}


def layer_of(name, arguments):
    kind = getattr(keras.layers, name)
    keywords = {"bounding_box_format": "xyxy"}
    if arguments and isinstance(arguments[-1], dict):
        *arguments, more = arguments
        keywords |= more
    if "seed" in inspect.signature(kind).parameters:
        keywords["seed"] = 3
    return kind(*arguments, **keywords)


def draws(layer):
    """Yields (input, output) of a layer, each a picture with its boxes and mask."""
    generator = np.random.default_rng(0)
    for _ in range(ROUNDS):
        images = np.zeros((BATCH, HEIGHT, WIDTH, 3), np.float32)
        boxes = np.full((BATCH, 2, 4), -1, np.float32)
        for image, rows in zip(images, boxes, strict=True):
            rows[0] = x1, y1, x2, y2 = random_box(generator, (HEIGHT, WIDTH))
            image[y1:y2, x1:x2] = 255
        labels = np.tile(np.int32([1, -1]), (BATCH, 1))
        before = [{"image": image, "box": rows[0]}
                  for image, rows in zip(images, boxes, strict=True)]
        after = layer({
            "images": images.copy(), "labels": np.eye(BATCH, dtype="float32"),
            "bounding_boxes": {"boxes": boxes, "labels": labels},
            "segmentation_masks": images[..., :1] / 255})
        found = {key: np.array(value) for key, value in (
            ("image", after["images"]), ("boxes", after["bounding_boxes"]["boxes"]),
            ("labels", after["bounding_boxes"]["labels"]),
            ("mask", after["segmentation_masks"]))}
        for i, one in enumerate(before):
            yield one, {key: value[i] for key, value in found.items()}


def errors(layer):
    """Returns how far each box is from its thing in the picture, where there is one.

    Where the picture cuts a turned thing, the box of its corners may be larger, which
    is no error: there, only what sticks out of the box counts.
    """
    found = []
    for _, after in draws(layer):
        height, width = after["image"].shape[:2]
        box = after["boxes"][0]
        seen = extent(after["image"][..., 0] > 127)
        if seen is None:
            continue
        assert after["labels"][0] == 1 and (after["labels"][1:] <= 1).all()
        difference = np.concatenate([box[:2] - seen[:2], seen[2:] - box[2:]])
        inside = (box > 1).all() and (box[2:] < (width - 1, height - 1)).all()
        found.append(np.abs(difference).max() if inside else difference.max())
    return np.array(found)


def boxed_layers():
    return {name for name in dir(keras.layers)
            if hasattr(getattr(keras.layers, name), "transform_bounding_boxes")}


def test_every_layer_that_takes_boxes_is_listed():
    assert boxed_layers() == {*RIGHT, *STAYING, *WRONG, *UNLABELLED, *RAISING}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_layer_frames_what_is_drawn(name):
    found = errors(layer_of(name, RIGHT[name]))
    assert len(found) >= BATCH * ROUNDS * 0.8
    assert found.max() <= 1.3


@pytest.mark.parametrize("name", STAYING)
def test_a_layer_of_the_picture_leaves_boxes_and_masks(name):
    for before, after in draws(layer_of(name, STAYING[name])):
        np.testing.assert_array_equal(after["boxes"][0], before["box"])
        assert after["labels"].tolist() == [1, -1]
        np.testing.assert_array_equal(after["mask"] * 255, before["image"][..., :1])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_layer_is_still_wrong(name):
    *arguments, off = WRONG[name]
    layer = layer_of(name, arguments)
    # The mask is transformed by the same draw, and its values are not changed.
    found = [np.abs(after["boxes"][0] - extent(after["mask"][..., 0] > 0.5)).max()
             for _, after in draws(layer) if (after["mask"] > 0.5).any()]
    assert max(found) > off, f"{name} is right now? largest error {max(found)}"


def test_the_crop_exchanges_the_axes():
    """What is wrong in RandomCrop: it subtracts the row from x, the column from y."""
    layer = layer_of("RandomCrop", (64, 100))
    for before, after in draws(layer):
        seen = extent(after["image"][..., 0] > 127)
        x1, y1, x2, y2 = before["box"]
        if seen is None or not (0 < seen[0] and seen[2] < 100 and 0 < seen[1]
                                and seen[3] < 64):
            continue
        left, top = x1 - seen[0], y1 - seen[1]
        np.testing.assert_allclose(
            after["boxes"][0],
            np.maximum([x1 - top, y1 - left, x2 - top, y2 - left], 0))


def test_mixing_joins_labels_along_the_wrong_axis():
    """What is wrong in MixUp: two boxes a row, and labels of twice the batch."""
    boxes = np.ones((3, 1, 4), np.float32)
    after = layer_of("MixUp", UNLABELLED["MixUp"])({
        "images": np.zeros((3, 8, 8, 3), np.float32),
        "bounding_boxes": {"boxes": boxes, "labels": np.zeros((3, 1), np.int32)}})
    assert after["bounding_boxes"]["boxes"].shape == (3, 2, 4)
    assert after["bounding_boxes"]["labels"].shape == (6, 1)


@pytest.mark.parametrize("name", RAISING)
def test_a_layer_that_raises_still_does(name):
    with pytest.raises((NotImplementedError, AttributeError)):
        next(draws(layer_of(name, RAISING[name])))


def test_the_documents_say_the_same():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for verdict, names in (("right", {*RIGHT, *STAYING}),
                           ("wrong", {*WRONG, *UNLABELLED}), ("raises", {*RAISING})):
        rows = re.findall(rf"^\| {verdict} \|(.*)\|$", text, re.MULTILINE)
        listed = re.findall(r"`(\w+)`", " ".join(row.split("|")[0] for row in rows))
        assert set(listed) == names, verdict
