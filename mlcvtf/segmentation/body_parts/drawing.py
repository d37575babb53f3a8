"""Depth, parts and skeletons as colours to look at."""

import cv2
import numpy as np

from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.segmentation.body_parts.parts import BONES, JOINTS, part_colours

BONE = (70, 220, 90)
# Left and right of the person; the middle is white.
LEFT, RIGHT, MIDDLE = (255, 70, 60), (60, 190, 255), (255, 255, 255)
# Metres: joints further apart are not those of one limb, such as two where left and
# right were mistaken for each other.
LONGEST_BONE = 0.6


def parts_picture(labels: np.ndarray) -> np.ndarray:
    """Colours the parts; left and right of a part differ in shade.

    Args:
        labels: uint8 `[h, w]` in 0..31.

    Returns:
        uint8 `[h, w, 3]` RGB.
    """
    return part_colours()[labels]


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Shades depth: near is bright, far is dark, missing is black.

    Args:
        depth: float `[h, w]` metres, 0 where missing.

    Returns:
        uint8 `[h, w, 3]` RGB.
    """
    shades = np.zeros(depth.shape, np.uint8)
    there = depth > 0
    if there.any():
        # A few stray pixels leave the rest its contrast.
        near, far = np.percentile(depth[there], (1, 99))
        share = (depth[there] - near) / max(far - near, 1e-3)
        shades[there] = np.round(230 - 190 * np.clip(share, 0, 1))
    return np.repeat(shades[..., None], 3, axis=-1)


def draw_skeleton(
    image: np.ndarray,
    joints: np.ndarray,
    camera: Camera,
    seen: np.ndarray | None = None,
) -> None:
    """Draws joints and the bones between them, in place, and no bone of no person.

    Args:
        image: uint8 `[h, w, 3]` RGB.
        joints: float `[16, 3]` metres in the camera's space.
        camera: it.
        seen: bool `[16]`, the joints to draw; all that are before the camera by
            default.
    """
    seen = joints[:, 2] > 0.1 if seen is None else seen & (joints[:, 2] > 0.1)
    places = np.zeros((len(joints), 2), int)
    places[seen] = np.round(np.clip(camera.project(joints[seen]), -1e4, 1e4))
    places = [tuple(map(int, place)) for place in places]
    for bone in BONES:
        first, second = (JOINTS.index(joint) for joint in bone)
        there = seen[first] and seen[second]
        if there and np.linalg.norm(joints[first] - joints[second]) < LONGEST_BONE:
            cv2.line(image, places[first], places[second], BONE, 1, cv2.LINE_AA)
    for joint, place, there in zip(JOINTS, places, seen, strict=True):
        if there:
            colour = (
                LEFT
                if joint.endswith("left")
                else RIGHT
                if joint.endswith("right")
                else MIDDLE
            )
            cv2.circle(image, place, 2, colour, -1, cv2.LINE_AA)
