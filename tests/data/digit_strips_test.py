"""Strips of digits: fixed by the seed, whole, and batches that repeat nothing."""

import hashlib

import numpy as np
import pytest

from mlcvtf.data import digit_strips
from mlcvtf.errors import InputError
from tests.case import shared_data


def blobs():
    """Ten digits of which number i is i + 2 columns of white."""
    images = np.zeros((10, 28, 28), np.uint8)
    for label in range(10):
        images[label, 6:22, 8 : 10 + label] = 255
    return images, np.arange(10, dtype=np.int32)


def test_a_strip_shows_its_digits_from_left_to_right():
    images, labels = blobs()
    strips, wanted = digit_strips.make_strips(images, labels, range(60))
    assert strips.shape == (60, 40, 256, 3) and strips.dtype == np.uint8
    assert wanted.shape == (60, 8) and wanted.dtype == np.int32
    assert (strips == strips[..., :1]).all()
    for strip, row in zip(strips, wanted, strict=True):
        length = (row >= 0).sum()
        assert 1 <= length and (row[length:] == -1).all()
        # Digits of this form never touch: count runs of lit columns.
        lit = (strip[..., 0] > 127).any(axis=0)
        starts = np.flatnonzero(np.diff(np.r_[0, lit.astype(int)]) == 1)
        ends = np.flatnonzero(np.diff(np.r_[lit.astype(int), 0]) == -1)
        assert len(starts) == length
        # A wider digit has more light, by far more than its scale changes.
        light = [(strip[:, a : b + 1, 0] > 127).sum() / 16
                 for a, b in zip(starts, ends, strict=True)]
        np.testing.assert_allclose(light, row[:length] + 2, rtol=0.35, atol=1)


def test_lengths_are_alike_often():
    _, wanted = digit_strips.make_strips(*blobs(), range(800))
    counts = np.bincount((wanted >= 0).sum(1), minlength=9)
    assert counts[0] == 0 and counts[1:].min() > 60


def test_a_strip_depends_on_its_number_alone():
    images, labels = blobs()
    many, _ = digit_strips.make_strips(images, labels, range(5))
    one, _ = digit_strips.make_strips(images, labels, [3])
    np.testing.assert_array_equal(many[3], one[0])
    for change in ({"seed": 1}, {"stream": digit_strips.TRAINING}):
        other, _ = digit_strips.make_strips(images, labels, range(5), **change)
        assert (other != many).any()


def test_batches_go_on_where_the_last_ended():
    images, labels = blobs()
    batches = digit_strips.DigitStrips(images, labels, batch_size=4, steps=3)
    assert len(batches) == 3
    inputs, wanted = batches.batch(1, 2)
    strips, expected = digit_strips.make_strips(
        images, labels, range(20, 24), 0, digit_strips.TRAINING)
    np.testing.assert_array_equal(inputs["images"], strips)
    assert inputs["images"].dtype == np.float32
    np.testing.assert_array_equal(wanted, expected)
    np.testing.assert_array_equal(inputs["labels"], expected)


def test_the_longest_row_stays_inside():
    images = np.full((8, 28, 28), 255, np.uint8)
    for seed in range(50):
        generator = np.random.default_rng(seed)
        assert digit_strips.draw_strip(images, generator).shape == (40, 256)


def test_the_test_strips_are_the_ones_that_figures_are_of():
    images, labels = digit_strips.load(shared_data("mnist10k"), "test")
    assert images.shape == (1300, 28, 28) and labels.dtype == np.int32
    _, wanted = digit_strips.make_strips(images, labels, range(2000))
    # Of the labels alone: pixels may differ by one between versions of OpenCV.
    assert hashlib.sha256(wanted.tobytes()).hexdigest()[:16] == "383ae0339886e1a9"


def test_bad_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match="train.npz is not: FileNotFoundError"):
        digit_strips.load(tmp_path, "train")
    np.savez(tmp_path / "train.npz", images=np.zeros(3))
    with pytest.raises(InputError, match="train.npz is not: KeyError"):
        digit_strips.load(tmp_path, "train")
