"""Retargeting and the removal of near-duplicates."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import asf, bvh, parts, pose_sets, poses
from tests.segmentation.made_mocap import (
    amc_text,
    asf_text,
    bvh_text,
    standing,
    waving,
    write_people,
)


def poses_of(frames):
    skeleton = asf.read_asf(asf_text(), "s.asf")
    return poses.retarget(asf.read_amc(amc_text(frames), skeleton, "m.amc"), "it")


def direction(pose, name):
    return pose[poses.DIRECTIONS.index(name)]


def assert_spread_arms(pose):
    expected = {
        "hips_across": (1, 0, 0),
        "shoulders_across": (1, 0, 0),
        "neck": (0, 1, 0),
        "spine_lower": (0, 1, 0),
        "spine_upper": (0, 1, 0),
        "head": (0, 1, 0),
        "head_across": (1, 0, 0),
        "hand_left": (1, 0, 0),
        "hand_right": (-1, 0, 0),
        "upper_arm_left": (1, 0, 0),
        "forearm_right": (-1, 0, 0),
        "thigh_left": (0, -1, 0),
        "shank_right": (0, -1, 0),
        "foot_left": (0, 0, 1),
    }
    for name, vector in expected.items():
        np.testing.assert_allclose(
            direction(pose, name), vector, atol=1e-6, err_msg=name
        )


def test_tables_are_the_papers():
    assert len(parts.PARTS) == len(set(parts.PARTS)) == 31
    assert len(parts.JOINTS) == 16 and poses.POINTS[:16] == parts.JOINTS
    assert parts.labels_of_joint("head") == (1, 2, 3, 4)
    for names in (parts.PARTS, parts.JOINTS):
        other = parts.mirrored(names)
        np.testing.assert_array_equal(other[other], np.arange(len(names)))
        assert names[other[names.index("elbow_left")]] == "elbow_right"
        assert names[other[names.index("neck")]] == "neck"
    colours = parts.part_colours()
    assert len(np.unique(colours, axis=0)) == 32 and not colours[0].any()


def test_both_formats_give_the_same_pose():
    assert_spread_arms(standing())
    motion = bvh.read_bvh(bvh_text(), "m.bvh")
    assert_spread_arms(poses.retarget(motion, "it")[0])


def test_headings_and_places_are_removed():
    frames = [{"root": [x, 0, 3, 0, yaw, 0]} for x, yaw in ((0, 0), (5, 130), (1, -70))]
    for pose in poses_of(frames):
        assert_spread_arms(pose)
    # Whoever lies on the back still does.
    lying = poses_of([{"root": [0, 0, 0, -90, 0, 0]}])[0]
    np.testing.assert_allclose(direction(lying, "neck"), (0, 0, -1), atol=1e-6)


def test_turn_is_the_rotation_about_the_vertical():
    ahead = np.array([[[0, 0, 1], [0, 1, 0], [1, 0, 0]]], float)
    turned = poses.turn(ahead, np.radians([90]))[0]
    np.testing.assert_allclose(turned, [[1, 0, 0], [0, 1, 0], [0, 0, -1]], atol=1e-12)


def test_points_have_the_lengths_of_the_body():
    some = poses_of(waving(20))
    points = poses.skeleton_points(some)
    at = {name: points[:, i] for i, name in enumerate(poses.POINTS)}
    for side in poses.SIDES:
        for first, second, length in (
            ("hip", "knee", "thigh"),
            ("knee", "ankle", "shank"),
            ("shoulder", "elbow", "upper_arm"),
            ("elbow", "wrist", "forearm"),
        ):
            found = np.linalg.norm(
                at[f"{first}_{side}"] - at[f"{second}_{side}"], axis=-1
            )
            expected = poses.LENGTHS[length] * poses.STATURE
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    still = poses.skeleton_points(standing()[None])[0]
    still = dict(zip(poses.POINTS, still, strict=True))
    across = [still[f"{name}_left"][0] for name in ("shoulder", "elbow", "hand")]
    assert 0 < across[0] < across[1] < across[2]
    assert still["hand_right"][0] < 0
    assert still["head"][1] > still["neck"][1] > 0 > still["knee_left"][1]


def test_a_mirrored_pose_is_the_mirror_image():
    some = poses_of(waving(20))
    other = poses.mirrored_poses(some)
    swap = parts.mirrored(poses.POINTS)
    expected = poses.skeleton_points(some)[:, swap] * (-1, 1, 1)
    np.testing.assert_allclose(poses.skeleton_points(other), expected, atol=1e-6)
    across = poses.DIRECTIONS.index("head_across")
    np.testing.assert_allclose(other[:, across], some[:, across] * (1, -1, -1))
    np.testing.assert_allclose(poses.mirrored_poses(other), some)


def test_recombined_poses_keep_limbs_relative_to_the_trunk():
    some = poses_of(waving(10))
    np.testing.assert_allclose(
        poses.recombined_poses(some, some, some), some, atol=1e-6
    )
    # The trunk of one who lies on the back: arms and legs come along.
    lying = poses_of([{"root": [0, 0, 0, -90, 0, 0]}] * 10)
    joined = poses.recombined_poses(lying, some, lying)
    trunk = poses.DIRECTIONS.index("spine_upper")
    np.testing.assert_allclose(joined[:, trunk], lying[:, trunk])
    for name in ("hand_left", "upper_arm_right"):
        # Up is back, ahead is up.
        x, y, z = direction(some.swapaxes(0, 1), name).T
        found = direction(joined.swapaxes(0, 1), name)
        np.testing.assert_allclose(found, np.stack([x, z, -y], 1), atol=1e-6)
    foot = direction(joined.swapaxes(0, 1), "foot_left")
    np.testing.assert_allclose(foot, [[0, 1, 0]] * 10, atol=1e-6)


def furthest_first(joints, near):
    """The rule as it reads, over a table of all distances."""
    distance = np.linalg.norm(joints[:, None] - joints[None], axis=-1).max(-1)
    kept = [0]
    while True:
        least = distance[:, kept].min(1)
        if least.max() < near:
            return kept, distance
        kept.append(int(least.argmax()))


def test_near_duplicates_are_removed_by_the_papers_rule():
    some = poses_of(waving(60, 1) + waving(60, 1)[:20] + waving(60, 2))
    some = np.concatenate([some, some + np.float32(1e-3)])
    joints = poses.skeleton_points(some)[:, :16]
    for near in (0.05, 0.3):
        expected, distance = furthest_first(joints, near)
        kept = poses.spread_poses(some, near)
        assert kept.tolist() == expected
        among = distance[np.ix_(kept, kept)] + np.eye(len(kept))
        assert among.min() >= near and distance[:, kept].min(1).max() < near
    assert len(poses.spread_poses(some, 0.05)) > len(kept) > 1
    assert poses.spread_poses(some[:1]).tolist() == [0]
    assert poses.spread_poses(np.repeat(some[:1], 5, axis=0)).tolist() == [0]


def test_a_skeleton_without_the_names_is_refused():
    text = asf_text().replace("lhumerus", "arm")
    motion = asf.read_amc(
        amc_text([{}]).replace("lhumerus", "arm"), asf.read_asf(text, "s"), "m"
    )
    with pytest.raises(InputError, match="it lacks lhumerus"):
        poses.retarget(motion, "it")
    motion = bvh.read_bvh(bvh_text().replace("OFFSET 25 0 0", "OFFSET 0 0 0"), "m")
    with pytest.raises(InputError, match="no upper_arm_left"):
        poses.retarget(motion, "it")


def test_sets_split_by_subject(tmp_path):
    write_people(tmp_path / "cmu", ("01", "02"), frames=8)
    everyone = pose_sets.read_poses([tmp_path / "cmu"])
    assert everyone.poses.shape == (16, len(poses.DIRECTIONS), 3)
    train, test = pose_sets.split_by_subject(everyone, ["02"])
    assert set(train.subjects) == {"01"} and set(test.clips) == {"02/02_01"}
    assert test.frames.tolist() == list(range(8))
    twice = pose_sets.with_mirrored(train)
    assert len(twice.poses) == 16 and twice.clips[-1] == "01/01_01 mirrored"
    assert set(twice.subjects) == {"01"}
    more = pose_sets.with_recombined(train, 5)
    assert len(more.poses) == 13 and more.clips[-1] == "01/01_01 recombined"
    assert np.isfinite(more.poses).all() and more.poses.dtype == np.float32
    again = pose_sets.without_duplicates(train.at(np.repeat(np.arange(8), 3)))
    assert sorted(again.frames.tolist()) == list(range(8))
    nobody = pose_sets.split_by_subject(everyone, [])[1]
    assert len(pose_sets.without_duplicates(nobody).poses) == 0
    with pytest.raises(InputError, match="subjects are 01, 02, received 03"):
        pose_sets.split_by_subject(everyone, ["03"])
    with pytest.raises(InputError, match="01/01_01 twice"):
        pose_sets.read_poses([tmp_path / "cmu", tmp_path / "cmu"])
