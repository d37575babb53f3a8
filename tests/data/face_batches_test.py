"""Crops and scenes: geometry, determinism, and what augmentation keeps."""

import cv2
import numpy as np
import pytest

from mlcvtf.data import augment, face_scenes
from mlcvtf.data.face_crops import MIRRORED, FaceCrops
from mlcvtf.data.face_scenes import FaceScenes
from mlcvtf.embedding import alignment


def dotted(size=96, scale=0.6, shift=(12, 8)):
    """A grey picture with a spot of its own colour at each landmark."""
    points = alignment.TEMPLATE * scale + shift
    image = np.full((size, size, 3), 128, np.uint8)
    for i, (x, y) in enumerate(points):
        cv2.circle(image, (round(float(x)), round(float(y))), 2, SPOTS[i], -1)
    return image, points.astype(np.float32)


SPOTS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]


def test_targets_follow_jitter_and_mirroring(monkeypatch):
    monkeypatch.setattr(augment, "photometric", lambda image, generator: image)
    monkeypatch.setattr(augment, "degrade", lambda image, generator: image)
    image, points = dotted()
    seen = []

    def targets(chosen, matrices, mirrored):
        moved = np.einsum("nij,nkj->nki", matrices[:, :, :2], points[None].repeat(8, 0))
        moved += matrices[:, None, :, 2]
        seen.extend(mirrored)
        # A mirrored left eye is on the right, where its colour stays red.
        return moved

    crops = FaceCrops(
        [image] * 8,
        np.stack([alignment.similarity(points, alignment.TEMPLATE)] * 8),
        targets,
        batch_size=8,
        erasing=0,
    )
    batch, moved = crops[0]
    assert any(seen) and not all(seen)
    for crop, places in zip(batch, moved, strict=True):
        for colour, (x, y) in zip(SPOTS, places, strict=True):
            value = crop[round(y), round(x)]
            assert np.abs(value - colour).max() < 60


def test_mirroring_swaps_left_and_right():
    swapped = alignment.TEMPLATE[MIRRORED] * [-1, 1] + [112, 0]
    assert swapped[0, 0] < swapped[1, 0] and swapped[3, 0] < swapped[4, 0]


def test_crops_depend_on_seed_epoch_and_index_alone():
    image, points = dotted()
    matrices = np.stack([alignment.similarity(points, alignment.TEMPLATE)] * 9)
    identity = np.arange(9)

    def make(seed):
        return FaceCrops(
            [image] * 9, matrices, {"identity": identity}, batch_size=4, seed=seed
        )

    one, two = make(1), make(1)
    one[0]
    assert len(one) == 2
    np.testing.assert_array_equal(one[3][0], one.batch(1, 1)[0])
    for a, b in ((one[1], two[1]),):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1]["identity"], b[1]["identity"])
    two.first = len(two)
    np.testing.assert_array_equal(one[3][0], two[1][0])
    assert not np.array_equal(one[1][0], two[1][0])
    assert not np.array_equal(one[1][0], make(2)[1][0])
    seen = np.concatenate([one[i][1]["identity"] for i in range(2)])
    assert len(set(seen)) == 8


@pytest.fixture
def scenes():
    backgrounds = [
        np.random.default_rng(i).integers(0, 60, (80, 100, 3), dtype=np.uint8)
        for i in range(3)
    ]
    return FaceScenes(
        [dotted()], backgrounds, ((128, 6), (192, 2)), steps=4, max_faces=5, seed=3
    )


def test_scenes_repeat_and_sizes_alternate(scenes):
    images, targets = scenes[0]
    again, same = scenes[0]
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(targets["boxes"], same["boxes"])
    assert images.shape == (6, 128, 128, 3) and scenes[1][0].shape == (2, 192, 192, 3)
    assert not np.array_equal(images, scenes[4][0])


def test_boxes_are_the_convention_and_landmarks_lie_on_the_face(scenes, monkeypatch):
    monkeypatch.setattr(augment, "photometric", lambda image, *rest: image)
    monkeypatch.setattr(augment, "degrade", lambda image, generator: image)
    monkeypatch.setattr(face_scenes, "COVERED", 0.0)
    checked = faces = 0
    for index in range(4):
        images, targets = scenes[index]
        valid = targets["labels"] >= 0
        for i, j in zip(*np.nonzero(valid), strict=True):
            points = targets["landmarks"][i, j]
            faces += 1
            np.testing.assert_allclose(
                targets["boxes"][i, j], alignment.face_box(points), rtol=1e-4
            )
            size = np.diff(targets["boxes"][i, j][[0, 2]])[0]
            x, y = points[2]
            inside = 2 < x < images.shape[2] - 2 and 2 < y < images.shape[1] - 2
            if size > 40 and inside:
                # The nose's spot is pure blue, where nothing else is.
                value = images[i, round(y), round(x)]
                assert value[2] > value[0] + 40 and value[2] > value[1] + 40
                checked += 1
    assert checked >= 5 and faces > checked


def test_covers_hide_a_part_and_pieces_are_no_faces(scenes, monkeypatch):
    image, points = dotted()
    covered = scenes._cover(image, points, np.random.default_rng(2))
    changed = (covered != image).any(axis=-1)
    box = alignment.face_box(points)
    assert 0 < changed.sum() < 0.5 * np.prod(box[2:] - box[:2])
    # With nothing but pieces of background pasted, there is nothing to find.
    generator = np.random.default_rng(4)
    monkeypatch.setattr(scenes, "_face", None)
    picture = np.zeros((128, 128, 3), np.uint8)
    while not picture.any():
        assert scenes._paste_many(picture, 0, 128, _Pieces(generator)) == []


class _Pieces:
    """A generator that always draws three pieces."""

    def __init__(self, generator):
        self._generator = generator

    def poisson(self, rate):
        return 3

    def __getattr__(self, name):
        return getattr(self._generator, name)


def test_some_scenes_have_no_face(scenes):
    generator = np.random.default_rng(0)
    counts = [len(scenes.scene(96, generator)[1]) for _ in range(80)]
    assert 0 in counts and max(counts) >= 2


def test_augmentation_keeps_shape_and_type():
    image, _ = dotted()
    for seed in range(40):
        generator = np.random.default_rng(seed)
        for change in (augment.photometric, augment.degrade, augment.erase):
            changed = change(image, generator)
            assert changed.shape == image.shape and changed.dtype == np.uint8
    assert not np.array_equal(
        image, augment.photometric(image, np.random.default_rng(0))
    )


def test_jitter_keeps_its_centre_without_a_shift():
    matrix = augment.jitter_similarity(np.random.default_rng(0), (30, 40), 20, 0.3, 0)
    np.testing.assert_allclose(matrix @ [30, 40, 1], [30, 40, 1])
    assert abs(np.linalg.det(matrix) - 1) > 1e-3
