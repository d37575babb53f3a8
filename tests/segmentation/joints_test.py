"""Joints: the modes of a density, against a slow climb over all pixels."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.metrics.joint_precision import joint_average_precision
from mlcvtf.segmentation.body_parts import joints
from mlcvtf.segmentation.body_parts.joint_training import (
    learn_joints,
    least_confidences,
    push_back,
)


def ball(random, centre, radius, count):
    """Draws points on the half of a ball's surface that faces the camera."""
    away = random.normal(size=(count, 3))
    away *= radius / np.linalg.norm(away, axis=1, keepdims=True)
    away[:, 2] = -abs(away[:, 2])
    return np.asarray(centre) + away


def slow_modes(points, probabilities, bandwidth, threshold):
    """Equations 7 and 8 with every pixel a start, in float64."""
    weights = probabilities**2 * points[:, 2] ** 2
    modes = []
    for i in np.flatnonzero(probabilities > threshold):
        place = points[i]
        for _ in range(100):
            kernel = weights * np.exp(-((points - place) ** 2).sum(1) / bandwidth**2)
            place = kernel @ points / kernel.sum()
        for mode in modes:
            if np.linalg.norm(mode[:3] - place) < bandwidth / 2:
                mode[3] += weights[i]
                break
        else:
            modes.append(np.array([*place, weights[i]]))
    return np.array(sorted(modes, key=lambda mode: -mode[3]))


def two_balls():
    random = np.random.default_rng(0)
    points = np.concatenate(
        [
            ball(random, (-0.3, 0.1, 2.5), 0.08, 300),
            ball(random, (0.4, 0.0, 3.0), 0.06, 120),
            random.uniform([-1, -1, 2.5], [1, 1, 3], (400, 3)),
        ]
    )
    probabilities = np.concatenate(
        [
            random.uniform(0.3, 1, 300),
            random.uniform(0.2, 0.9, 120),
            random.uniform(0, 0.05, 400),
        ]
    )
    return points, probabilities


@pytest.mark.parametrize("bandwidth", [0.065, 0.1])
def test_modes_are_those_of_a_slow_climb(bandwidth):
    points, probabilities = two_balls()
    found = joints.find_modes(points, probabilities, bandwidth, 0.14)
    slow = slow_modes(points, probabilities, bandwidth, 0.14)
    assert len(found) == len(slow) == 2
    np.testing.assert_allclose(found[:, :3], slow[:, :3], atol=0.008)
    np.testing.assert_allclose(found[:, 3], slow[:, 3], rtol=1e-6)


def test_depth_scales_weights():
    # Twice as far away a part has a quarter of the pixels: the same confidence.
    random = np.random.default_rng(1)
    near, far = ball(random, (0, 0, 2), 0.05, 400), ball(random, (0, 0, 4), 0.05, 100)
    confidences = [
        joints.find_modes(points, np.full(len(points), 0.5), 0.065, 0.14)
        for points in (near, far)
    ]
    assert confidences[0][0, 3] == pytest.approx(confidences[1][0, 3], rel=0.05)


def test_proposals_are_pushed_back_and_named():
    points, probabilities = two_balls()
    both = np.zeros((len(points), 5))
    both[:300, 1], both[300:420, 3] = probabilities[:300], probabilities[300:420]
    model = joints.default_model([(2,), (1, 5), (4,)], 5)
    found = joints.propose(model, points, both)
    assert found.joints.tolist() == [0, 2]
    plain = joints.propose(model._replace(push_backs=np.zeros(3)), points, both)
    np.testing.assert_allclose(
        found.positions - plain.positions, [[0, 0, joints.PUSH_BACK]] * 2, atol=1e-6
    )
    best = joints.best_joints(model, found)
    np.testing.assert_array_equal(best[[0, 2], :3], found.positions)
    assert np.isnan(best[1, :3]).all() and best[1, 3] == 0
    # Parts of one joint are added up.
    halves = both / 2
    halves[:, 0] = halves[:, 1]
    merged = joints.propose(joints.default_model([(1, 2)], 5), points, halves)
    np.testing.assert_allclose(merged.positions[0], found.positions[0], atol=1e-4)


def test_the_most_confident_comes_first():
    points, probabilities = two_balls()
    model = joints.default_model([(1,)], 1)
    found = joints.propose(model, points, probabilities[:, None])
    assert len(found.joints) == 2 and np.diff(found.confidences)[0] < 0
    assert joints.best_joints(model, found)[0, 3] == found.confidences[0]


