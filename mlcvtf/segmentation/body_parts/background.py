"""Removal of what is not the person: by depth, by a plane, by an empty first frame.

Shotton et al., 2011, section 3, take the person as already separated. Whatever is
removed becomes 0, as missing pixels are. Noise of the sensor grows with the square of
depth, and so does what counts as different here.
"""

from collections.abc import Sequence

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.segmentation.body_parts.features import check_depth

# What differs by less than so many metres, and so many times the depth squared, is
# the same surface: the steps of Kinect's disparity are 0.003 z^2, noise 0.0014 z^2.
CLOSE, CLOSE_SQUARED = 0.03, 0.008
UP = (0.0, -1.0, 0.0)
# Triples of points that are tried for a plane, and pixels that vote.
TRIALS, VOTERS = 200, 4000
# A plane is found where so many of the pixels that were seen lie on it.
LEAST_SHARE = 0.05
# A first frame is a model if so many of its pixels have a depth.
LEAST_SEEN = 0.1


def clean_depth(depth: np.ndarray) -> np.ndarray:
    """Makes of a depth picture what the other functions take.

    Args:
        depth: float `[h, w]` metres; 0, NaN or infinity where missing.

    Returns:
        float32 `[h, w]` metres, 0 where missing.

    Raises:
        InputError: it is no such picture, or in millimetres.
    """
    depth = np.asarray(depth)
    if depth.dtype.kind == "f":
        depth = np.where(np.isfinite(depth), depth, 0)
    return check_depth(depth)


def tolerance(depth: np.ndarray) -> np.ndarray:
    """Returns the difference in metres that noise may make at a depth in metres."""
    return CLOSE + CLOSE_SQUARED * depth**2


def _plane_tolerance(points, normal):
    """Returns how far noise may move points off a plane: it acts along their rays."""
    z = np.maximum(points[..., 2], 1e-6)
    return 0.01 + tolerance(z) * np.abs(points @ normal) / z


def within(depth: np.ndarray, nearest: float, furthest: float) -> np.ndarray:
    """Keeps what is between two depths.

    Args:
        depth: float `[h, w]` metres, 0 where missing.
        nearest: metres.
        furthest: metres.

    Returns:
        float32 `[h, w]`, 0 where removed.

    Raises:
        InputError: the depth is none, or the limits are not in order.
    """
    depth = clean_depth(depth)
    if not 0 <= nearest < furthest:
        raise InputError(
            "the nearest depth is below the furthest, received "
            f"{nearest:g} and {furthest:g}"
        )
    return np.where((depth >= nearest) & (depth <= furthest), depth, np.float32(0))


def fit_plane(
    depth: np.ndarray, camera: Camera, up: Sequence[float] | None = UP, seed: int = 0
) -> tuple[np.ndarray, float]:
    """Finds the plane that most pixels lie on, by default among the level ones.

    RANSAC (Fischler and Bolles, 1981): planes through three pixels each are tried, and
    least squares over the pixels on the best one give the result.

    Args:
        depth: float `[h, w]` metres, 0 where missing; of an empty scene, or with a
            person where more of the plane is to be seen.
        camera: that took it.
        up: float `[3]`, only planes whose normal is within 45 degrees of this or its
            opposite count; that of a level camera by default, so that the floor is
            found before a larger wall. None: any plane.
        seed: of the pixels that are tried.

    Returns:
        float64 `[3]` the unit normal, towards the camera, and the camera's distance:
        points with `normal @ point + distance == 0` are on the plane.

    Raises:
        InputError: the depth is none, or no plane has enough of the pixels.
    """
    depth = clean_depth(depth)
    points = camera.points(depth)[depth > 0].astype(np.float64)
    rng = np.random.default_rng(seed)
    if len(points) < 100:
        raise InputError(
            f"a plane needs 100 pixels with a depth, received {len(points)}"
        )
    voters = points[rng.choice(len(points), min(VOTERS, len(points)), replace=False)]
    slant = 0 if up is None else np.linalg.norm(up) / np.sqrt(2)
    best, most = None, 0
    for _ in range(TRIALS):
        first, second, third = voters[rng.choice(len(voters), 3, replace=False)]
        normal = np.cross(second - first, third - first)
        length = np.linalg.norm(normal)
        if length < 1e-6 or (up is not None and abs(normal @ up) < slant * length):
            continue
        normal /= length
        on = np.abs((voters - first) @ normal) < _plane_tolerance(voters, normal)
        if on.sum() > most:
            best, most = on, on.sum()
    if most < LEAST_SHARE * len(voters):
        raise InputError(
            f"a plane has {LEAST_SHARE:.0%} of the pixels or more, the "
            f"best here has {most / len(voters):.1%}"
        )
    chosen = voters[best]
    centre = chosen.mean(0)
    # The direction in which the points spread least.
    normal = np.linalg.svd(chosen - centre, full_matrices=False)[2][-1]
    distance = -normal @ centre
    return (normal, float(distance)) if distance > 0 else (-normal, float(-distance))


def above_plane(
    depth: np.ndarray, plane: tuple[np.ndarray, float], camera: Camera
) -> np.ndarray:
    """Keeps what is on the camera's side of a plane.

    Args:
        depth: float `[h, w]` metres, 0 where missing.
        plane: from `fit_plane`.
        camera: that took it.

    Returns:
        float32 `[h, w]`, 0 where removed: on the plane, within the noise, or behind.

    Raises:
        InputError: the depth is none.
    """
    depth = clean_depth(depth)
    normal, distance = plane
    points = camera.points(depth)
    height = points @ normal + distance
    # What is behind a floor is an error of measurement, or its reflection.
    above = height > _plane_tolerance(points, normal)
    return np.where(above, depth, np.float32(0))


class FirstFrames:
    """Removes what was there in frames without a person.

    Args:
        frames: float `[h, w]` metres each, 0 where missing; several fill each other's
            missing pixels.

    Raises:
        InputError: there is none, they differ in size, or are almost empty.
    """

    def __init__(self, frames: Sequence[np.ndarray]):
        frames = [clean_depth(frame) for frame in frames]
        if not frames or len({frame.shape for frame in frames}) > 1:
            raise InputError(
                "the background is one or more frames of one size, "
                f"received {[list(frame.shape) for frame in frames]}"
            )
        frames = np.stack(frames)
        seen = frames > 0
        count = seen.sum(0)
        if (count > 0).mean() < LEAST_SEEN:
            raise InputError(
                f"a background has a depth in {LEAST_SEEN:.0%} of its "
                f"pixels or more, received {(count > 0).mean():.1%}"
            )
        # Each pixel's nearest: noise must not let the background through.
        nearest = np.where(seen, frames, np.inf).min(0)
        self.depth = nearest.astype(np.float32)

    def remove(self, depth: np.ndarray) -> np.ndarray:
        """Keeps what is nearer than the background.

        Where the background was never seen, everything is kept that has a depth.

        Args:
            depth: float `[h, w]` metres, 0 where missing.

        Returns:
            float32 `[h, w]`, 0 where removed.

        Raises:
            InputError: the depth is none, or of another size.
        """
        depth = clean_depth(depth)
        if depth.shape != self.depth.shape:
            raise InputError(
                "depth has the background's size "
                f"{list(self.depth.shape)}, received {list(depth.shape)}"
            )
        nearer = depth < self.depth - tolerance(depth)
        return np.where(nearer, depth, np.float32(0))
