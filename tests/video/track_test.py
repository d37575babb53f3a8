"""Tracks: numbers that stay, embeddings that are steadied, no inherited names."""

import numpy as np
import pytest

from mlcvtf.video import track

ADA, BOB = np.eye(8, dtype=np.float32)[:2]


def box(left, top=0, size=100):
    return [left, top, left + size, top + size]


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def test_overlaps_against_painted_pixels():
    random = np.random.default_rng(0)
    low = random.integers(0, 20, (12, 2))
    boxes = np.concatenate([low, low + random.integers(0, 12, (12, 2))], axis=1)
    masks = np.zeros((12, 40, 40), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    result = track.overlaps(boxes[:5], boxes)
    for i in range(5):
        for j in range(12):
            union = (masks[i] | masks[j]).sum()
            expected = (masks[i] & masks[j]).sum() / union if union else 0.0
            assert result[i, j] == pytest.approx(expected)
    assert track.overlaps(np.zeros((0, 4)), boxes).shape == (0, 12)


def test_numbers_follow_moving_faces_in_any_order():
    tracker = track.Tracker(0.2)
    numbers, _ = tracker.update([box(0), box(300)], [ADA, BOB])
    assert numbers.tolist() == [0, 1]
    for step in range(1, 6):
        boxes = [box(300 - 20 * step), box(20 * step)]
        numbers, _ = tracker.update(boxes, [BOB, ADA])
        assert numbers.tolist() == [1, 0]


def test_the_embedding_is_the_mean_then_an_exponential_mean():
    random = np.random.default_rng(1)
    seen = [unit(ADA + 0.2 * random.normal(size=8)) for _ in range(30)]
    tracker = track.Tracker(0.2, newest_weight=0.1)
    expected = seen[0]
    for count, vector in enumerate(seen, 1):
        _, means = tracker.update([box(0)], [vector])
        weight = max(1 / count, 0.1)
        expected = unit(weight * vector + (1 - weight) * expected)
        np.testing.assert_allclose(means[0], expected, atol=1e-6)
    # Steadier than what went in.
    assert means[0] @ ADA > np.mean([vector @ ADA for vector in seen]) + 0.02


def test_one_bad_frame_does_not_change_the_winner():
    tracker = track.Tracker(0.2)
    for _ in range(10):
        tracker.update([box(0)], [ADA])
    bad = unit(0.5 * ADA + 0.8 * BOB)
    assert bad @ BOB > bad @ ADA
    numbers, means = tracker.update([box(0)], [bad])
    assert numbers.tolist() == [0]
    assert means[0] @ ADA > 0.9


def test_a_newcomer_in_the_same_place_is_a_new_track():
    tracker = track.Tracker(0.2)
    tracker.update([box(0)], [ADA])
    numbers, means = tracker.update([box(0)], [BOB])
    assert numbers.tolist() == [1]
    np.testing.assert_array_equal(means[0], BOB)


def test_the_same_face_elsewhere_is_a_new_track():
    tracker = track.Tracker(0.2)
    tracker.update([box(0)], [ADA])
    assert tracker.update([box(200)], [ADA])[0].tolist() == [1]


def test_each_track_goes_to_the_face_that_overlaps_most():
    tracker = track.Tracker(0.2)
    tracker.update([box(0)], [ADA])
    numbers, _ = tracker.update([box(40), box(10)], [ADA, ADA])
    assert numbers.tolist() == [1, 0]


def test_a_track_waits_for_its_face_but_not_for_ever():
    nothing = np.zeros((0, 4)), np.zeros((0, 8), np.float32)
    for missed, expected in ((3, 0), (4, 1)):
        tracker = track.Tracker(0.2, patience=3)
        tracker.update([box(0)], [ADA])
        for _ in range(missed):
            numbers, means = tracker.update(*nothing)
            assert numbers.shape == (0,) and means.shape == (0, 8)
        assert tracker.update([box(0)], [ADA])[0].tolist() == [expected]


def test_faces_without_an_embedding_are_never_confused():
    tracker = track.Tracker(0.2)
    zero = np.zeros(8, np.float32)
    for expected in range(3):
        numbers, means = tracker.update([box(0)], [zero])
        assert numbers.tolist() == [expected]
        np.testing.assert_array_equal(means[0], zero)


def test_forget_ends_tracks_but_not_the_count():
    tracker = track.Tracker(0.2)
    tracker.update([box(0), box(300)], [ADA, BOB])
    tracker.forget()
    assert tracker.update([box(0)], [ADA])[0].tolist() == [2]
