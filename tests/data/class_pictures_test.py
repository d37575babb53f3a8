"""Pictures with a class: each comes once a pass, changed as asked, always the same."""

import numpy as np
import pytest

from mlcvtf.data.class_pictures import ClassPictures, load
from mlcvtf.data.tables import read_class_table
from tests.case import shared_data


def pictures(count=10, side=12):
    """Pictures of one colour each that tells their number, with half that as class."""
    images = np.zeros((count, side, side, 3), np.uint8)
    images[:] = 20 * np.arange(count)[:, None, None, None]
    return images, np.arange(count) // 2


def made(**kwargs):
    arguments = {"size": 8, "batch_size": 4, "steps": 5, "strength": 0.0} | kwargs
    return ClassPictures(*pictures(), **arguments)


def test_every_picture_comes_once_in_a_pass_with_its_class():
    numbers, labels = [], []
    for step in range(5):
        images, classes = made().batch(0, step)
        assert images.shape == (4, 8, 8, 3) and images.dtype == np.float32
        numbers += (images[:, 0, 0, 0] // 20).astype(int).tolist()
        labels += classes.tolist()
    # Two passes, the second in another order, over five batches of four.
    assert sorted(numbers[:10]) == sorted(numbers[10:]) == list(range(10))
    assert numbers[:10] != numbers[10:]
    assert labels == [number // 2 for number in numbers]


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    data = made(strength=1.0)
    first, second = data.batch(1, 2), made(strength=1.0).batch(1, 2)
    np.testing.assert_array_equal(first[0], second[0])
    # Epochs cut the stream: with another length it is the same batch.
    other = made(strength=1.0, steps=7).batch(1, 0)
    np.testing.assert_array_equal(first[0], other[0])
    assert (made(strength=1.0, seed=1).batch(1, 2)[0] != first[0]).any()
    assert (data.batch(1, 3)[0] != first[0]).any()


def gradient():
    """One picture whose red grows to the right and whose green grows downwards."""
    image = np.zeros((1, 40, 40, 3), np.uint8)
    image[0, :, :, 0] = np.arange(40) * 5
    image[0, :, :, 1] = np.arange(40)[:, None] * 5
    return image, np.array([7])


def test_parts_are_as_large_as_asked_and_half_are_mirrored():
    data = ClassPictures(*gradient(), 20, 200, 1, area=0.25, strength=0.0)
    images = data.batch(0, 0)[0]
    width = np.abs(images[:, 10, -1, 0] - images[:, 10, 0, 0]) / 190
    height = (images[:, -1, 10, 1] - images[:, 0, 10, 1]) / 190
    assert height.min() > 0  # never upside down
    area = width * height
    assert 0.15 < area.min() < 0.35 and 0.85 < area.max() <= 1.05
    mirrored = np.mean(images[:, 10, -1, 0] < images[:, 10, 0, 0])
    assert 0.35 < mirrored < 0.65


def test_turned_pictures_carry_their_turn():
    data = ClassPictures(*gradient(), 20, 64, 1, area=1.0, strength=0.0, turns=True)
    images, turns = data.batch(0, 0)
    assert set(turns) == {0, 1, 2, 3}
    for image, turn in zip(images, turns, strict=True):
        upright = np.rot90(image, -turn)
        assert upright[-1, 10, 1] > upright[0, 10, 1]


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_colours_change_by_the_strength(strength):
    images, labels = pictures()
    images[:] = 128
    batch = ClassPictures(images, labels, 8, 10, 1, strength=strength).batch(0, 0)[0]
    assert (batch.std(axis=0).max() > 5) == bool(strength)


def test_a_table_is_loaded_in_its_order():
    folder = shared_data("clothing10")
    records = read_class_table(folder / "val.csv", folder / "val.zip")
    images, labels = load(records, 48)
    assert images.shape == (341, 48, 48, 3) and images.dtype == np.uint8
    assert [records.names[n] for n in labels[:1]] == ["dress"]
    assert np.bincount(labels).tolist() == [
        32, 14, 49, 24, 49, 29, 26, 25, 12, 81]
