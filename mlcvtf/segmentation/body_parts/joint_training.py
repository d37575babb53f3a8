"""Learns bandwidths, thresholds and push-back offsets of joints.

Shotton et al., 2011, section 3.4: per part by grid search for the best average
precision on held-out pictures; the push-back is the mean way from the surface mode to
the joint.
"""

from collections.abc import Iterable

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.metrics.joint_precision import DISTANCE, joint_average_precision
from mlcvtf.segmentation.body_parts.joints import (
    PUSH_BACK,
    JointModel,
    Proposals,
    best_joints,
    find_modes,
    propose,
)

BANDWIDTHS = (0.04, 0.065, 0.1, 0.14)
THRESHOLDS = (0.02, 0.05, 0.14, 0.3)
# Metres: a joint teaches its push-back to modes that are beside it, seen from the
# camera, and not farther from it in depth than a body is deep.
BESIDE, DEEP = 0.1, 0.3


def learn_joints(
    model: JointModel,
    pictures: Iterable,
    bandwidths: tuple[float, ...] = BANDWIDTHS,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> tuple[JointModel, np.ndarray]:
    """Learns what is best for each joint.

    Args:
        model: which parts each joint has; its other values are kept for joints that
            are never in sight.
        pictures: a stream of (points, probabilities, joints, visible): the first two
            as of `joints.propose`, float `[joints, 3]` in metres, bool `[joints]`.
        bandwidths: to try, in metres.
        thresholds: to try.

    Returns:
        The model, and the average precision of each joint in these pictures.

    Raises:
        InputError: there are no pictures.
    """
    settings = [(b, t) for b in bandwidths for t in thresholds]
    # Modes of every setting, joint and picture: some numbers each, not the pixels.
    modes = [[[] for _ in model.parts] for _ in settings]
    truths, visible = [], []
    for points, probabilities, joints, seen in pictures:
        points = np.asarray(points, np.float64)
        truths.append(joints)
        visible.append(seen)
        for joint, parts in enumerate(model.parts):
            own = np.asarray(probabilities)[:, parts].sum(1, dtype=np.float64)
            for setting, (bandwidth, threshold) in zip(modes, settings, strict=True):
                setting[joint].append(find_modes(points, own, bandwidth, threshold))
    if not truths:
        raise InputError("joints are learned from pictures, received none")
    truths, visible = np.asarray(truths, np.float64), np.asarray(visible, bool)
    best = np.full(len(model.parts), -1.0)
    learned = [array.copy() for array in model[1:]]
    for setting, values in zip(modes, settings, strict=True):
        for joint, found in enumerate(setting):
            seen = visible[:, joint]
            if not seen.any():
                continue
            push = push_back(found, truths[:, joint], seen)
            proposed = [_pushed(rows, push) for rows in found]
            precision = joint_average_precision(
                proposed, truths[:, joint : joint + 1], seen[:, None]
            )[0]
            if precision > best[joint]:
                best[joint] = precision
                for array, value in zip(learned, (*values, push), strict=True):
                    array[joint] = value
    return JointModel(model.parts, *learned), np.where(best < 0, np.nan, best)


def least_confidences(model: JointModel, pictures: Iterable) -> np.ndarray:
    """Learns from which confidence on the best proposal of a joint is believed.

    A joint out of sight has proposals as well. Believing those from a confidence on
    finds some joints and is wrong about some; the F1 score is largest here.

    Args:
        model: of the joints.
        pictures: as of `learn_joints`.

    Returns:
        float64 `[joints]`, 0 where no joint was found, in the unit of confidences.
    """
    rows = []
    for points, probabilities, joints, seen in pictures:
        found = best_joints(model, propose(model, points, probabilities))
        away = np.linalg.norm(found[:, :3] - joints, axis=1)
        rows.append(np.stack([found[:, 3], (away <= DISTANCE) & seen, seen], 1))
    least = np.zeros(len(model.parts))
    for joint in range(len(least) if rows else 0):
        confidence, right, seen = np.stack(rows)[:, joint].T
        order = np.argsort(-confidence, kind="stable")
        hits = np.cumsum(right[order])
        score = 2 * hits / (np.arange(1, len(hits) + 1) + seen.sum())
        if hits[-1]:
            # Just below: what is as confident is believed.
            least[joint] = 0.999 * confidence[order[score.argmax()]]
    return least


def push_back(modes: list, truths: np.ndarray, visible: np.ndarray) -> float:
    """Returns the mean depth of a joint behind the most confident mode beside it.

    Args:
        modes: for each picture float `[m, 4]`, as of `joints.find_modes`.
        truths: float `[n, 3]` in metres.
        visible: bool `[n]`.

    Returns:
        Metres; the paper's mean where no mode is beside its joint.
    """
    ways = []
    for rows, truth, seen in zip(modes, truths, visible, strict=True):
        if not seen:
            continue
        way = truth - rows[:, :3]
        beside = (np.hypot(way[:, 0], way[:, 1]) < BESIDE) & (abs(way[:, 2]) < DEEP)
        ways += way[beside][:1, 2].tolist()
    return float(np.mean(ways)) if ways else PUSH_BACK


def _pushed(rows, push):
    positions = rows[:, :3] + [0, 0, push]
    return Proposals(np.zeros(len(rows), np.int64), positions, rows[:, 3])
