"""Removal of the background: by depth, by the floor, by first frames."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import background, rendering
from mlcvtf.segmentation.body_parts.camera import Camera, axes_to_camera
from tests.segmentation.made_mocap import standing

SMALL = Camera(160, 120, 142.8)


def scene(seed):
    """A person in a room as the sensor sees them."""
    return rendering.random_picture(
        standing(), np.random.default_rng(seed), camera=SMALL, room=True
    )


def floor_only(pitch=0.2, height=1.2):
    """Exact depths of a level floor, and its plane."""
    up = np.array([0, -np.cos(pitch), -np.sin(pitch)])
    rays = SMALL.points(np.ones((120, 160)))
    with np.errstate(divide="ignore"):
        depth = -height / (rays @ up)
    depth[(depth < 0) | (depth > 8)] = 0
    return depth.astype(np.float32), up, height


def test_depths_between_two_limits_are_kept():
    depth = np.array([[0, 1, 2], [3, 4, np.nan]])
    kept = background.within(depth, 2, 3)
    np.testing.assert_array_equal(kept, [[0, 0, 2], [3, 0, 0]])
    assert kept.dtype == np.float32
    with pytest.raises(InputError, match="below the furthest"):
        background.within(depth, 3, 2)


def test_an_exact_floor_is_found_and_removed():
    depth, up, height = floor_only()
    depth[20:110, 70:90] = 2.0
    normal, distance = background.fit_plane(depth, SMALL)
    np.testing.assert_allclose(normal, up, atol=0.01)
    assert distance == pytest.approx(height, abs=0.02)
    kept = background.above_plane(depth, (normal, distance), SMALL)
    assert kept.dtype == np.float32
    outside = np.ones(depth.shape, bool)
    outside[20:110, 70:90] = False
    assert not kept[outside].any()
    assert (kept[20:90, 70:90] == 2.0).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_floor_of_a_room_is_removed_and_the_person_kept(seed):
    picture = scene(seed)
    plane = background.fit_plane(picture.depth, SMALL)
    up = axes_to_camera(picture.placement)[:, 1]
    assert plane[0] @ up > 0.998
    assert plane[1] == pytest.approx(picture.placement.floor, abs=0.08)
    kept = background.above_plane(picture.depth, plane, SMALL) > 0
    person = picture.labels > 0
    assert kept[person].mean() > 0.93
    points = SMALL.points(picture.depth)
    on_floor = (picture.depth > 0) & ~person
    on_floor &= np.abs(points @ up + picture.placement.floor) < 0.01
    assert on_floor.sum() > 300 and kept[on_floor].mean() < 0.03


def test_any_plane_may_be_asked_for():
    depth = np.full((120, 160), 3.0, np.float32)
    normal, distance = background.fit_plane(depth, SMALL, up=None)
    np.testing.assert_allclose(normal, (0, 0, -1), atol=1e-6)
    assert distance == pytest.approx(3)
    with pytest.raises(InputError, match="5% of the pixels .* best here has 0"):
        background.fit_plane(depth, SMALL)
    with pytest.raises(InputError, match="100 pixels"):
        background.fit_plane(np.zeros((120, 160)), SMALL)


def test_first_frames_leave_the_person():
    rng = np.random.default_rng(0)
    wall = np.full((60, 80), 3.0)
    frames = []
    for _ in range(4):
        frame = wall + rng.normal(0, 0.0014 * 9, wall.shape)
        frame[rng.random(wall.shape) < 0.1] = 0
        frames.append(frame)
    model = background.FirstFrames(frames)
    assert (model.depth > 0).mean() > 0.99
    present = wall + rng.normal(0, 0.0014 * 9, wall.shape)
    present[10:50, 30:50] = 2.5
    kept = model.remove(present)
    assert (kept[10:50, 30:50] == 2.5).all()
    kept[10:50, 30:50] = 0
    assert (kept > 0).mean() < 0.002
    # Where the background was out of reach, everything is new.
    frames = [np.where(np.arange(80) < 40, frame, 0) for frame in frames]
    assert background.FirstFrames(frames).remove(wall)[:, 40:].all()


def test_bad_depth_is_refused():
    good = np.full((6, 8), 2.0)
    for bad, message in (
        (good * 1000, "millimetres"),
        (-good, "0 or larger"),
        (np.zeros((6, 8, 3)), "height and width"),
        (np.zeros((0, 8)), "height and width"),
        (np.full((6, 8), "x"), "floating point in metres"),
    ):
        with pytest.raises(InputError, match=message):
            background.within(bad, 0, 1)
    for frames, message in (
        ([], "one or more"),
        ([good, good[1:]], "one size"),
        ([good * 0], "10%"),
    ):
        with pytest.raises(InputError, match=message):
            background.FirstFrames(frames)
    with pytest.raises(InputError, match="background's size"):
        background.FirstFrames([good]).remove(good[1:])
