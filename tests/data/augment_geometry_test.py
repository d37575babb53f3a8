"""Boxes, landmarks and masks go where the drawn things go, for every draw."""

import numpy as np
import pytest

from mlcvtf.data import augment, samples
from mlcvtf.data.augment_geometry import RandomAffine, RandomCrop, RandomFlip, flip
from mlcvtf.data.samples import NOTHING, OnPicture
from mlcvtf.errors import InputError
from tests.data.drawn import draw_of, drawn, extent, random_box, seen

SIZE = (96, 160)
SEEDS = range(40)
ANYTHING = {"visible": 0.0, "min_side": 0.0}
AUGMENTATIONS = {
    "flip": RandomFlip(0.5, 0.5),
    "shift": RandomAffine(0, (1, 1), 0, 0.4, **ANYTHING),
    "scale": RandomAffine(0, (0.4, 2), 0, 0.1, **ANYTHING),
    "rotation": RandomAffine(180, (1, 1), 0, 0, **ANYTHING),
    "shear": RandomAffine(0, (1, 1), 25, 0, **ANYTHING),
    "affine": RandomAffine(45, (0.5, 1.5), 10, 0.2, **ANYTHING),
    "crop": RandomCrop(probability=1, **ANYTHING),
}


def samples_of(name):
    """Yields (before, after) of many draws."""
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        before = drawn(random_box(generator), size=SIZE)
        yield before, AUGMENTATIONS[name](before, draw_of(seed))


def inner(box, size):
    """Whether a box keeps clear of the picture's sides."""
    return (box[:2] > 0.01).all() and (box[2:] < np.array(size[::-1]) - 0.01).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_box_frames_what_was_drawn(name):
    """To a pixel inside; where the picture cuts a turned thing, the box may be larger.

    Masks that are turned make the box tight there too.
    """
    whole = cut = 0
    for before, after in samples_of(name):
        found = seen(after.image)
        if not len(after.boxes):
            # At most a sliver at the edge may be left of what has no box.
            assert found is None or (found[2:] - found[:2]).min() <= 1
            continue
        box = after.boxes[0]
        mask = extent(after.masks[0])
        if found is None or mask is None:
            assert (box[2:] - box[:2]).min() <= 1.5
            continue
        np.testing.assert_allclose(box, found, atol=1.2)
        np.testing.assert_allclose(box, mask, atol=1.2)
        np.testing.assert_allclose(extent(after.mask == 1), mask)
        np.testing.assert_array_equal(after.pair, after.image)
        if inner(box, after.size):
            whole += 1
        else:
            cut += 1
        # Without masks, the box of the four corners contains it.
        bare = AUGMENTATIONS[name](before._replace(masks=None),
                                   draw_of(_seed_of(before)))
        loose = bare.boxes[0]
        assert (loose[:2] <= found[:2] + 1.2).all()
        assert (loose[2:] >= found[2:] - 1.2).all()
        if inner(loose, after.size):
            np.testing.assert_allclose(loose, found, atol=1.2)
    assert whole >= 10
    assert cut or name in ("flip", "scale", "shear")


def _seed_of(before):
    return next(seed for seed in SEEDS if np.array_equal(
        before.boxes[0], random_box(np.random.default_rng(seed))))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_landmarks_move_as_the_corners_do(name):
    """Those in the picture agree with the box, those outside are unknown."""
    known = 0
    for _, after in samples_of(name):
        height, width = after.size
        if not len(after.boxes):
            continue
        points = after.landmarks[0]
        there = ~np.isnan(points).any(-1)
        assert (points[there] >= 0).all()
        assert (points[there] <= (width, height)).all()
        if there.all():
            known += 1
            frame = np.concatenate([points.min(0), points.max(0)])
            np.testing.assert_allclose(after.boxes[0], frame, atol=1.2)
    assert known >= 10


