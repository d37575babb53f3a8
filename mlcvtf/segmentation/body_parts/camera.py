"""A depth camera as Kinect's: intrinsics, what it gets wrong, where it stands.

The sensor measures disparity against a projector 7.5 cm to its right. Noise that is
constant in disparity grows with the square of depth: Khoshelham and Elberink, 2012,
"Accuracy and Resolution of Kinect Depth Data", Sensors 12 (half a unit of disparity,
1.4 cm at 3.1 m, of which rounding to whole units makes 0.29; the rest is 0.41).
Disparity is an 11-bit number in eighths of a pixel of a picture 640 wide, 1090 at
infinity: https://wiki.ros.org/kinect_calibration/technical.
"""

from typing import NamedTuple

import numpy as np


class Camera(NamedTuple):
    """A pinhole camera; x is right, y down, z ahead.

    Attributes:
        width: pixels.
        height: pixels.
        focal: pixels; Kinect's is 285.63 at 320x240 (NUI_CAMERA_DEPTH_NOMINAL_FOCAL_
            LENGTH_IN_PIXELS of its SDK).
    """

    width: int = 320
    height: int = 240
    focal: float = 285.63

    @classmethod
    def of_size(cls, width: int, height: int) -> "Camera":
        """Returns Kinect's camera with pictures of another width and height."""
        return cls(width, height, cls().focal * width / cls().width)

    @property
    def centre(self) -> tuple[float, float]:
        """The principal point in pixels, in the middle of the picture."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def project(self, points: np.ndarray) -> np.ndarray:
        """Returns where points appear.

        Args:
            points: float `[..., 3]` metres, in front of the camera.

        Returns:
            Float `[..., 2]`: x and y in pixels, 0 in the middle of the first.
        """
        return points[..., :2] / points[..., 2:] * self.focal + self.centre

    def points(self, depth: np.ndarray) -> np.ndarray:
        """Returns the points that a depth picture shows.

        Args:
            depth: float `[height, width]` metres.

        Returns:
            Float `[height, width, 3]` metres.
        """
        height, width = depth.shape
        x = (np.arange(width) - self.centre[0]) / self.focal
        y = (np.arange(height) - self.centre[1]) / self.focal
        return np.stack([depth * x, depth * y[:, None], depth], axis=-1)


class Sensor(NamedTuple):
    """How a sensor errs.

    Attributes:
        disparity_noise: deviation in units of disparity, before rounding.
        place_noise: deviation in pixels of where a pixel looks: it frays edges.
        lost_at_edges: share of pixels without depth beside an edge.
        lost: share anywhere else.
        edge: step of depth between neighbours that is an edge, in metres.
        baseline: between camera and projector, in metres.
        infinity: disparity at infinity.
        steps: units of disparity in a pixel of a picture 640 wide.
    """

    disparity_noise: float = 0.41
    place_noise: float = 0.4
    lost_at_edges: float = 0.25
    lost: float = 0.002
    edge: float = 0.1
    baseline: float = 0.075
    infinity: float = 1090.0
    steps: float = 8.0

    def settings(self, camera: Camera) -> np.ndarray:
        """Returns the settings of `render_kernels.sense`."""
        shift = self.baseline * camera.focal
        return np.array(
            [
                self.disparity_noise,
                self.place_noise,
                self.lost_at_edges,
                self.lost,
                self.edge,
                shift,
                self.infinity,
                self.steps * shift * 640 / camera.width,
            ]
        )


class Placement(NamedTuple):
    """Where a person stands before the camera.

    Attributes:
        yaw: radians; 0 faces the camera, positive turns to its right.
        pitch: radians; positive looks down.
        shift: float `[3]` metres, of the pelvis in the camera's space.
        floor: height of the camera over the floor, in metres.
    """

    yaw: float
    pitch: float
    shift: np.ndarray
    floor: float


class View(NamedTuple):
    """From where people are seen; each is drawn uniformly.

    Attributes:
        distances: least and largest along the floor, in metres.
        heights: of the camera over the floor, in metres: on a table or a shelf.
        aim: largest error of whoever pointed the camera at the person, in radians.
        yaw: largest heading to either side of facing the camera, in degrees.
    """

    distances: tuple[float, float] = (2.2, 3.8)
    heights: tuple[float, float] = (0.9, 1.3)
    aim: float = 0.03
    yaw: float = 180.0


# Pixels to the left and right of a person who fits in the picture.
MARGIN = 6


def random_placement(
    points: np.ndarray,
    lowest: float,
    camera: Camera,
    view: View,
    rng: np.random.Generator,
) -> Placement:
    """Draws a place and a heading; the camera is pointed at the person's middle.

    The person is wholly between the left and right margins where that is possible;
    near the camera the head or feet may be cut.

    Args:
        points: float `[n, 3]` metres, what should be in the picture, with the pelvis
            at 0; y is up, z to where the person looks.
        lowest: y of the lowest point of the body.
        camera: it.
        view: from where it looks.
        rng: its state moves on.
    """
    yaw = np.radians(rng.uniform(-view.yaw, view.yaw))
    distance, over = rng.uniform(*view.distances), rng.uniform(*view.heights)
    middle = (points[:, 1].max() + points[:, 1].min()) / 2 - lowest
    pitch = np.arctan2(over - middle, distance) + rng.uniform(-view.aim, view.aim)
    # The pelvis is at this distance on the floor, and -lowest over it.
    drop = over + lowest
    cosine, sine = np.cos(pitch), np.sin(pitch)
    shift = np.array(
        [0, drop * cosine - distance * sine, distance * cosine + drop * sine]
    )
    seen = to_camera(points, Placement(yaw, pitch, shift, over))
    room = (camera.width / 2 - MARGIN) / camera.focal * seen[:, 2]
    left, right = (-room - seen[:, 0]).max(), (room - seen[:, 0]).min()
    shift[0] = rng.uniform(left, right) if left < right else (left + right) / 2
    return Placement(float(yaw), float(pitch), shift, float(over))


def axes_to_camera(placement: Placement) -> np.ndarray:
    """Returns float64 `[3, 3]`, the map of a body's directions to the camera's."""
    cosine, sine = np.cos(placement.yaw), np.sin(placement.yaw)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    # The camera looks at the person: its z is against the person's, its y down.
    flip = np.diag([1.0, -1.0, -1.0])
    cosine, sine = np.cos(placement.pitch), np.sin(placement.pitch)
    tilt = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    return tilt @ flip @ turn


def to_camera(points: np.ndarray, placement: Placement) -> np.ndarray:
    """Moves a body's points into the camera's space.

    Args:
        points: float `[n, 3]` metres, the pelvis at 0.
        placement: of the body.

    Returns:
        Float64 `[n, 3]` metres.
    """
    return points @ axes_to_camera(placement).T + placement.shift
