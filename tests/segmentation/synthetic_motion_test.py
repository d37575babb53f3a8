"""The made movement: whole poses, and pictures that move."""

import numpy as np

from mlcvtf.segmentation.body_parts import poses, synthetic_motion
from mlcvtf.segmentation.body_parts.parts import JOINTS


def test_poses_are_directions_of_a_person():
    for seconds in np.linspace(0, 3, 13):
        pose = synthetic_motion.pose_at(seconds)
        np.testing.assert_allclose(np.linalg.norm(pose, axis=1), 1)
        at = dict(zip(JOINTS, poses.skeleton_points(pose[None])[0], strict=False))
        # Upright, the right hand up, left being x.
        assert at["head"][1] > at["hand_right"][1] - 0.3 > at["hand_left"][1]
        assert at["shoulder_left"][0] > 0 > at["shoulder_right"][0]
        assert max(at["foot_left"][1], at["foot_right"][1]) < -0.4
    first, later = synthetic_motion.pose_at(0.3), synthetic_motion.pose_at(0.9)
    assert np.abs(first - later).max() > 0.3


def test_pictures_show_the_whole_person():
    pictures = list(synthetic_motion.depth_pictures(3, 2.0))
    again = list(synthetic_motion.depth_pictures(3, 2.0))
    for depth, same in zip(pictures, again, strict=True):
        np.testing.assert_array_equal(depth, same)
        assert depth.shape == (240, 320) and depth.dtype == np.float32
        there = depth > 0
        assert 3000 < there.sum() < 30000
        assert 2 < np.median(depth[there]) < 3.5
        border = there.copy()
        border[1:-1, 1:-1] = False
        assert not border.any()
    assert (pictures[0] != pictures[1]).sum() > 1000
