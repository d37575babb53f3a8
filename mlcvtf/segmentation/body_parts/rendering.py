"""Depth pictures of bodies, with the part that every pixel shows.

Rays are cast at the capsules and ellipsoids themselves, each within its box on the
picture: exact, and faster than a mesh, since a body covers few pixels and has under
fifty solids.
"""

from typing import NamedTuple

import numpy as np

from mlcvtf.segmentation.body_parts.body import (
    Build,
    Solids,
    points_and_solids,
    random_build,
)
from mlcvtf.segmentation.body_parts.camera import (
    Camera,
    Placement,
    Sensor,
    View,
    axes_to_camera,
    random_placement,
    to_camera,
)
from mlcvtf.segmentation.body_parts.parts import JOINTS

# Nothing is measured nearer than this, nor drawn.
NEAREST = 0.4
# How far a wall is behind the person, in metres, and what else stands in a room.
WALL = (0.15, 1.5)
MOST_THINGS = 4


class Picture(NamedTuple):
    """A depth picture and the truth about it.

    Attributes:
        depth: float32 `[h, w]` metres, 0 where missing or nothing is.
        labels: uint8 `[h, w]`; i is `parts.PARTS[i - 1]`, 0 is no part.
        joints: float32 `[16, 3]` metres in the camera's space, x right, y down, z
            ahead.
        placement: of the person.
    """

    depth: np.ndarray
    labels: np.ndarray
    joints: np.ndarray
    placement: Placement


def random_picture(
    pose: np.ndarray,
    rng: np.random.Generator,
    camera: Camera | None = None,
    sensor: Sensor | None = None,
    view: View | None = None,
    room: bool = False,
) -> Picture:
    """Renders a pose on a random body in a random place, as the sensor would see it.

    Args:
        pose: float `[len(DIRECTIONS), 3]`, from
            `mlcvtf.segmentation.body_parts.poses.retarget`.
        rng: all that is random comes from it; the same state gives the same picture.
        camera: Kinect's at 320x240 by default.
        sensor: Kinect's by default.
        view: from where; all around at 2.2 to 3.8 m by default.
        room: whether there are a floor, a wall and things; their label is 0.
    """
    camera = camera or Camera()
    points, solids = points_and_solids(pose, random_build(rng))
    placement = random_placement(points, _lowest(solids), camera, view or View(), rng)
    depth, labels = render(solids, placement, camera)
    if room:
        _furnish(depth, labels, to_camera(points, placement), placement, camera, rng)
    depth, labels = measure(depth, labels, camera, sensor or Sensor(), rng)
    joints = to_camera(points[: len(JOINTS)], placement)
    return Picture(depth, labels, joints.astype(np.float32), placement)


def clean_picture(
    pose: np.ndarray, build: Build, placement: Placement, camera: Camera | None = None
) -> Picture:
    """Renders a pose on a given body in a given place, without a sensor's errors.

    Args:
        pose: float `[len(DIRECTIONS), 3]`.
        build: of the body.
        placement: of it.
        camera: Kinect's at 320x240 by default.
    """
    points, solids = points_and_solids(pose, build)
    depth, labels = render(solids, placement, camera or Camera())
    depth[np.isinf(depth)] = 0
    joints = to_camera(points[: len(JOINTS)], placement)
    return Picture(depth, labels, joints.astype(np.float32), placement)


