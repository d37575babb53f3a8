"""Average precision of joints by hand, rule by rule."""

from typing import NamedTuple

import numpy as np
import pytest

from mlcvtf.metrics.joint_precision import joint_average_precision


class Found(NamedTuple):
    joints: list
    positions: list
    confidences: list


def found(*proposals):
    """Makes proposals of (joint, x, confidence), all at y 0 and z 2."""
    return Found(
        [p[0] for p in proposals],
        [[p[1], 0, 2] for p in proposals],
        [p[2] for p in proposals],
    )


def precision(pictures, truths, visible=None, **kwargs):
    truths = [[[x, 0, 2] for x in picture] for picture in truths]
    visible = np.ones(np.shape(truths)[:2], bool) if visible is None else visible
    return joint_average_precision(pictures, truths, visible, **kwargs).tolist()


def test_hits_and_misses():
    assert precision([found((0, 0.05, 0.5))], [[0]]) == [1]
    assert precision([found((0, 0.15, 0.5))], [[0]]) == [0]
    assert precision([found((0, 0.15, 0.5))], [[0]], distance=0.2) == [1]
    assert precision([found()], [[0]]) == [0]
    # One of two pictures is found; the wrong one is less confident.
    pictures = [found((0, 0, 0.9)), found((0, 1, 0.8))]
    assert precision(pictures, [[0], [0]]) == [0.5]


def test_a_second_hit_is_false():
    # Right, again, right: precision 1, 1/2, 2/3.
    pictures = [found((0, 0, 0.9), (0, 0.01, 0.8)), found((0, 0, 0.7))]
    assert precision(pictures, [[0], [0]]) == [pytest.approx((1 + 2 / 3) / 2)]


def test_the_most_confident_hit_is_the_right_one():
    # In any order in the list; what is wrong before it lowers its precision.
    pictures = [found((0, 0.09, 0.2), (0, 0, 0.6), (0, 0.5, 0.9))]
    assert precision(pictures, [[0]]) == [0.5]


def test_all_proposals_count_not_only_the_best_of_a_picture():
    pictures = [found((0, 1, 0.9), (0, 0, 0.1)), found((0, 0, 0.5))]
    # False, right, right.
    assert precision(pictures, [[0], [0]]) == [pytest.approx(2 / 3)]


def test_joints_out_of_sight():
    visible = [[True], [False]]
    # It is no miss, a hit of it is nothing, and what is elsewhere is false.
    right = found((0, 0, 0.5))
    assert precision([right, found()], [[0], [0]], visible) == [1]
    assert precision([right, found((0, 0, 0.9))], [[0], [0]], visible) == [1]
    assert precision([right, found((0, 1, 0.9))], [[0], [0]], visible) == [0.5]
    assert np.isnan(precision([right], [[0]], [[False]])).all()


def test_joints_are_apart():
    pictures = [found((0, 0, 0.5), (1, 0, 0.6), (2, 4, 0.7))]
    assert precision(pictures, [[0, 1, 4]]) == [1, 0, 1]


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="same pictures and joints, received 1"):
        precision([found()], [[0], [0]])