def test_a_landmark_goes_where_its_pixel_goes():
    image = np.zeros((96, 160, 3), np.uint8)
    image[30:33, 50:53] = 255
    before = drawn((40, 20, 80, 60))._replace(
        image=image, landmarks=np.float32([[[51.5, 31.5]]]))
    for name in ("flip", "affine"):
        for seed in SEEDS:
            after = AUGMENTATIONS[name](before, draw_of(seed))
            weight = after.image[..., 0].astype(float)
            if len(after.boxes) and weight.sum() > 600 and extent(weight)[0] > 0:
                rows, columns = np.indices(weight.shape) + 0.5
                middle = [(columns * weight).sum(), (rows * weight).sum()]
                np.testing.assert_allclose(
                    after.landmarks[0, 0], middle / weight.sum(), atol=0.1)


@pytest.mark.parametrize("across, down, order", [
    (True, False, [1, 0, 2, 4, 3]), (False, True, [1, 0, 2, 4, 3]),
    (True, True, [0, 1, 2, 3, 4]), (False, False, [0, 1, 2, 3, 4]),
])
def test_a_mirror_swaps_pairs_of_landmarks(across, down, order):
    sample = drawn((10, 20, 50, 44), size=(60, 100))
    flipped = flip(sample, across, down, pairs=((0, 1), (3, 4)))
    points = sample.landmarks[0][order]
    if across:
        points = points * [-1, 1] + [100, 0]
    if down:
        points = points * [1, -1] + [0, 60]
    np.testing.assert_array_equal(flipped.landmarks[0], points)
    assert (flipped.image is sample.image) == (not across and not down)


def test_objects_are_cut_to_the_picture_and_small_rests_dropped():
    sample = drawn((0, 0, 40, 20), (50, 0, 90, 40), size=(100, 100))
    sample = sample._replace(labels=np.array([3, 5], np.int32))
    # 30 % of the first box stay.
    shifted = samples.warp(sample, [[1, 0, -28], [0, 1, 0]], (100, 100), visible=0.29)
    assert shifted.labels.tolist() == [3, 5]
    np.testing.assert_array_equal(shifted.boxes, [[0, 0, 12, 20], [22, 0, 62, 40]])
    assert np.isnan(shifted.landmarks[0, [0, 3, 4]]).all()
    assert not np.isnan(shifted.landmarks[0, [1, 2]]).any()
    for rule in ({"visible": 0.31}, {"visible": 0.2, "min_side": 12.5}):
        shifted = samples.warp(sample, [[1, 0, -28], [0, 1, 0]], (100, 100), **rule)
        assert shifted.labels.tolist() == [5]
        assert shifted.masks.shape == (1, 100, 100)
        assert shifted.landmarks.shape == (1, 5, 2)


def test_beyond_the_picture_is_fill_and_nothing():
    sample = drawn((2, 2, 8, 8), size=(10, 10))._replace(
        mask=np.ones((10, 10), np.int32))
    moved = samples.warp(sample, [[1, 0, 4], [0, 1, 0]], (10, 10), fill=114)
    assert (moved.image[:, :4] == 114).all() and (moved.mask[:, :4] == NOTHING).all()
    assert (moved.mask[:, 4:] == 1).all() and not moved.masks[:, :, :4].any()


def test_a_turned_mask_makes_a_tight_box():
    """A disc stays one when it turns; the corners of its box do not."""
    rows, columns = np.indices((100, 100)) + 0.5
    disc = ((rows - 50) ** 2 + (columns - 50) ** 2 < 20**2).astype(np.uint8)
    sample = drawn((30, 30, 70, 70), size=(100, 100))._replace(masks=disc[None])
    turned = RandomAffine(0, (1, 1), 0, 0).matrix((100, 100), np.random.default_rng(0))
    np.testing.assert_allclose(turned, [[1, 0, 0], [0, 1, 0]])
    half = np.sqrt(0.5)
    matrix = np.array([[half, -half, 50], [half, half, 50 - 100 * half]])
    tight = samples.warp(sample, matrix, (100, 100)).boxes[0]
    np.testing.assert_allclose(tight, [30, 30, 70, 70], atol=1)
    loose = samples.warp(sample._replace(masks=None), matrix, (100, 100)).boxes[0]
    np.testing.assert_allclose(loose, 50 + 20 * np.sqrt(2) * np.array([-1, -1, 1, 1]),
                               atol=1e-3)