@pytest.mark.parametrize("count", [0, 50])
def test_nothing_probable_proposes_nothing(count):
    model = joints.default_model([(1,), (2,)], 2)
    found = joints.propose(model, np.ones((count, 3)), np.full((count, 2), 0.1))
    assert len(found.joints) == len(found.positions) == len(found.confidences) == 0


def test_one_pixel_is_a_mode():
    model = joints.default_model([(1,)], 1)
    found = joints.propose(model, [[0.1, 0.2, 2.0]], [[1.0]])
    np.testing.assert_allclose(
        found.positions, [[0.1, 0.2, 2 + joints.PUSH_BACK]], atol=1e-6
    )
    np.testing.assert_allclose(found.confidences, [4.0])


def test_joints_in_sight():
    model = joints.default_model([(1, 3), (2,)], 3)
    labels = np.array([[1, 1, 3], [2, 2, 0]], np.uint8)
    assert joints.visible_joints(model, labels, 3).tolist() == [True, False]


def test_labels_out_of_range():
    with pytest.raises(ValueError, match="labels of 1 to 3, received"):
        joints.default_model([(1,), (4,)], 3)


def lesson(seed):
    """A picture of two joints, the first 7 cm, the second 2 cm behind its surface."""
    random = np.random.default_rng(seed)
    centres = random.uniform([-0.5, -0.5, 2], [0.5, 0.5, 3], (2, 3))
    points, probabilities = [], np.zeros((400, 2))
    for part, centre in enumerate(centres):
        points.append(centre + random.normal(0, [0.03, 0.03, 0.002], (200, 3)))
        probabilities[200 * part : 200 * part + 200, part] = random.uniform(0.4, 1, 200)
    # Many weak pixels of the first part elsewhere: a high threshold is better for it.
    probabilities[:180, 0] = 0
    probabilities[200:, 0] = 0.27
    truths = centres + [[0, 0, 0.07], [0, 0, 0.02]]
    return np.concatenate(points), probabilities, truths, np.array([True, seed != 3])


def test_push_back_threshold_and_bandwidth_are_learned():
    model = joints.default_model([(1,), (2,)], 2)
    lessons = [lesson(seed) for seed in range(12)]
    learned, precisions = learn_joints(model, lessons)
    np.testing.assert_allclose(learned.push_backs, [0.07, 0.02], atol=0.004)
    assert learned.thresholds[0] == np.float32(0.3)
    np.testing.assert_allclose(precisions, 1.0)
    # On pictures that it has not seen, and better than the values it started from.
    held_out = [lesson(seed) for seed in range(20, 30)]

    def precision(chosen, distance):
        proposals = [joints.propose(chosen, *picture[:2]) for picture in held_out]
        return joint_average_precision(
            proposals, [p[2] for p in held_out], [p[3] for p in held_out], distance
        )

    assert (precision(learned, 0.02) > 0.95).all()
    assert precision(model, 0.02)[0] < 0.7


def test_what_cannot_be_learned_stays():
    model = joints.default_model([(1,), (2,)], 2)
    unseen = [(*lesson(seed)[:3], np.array([True, False])) for seed in range(3)]
    learned, precisions = learn_joints(model, unseen)
    assert learned.push_backs[1] == model.push_backs[1] and np.isnan(precisions[1])
    assert push_back([np.zeros((0, 4))], np.zeros((1, 3)), np.array([True])) == 0.039
    with pytest.raises(InputError, match="learned from pictures, received none"):
        learn_joints(model, [])


def test_from_which_confidence_on_a_joint_is_believed():
    model = joints.default_model([(1,), (2,)], 2)
    lessons = [lesson(seed) for seed in range(12)]
    learned, _ = learn_joints(model, lessons)
    # In every second picture the first joint is out of sight, its few pixels noise.
    mixed = []
    for number, (points, probabilities, truths, _) in enumerate(lessons):
        seen = np.array([number % 2 == 0, False])
        if not seen[0]:
            probabilities = probabilities.copy()
            probabilities[:197, 0] = 0
        mixed.append((points, probabilities, truths, seen))
    least = least_confidences(learned, mixed)
    found = [
        joints.best_joints(learned, joints.propose(learned, *one[:2])) for one in mixed
    ]
    believed = [one[0, 3] > least[0] for one in found]
    assert believed == [number % 2 == 0 for number in range(12)]
    # Never right: nothing is known.
    assert least[1] == 0
    assert least_confidences(learned, []).tolist() == [0, 0]
