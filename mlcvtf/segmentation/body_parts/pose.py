"""Parts and joints of one depth picture: the whole of Shotton et al., 2011."""

import numpy as np

from mlcvtf.segmentation.body_parts.joints import JointModel, best_joints, propose


def estimate(compiled, joints: JointModel, depth, points) -> dict[str, np.ndarray]:
    """Finds the body parts and the joints of a person whose background is removed.

    Args:
        compiled: `compiled_forest.CompiledForest` or `mirror.MirroredForest`.
        joints: of its parts.
        depth: float `[height, width]` in metres, 0 where missing or background.
        points: float `[height, width, 3]`: where each pixel is, x right, y down and z
            ahead of the camera, in metres.

    Returns:
        parts: uint8 `[height, width]`, 0 where depth is 0, parts from 1; joints:
        float32 `[joints, 4]`: x, y, z in metres and confidence, NaN and 0 where no
        pixel is probable enough.

    Raises:
        InputError: depth is not as above.
        ValueError: points are of another picture.
    """
    parts, sums = compiled.classify(depth)
    points = np.asarray(points)
    if points.shape != (*parts.shape, 3):
        raise ValueError(
            f"Points are of the {parts.shape} pixels, received shape {points.shape}"
        )
    probabilities = compiled.probabilities(sums)
    found = propose(joints, points[parts > 0], probabilities)
    return {"parts": parts, "joints": best_joints(joints, found)}
