"""A person who marches, waves and turns round, to try things without a sensor.

The movement is made by formula, so it needs no recording; body and sensor are those of
`rendering.py`.
"""

from collections.abc import Iterator

import numpy as np

from mlcvtf.segmentation.body_parts.body import random_build
from mlcvtf.segmentation.body_parts.poses import DIRECTIONS, SIDES

# Seconds of a step and of a full turn of the body, which goes back and forth.
STEP, TURN = 1.2, 10.0
# Largest heading to either side, in radians.
LARGEST_HEADING = 1.0
DISTANCE, HEIGHT = 3.0, 1.0


def pose_at(seconds: float) -> np.ndarray:
    """Returns the pose at a time.

    Args:
        seconds: since the start.

    Returns:
        float64 `[len(DIRECTIONS), 3]`, as of `poses.retarget`.
    """
    way = {
        name: (1.0, 0.0, 0.0) if name.endswith("across") else (0.0, 1.0, 0.0)
        for name in DIRECTIONS
    }
    phase = 2 * np.pi * seconds / STEP
    for side, sign in zip(SIDES, (1, -1), strict=True):
        swing = 0.45 * np.sin(phase) * sign
        bend = 0.7 * max(0.0, np.cos(phase) * sign)
        way[f"thigh_{side}"] = _hanging(swing)
        way[f"shank_{side}"] = _hanging(swing - bend)
        way[f"foot_{side}"] = (0.15 * sign, -0.2, 1.0)
        way[f"upper_arm_{side}"] = (0.25 * sign, *_hanging(-0.6 * swing)[1:])
        for segment in ("forearm", "hand"):
            way[f"{segment}_{side}"] = (0.15 * sign, *_hanging(0.3 - 0.6 * swing)[1:])
    wave = 0.5 * np.sin(2 * phase)
    way["upper_arm_right"] = (-0.9, -0.1, 0.2)
    for segment in ("forearm", "hand"):
        way[f"{segment}_right"] = (wave - 0.2, 1.0, 0.2)
    pose = np.array([way[name] for name in DIRECTIONS], np.float64)
    return pose / np.linalg.norm(pose, axis=1, keepdims=True)


def depth_pictures(count: int, rate: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Renders the movement as a sensor would see it.

    Args:
        count: of pictures.
        rate: of them per second.
        seed: of the body and the noise.

    Yields:
        float32 `[240, 320]` metres, 0 where missing.
    """
    from mlcvtf.segmentation.body_parts import rendering
    from mlcvtf.segmentation.body_parts.camera import Camera, Placement, Sensor

    rng = np.random.default_rng(seed)
    build, camera = random_build(rng), Camera()
    for i in range(count):
        seconds = i / rate
        heading = LARGEST_HEADING * np.sin(2 * np.pi * seconds / TURN)
        points, solids = rendering.points_and_solids(pose_at(seconds), build)
        shift = np.array([0.0, HEIGHT + points[:, 1].min() - 0.05, DISTANCE])
        place = Placement(float(heading), 0.0, shift, HEIGHT)
        depth, labels = rendering.render(solids, place, camera)
        yield rendering.measure(depth, labels, camera, Sensor(), rng)[0]


def _hanging(angle):
    """Returns the direction of a limb that hangs down, turned forward by an angle."""
    return (0.0, -np.cos(angle), np.sin(angle))