def test_a_crop_leaves_some_object():
    sample = drawn((74, 42, 86, 54), size=(96, 160))
    augmentation = RandomCrop((0.05, 0.1), probability=1, attempts=100)
    for seed in SEEDS:
        part = augmentation(sample, draw_of(seed))
        assert len(part.boxes) == 1 and part.size < sample.size
    none = RandomCrop((0.05, 0.1), probability=1)(
        samples.select(sample, np.zeros(1, bool)), draw_of(0))
    assert none.size < sample.size
    whole = RandomCrop((0.05, 0.1), probability=1, attempts=0)(sample, draw_of(0))
    assert whole is sample


def test_a_crop_has_the_area_that_was_asked_for():
    augmentation = RandomCrop((0.2, 0.6), (0.8, 1.25))
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        top, left, height, width = augmentation.window(SIZE, generator)
        assert 0.18 < height * width / (96 * 160) < 0.62
        assert 0.75 < (width / 160) / (height / 96) < 1.3
        assert top + height <= 96 and left + width <= 160


@pytest.mark.parametrize("make, rule", [
    (lambda: RandomAffine(scale=(0, 1)), "scale .* over 0 .* 0 to 1"),
    (lambda: RandomAffine(scale=(2, 1)), "no smaller one, received 2 to 1"),
    (lambda: RandomCrop(area=(0.5, 1.5)), "up to 1, received 0.5 to 1.5"),
])
def test_a_wrong_range_is_named(make, rule):
    with pytest.raises(InputError, match=rule):
        make()


def test_probabilities_are_kept():
    sample = drawn((40, 20, 80, 60))
    for augmentation in (RandomAffine(probability=0.3), RandomCrop(probability=0.3),
                         RandomFlip(0.3), OnPicture(augment.distort, 0.3)):
        changed = [augmentation(sample, draw_of(seed)) is not sample
                   for seed in range(400)]
        assert 0.2 < np.mean(changed) < 0.4, augmentation


@pytest.mark.parametrize("change", [augment.distort, augment.degrade,
                                    augment.photometric])
def test_changes_of_the_picture_leave_things_in_their_place(change):
    image = np.full((64, 96, 3), 100, np.uint8)
    image[20:40, 30:60] = 180
    rows, columns = np.indices(image.shape[:2]) + 0.5
    for seed in SEEDS:
        after = OnPicture(change)(drawn(size=(64, 96))._replace(image=image),
                                  draw_of(seed)).image
        assert after.shape == image.shape and after.dtype == np.uint8
        contrast = after.astype(float).sum(-1)
        weight = np.clip(contrast - np.median(contrast) - 60, 0, None)
        if weight.max() > 60:
            middle = [(columns * weight).sum(), (rows * weight).sum()] / weight.sum()
            np.testing.assert_allclose(middle, (45, 30), atol=0.5)


def test_distortion_spares_geometry_and_grey_keeps_its_hue():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    changed = 0
    for seed in SEEDS:
        out = augment.distort(grey, np.random.default_rng(seed))
        assert out.shape == grey.shape and out.dtype == np.uint8
        assert np.ptp(out.astype(int), axis=2).max() <= 1
        changed += not np.array_equal(out, grey)
    assert changed > 20


def test_colours_turn_and_fade():
    primary = np.array([[[200, 40, 40]]], np.float64)
    grey = primary @ augment.colour_matrix(0, 0).T
    np.testing.assert_allclose(grey[0, 0], np.full(3, 0.299 * 200 + 0.701 * 40),
                               atol=0.5)
    third = primary @ augment.colour_matrix(1, np.deg2rad(120)).T
    # Red turns to blue or green, with some error, for YIQ is not HSV.
    assert third[0, 0].argmax() != 0
    back = third @ augment.colour_matrix(1, np.deg2rad(-120)).T
    np.testing.assert_allclose(back, primary, atol=1e-9)