def render(
    solids: Solids, placement: Placement, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """Casts rays at solids.

    Args:
        solids: in the body's space.
        placement: of the body.
        camera: it.

    Returns:
        float32 `[h, w]` metres, infinity where nothing is; and uint8 labels.
    """
    depth = np.full((camera.height, camera.width), np.inf, np.float32)
    labels = np.zeros(depth.shape, np.uint8)
    turn = axes_to_camera(placement)
    starts = to_camera(solids.starts, placement)
    surfaces = solids.surfaces.copy()
    surfaces[:, 6:9] = to_camera(surfaces[:, 6:9], placement)
    surfaces[:, 9:12] = surfaces[:, 9:12] @ turn.T
    surfaces[:, 12:15] = surfaces[:, 12:15] @ turn.T
    _cast(starts, solids.axes @ turn.T, solids.shapes, surfaces, camera, depth, labels)
    return depth, labels


def _cast(starts, axes, shapes, surfaces, camera, depth, labels):
    """Casts rays at solids that are in the camera's space already, in place."""
    from mlcvtf.segmentation.body_parts import render_kernels

    boxes = _boxes(starts, axes, shapes, camera)
    # Axes are orthogonal, so that dividing by their squares inverts the map.
    maps = axes / (axes**2).sum(-1, keepdims=True)
    origins = -np.einsum("nij,nj->ni", maps, starts)
    render_kernels.cast(
        np.hstack([maps.reshape(-1, 9), origins, shapes]),
        surfaces,
        boxes,
        camera.focal,
        np.array(camera.centre),
        depth,
        labels,
    )


def measure(
    depth: np.ndarray,
    labels: np.ndarray,
    camera: Camera,
    sensor: Sensor,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Makes of true depths what a sensor measures.

    Args:
        depth: float32 `[h, w]` metres, infinity where nothing is.
        labels: uint8 `[h, w]`.
        camera: that sees so.
        sensor: how it errs.
        rng: its state moves on.

    Returns:
        Both anew, 0 where missing.
    """
    from mlcvtf.segmentation.body_parts import render_kernels

    sensed, sensed_labels = np.zeros_like(depth), np.zeros_like(labels)
    there = np.isfinite(depth)
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if len(rows):
        # Noise is drawn where something is, not for an empty picture around it; edges
        # fray by few pixels.
        part = np.s_[
            max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4
        ]
        shape = depth[part].shape
        noise = rng.standard_normal((3, *shape), np.float32)
        chance = rng.random(shape, np.float32)
        render_kernels.sense(
            depth[part],
            labels[part],
            noise,
            chance,
            sensor.settings(camera),
            sensed[part],
            sensed_labels[part],
        )
    return sensed, sensed_labels


def _reach(axes, radii):
    """Returns how far spheres reach along x, y and z once they are mapped."""
    return radii[:, None] * np.sqrt((axes**2).sum(1))


def _lowest(solids):
    """Returns the y of the lowest point of a body."""
    ends = solids.starts + solids.shapes[:, :1] * solids.axes[:, 2]
    return min(
        (place - _reach(solids.axes, solids.shapes[:, i]))[:, 1].min()
        for place, i in ((solids.starts, 1), (ends, 2))
    )


def _boxes(starts, axes, shapes, camera):
    """Returns int64 `[n, 4]`: pixels outside of which no ray meets a solid."""
    ends = starts + shapes[:, :1] * axes[:, 2]
    low, high = [], []
    for place, radii in ((starts, shapes[:, 1]), (ends, shapes[:, 2])):
        reach = _reach(axes, radii)
        near = np.maximum(place[:, 2:] - reach[:, 2:], NEAREST)
        far = np.maximum(place[:, 2:] + reach[:, 2:], NEAREST)
        left, right = place[:, :2] - reach[:, :2], place[:, :2] + reach[:, :2]
        # What lies left of the axis is furthest out where it is near.
        low.append(np.minimum(left / near, left / far))
        high.append(np.maximum(right / near, right / far))
    size = np.array([camera.width, camera.height])
    low = np.minimum(*low) * camera.focal + camera.centre
    high = np.maximum(*high) * camera.focal + camera.centre
    # No number, of a damaged pose, must not become an address.
    corners = np.nan_to_num(np.ceil(low)), np.nan_to_num(np.floor(high) + 1)
    return np.hstack([np.clip(corner, 0, size) for corner in corners]).astype(np.int64)


def _furnish(depth, labels, points, placement, camera, rng):
    """Puts a floor, a wall and things around a person at `points`, in place."""
    from mlcvtf.segmentation.body_parts import render_kernels

    centre = np.array(camera.centre)
    turn = axes_to_camera(placement._replace(yaw=0.0))
    up, ahead = turn[:, 1], -turn[:, 2]
    floor = -placement.floor * up
    wall = _unit_turn(turn, rng.uniform(-0.5, 0.5)) @ ahead
    behind = (points @ wall).max() + rng.uniform(*WALL)
    for normal, distance in ((up, floor @ up), (wall, behind)):
        render_kernels.cast_plane(normal, distance, camera.focal, centre, depth)
    count = rng.integers(0, MOST_THINGS + 1)
    starts, axes, shapes = [], [], []
    for _ in range(count):
        # Beside the person, further away rather than nearer, upright on the floor.
        side = placement.shift[0] + rng.choice((-1, 1)) * rng.uniform(1.0, 2.0)
        place = placement.shift @ ahead + rng.uniform(-0.2, 1.0)
        starts.append(floor + place * ahead + side * turn[:, 0])
        scale = rng.uniform((0.1, 0.1, 0.3), (0.5, 0.5, 1.2))
        axes.append(np.array([turn[:, 0], ahead, up]) * scale[:, None])
        shapes.append((rng.choice((0.0, 1.0)), 1.0, rng.uniform(0.3, 1.0)))
    if count:
        shapes = np.array(shapes)
        surfaces = np.zeros((count, 15))
        _cast(np.array(starts), np.array(axes), shapes, surfaces, camera, depth, labels)


def _unit_turn(axes, yaw):
    """Returns the rotation about the body's vertical, in the camera's space."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return axes @ turn @ axes.T
