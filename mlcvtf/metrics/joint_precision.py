"""Average precision of proposed joints.

Shotton et al., 2011, "Real-Time Human Pose Recognition in Parts from Single Depth
Images", CVPR, section 4: the most confident proposal within 10 cm of a joint is right;
any other is wrong, one that hits the joint again included; all proposals count, not
just the best of a picture; and a joint that is out of sight is not missed. Where one is
out of sight, what lies within 10 cm of it is neither right nor wrong (PASCAL VOC's
rule for difficult objects, on which the paper is silent). NumPy only.
"""

import numpy as np

DISTANCE = 0.1


def joint_average_precision(
    proposals, truths, visible, distance: float = DISTANCE
) -> np.ndarray:
    """Returns the area under each joint's precision-recall curve.

    AP = sum_i (r_i - r_{i-1}) max_{j >= i} p_j.

    Args:
        proposals: one per picture, each with `joints` int `[m]`, `positions` float
            `[m, 3]` in metres and `confidences` float `[m]`.
        truths: float `[n, joints, 3]` in metres.
        visible: bool `[n, joints]`.
        distance: metres within which a joint is hit.

    Returns:
        float64 `[joints]` in 0..1; NaN for joints that are never in sight. Their
        `np.nanmean` is the mean average precision.

    Raises:
        ValueError: the numbers of pictures or joints differ.

    >>> import collections
    >>> Found = collections.namedtuple("Found", "joints positions confidences")
    >>> found = Found([0, 0], [[0, 0, 2.05], [0, 0, 2.0]], [0.9, 0.8])
    >>> joint_average_precision([found], [[[0, 0, 2]]], [[True]]).tolist()
    [1.0]
    """
    truths, visible = np.asarray(truths, np.float64), np.asarray(visible, bool)
    if truths.shape[:2] != visible.shape or len(proposals) != len(truths):
        raise ValueError(
            "Proposals, truths and visible are of the same pictures and joints, "
            f"received {len(proposals)}, {truths.shape} and {visible.shape}"
        )
    rows = [np.zeros((0, 4))]
    for picture, found in enumerate(proposals):
        joints = np.asarray(found.joints, np.int64)
        places = np.asarray(found.positions, np.float64).reshape(-1, 3)
        away = np.linalg.norm(places - truths[picture, joints], axis=1)
        rows.append(
            np.stack(
                [
                    np.full(len(joints), picture),
                    joints,
                    np.asarray(found.confidences, np.float64),
                    away <= distance,
                ],
                1,
            )
        )
    rows = np.concatenate(rows)
    rows = rows[np.argsort(-rows[:, 2], kind="stable")]
    return np.array(
        [
            _area(rows[rows[:, 1] == joint], visible[:, joint])
            for joint in range(truths.shape[1])
        ]
    )


def _area(rows, visible):
    """Returns the average precision of one joint's proposals, best first."""
    if not visible.any():
        return np.nan
    pictures, near = rows[:, 0].astype(np.int64), rows[:, 3] > 0
    counted = visible[pictures] | ~near
    hits = np.flatnonzero(near & visible[pictures])
    _, first = np.unique(pictures[hits], return_index=True)
    right = np.zeros(len(rows), bool)
    right[hits[first]] = True
    right = np.cumsum(right[counted])
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(right / visible.sum(), prepend=0.0) * envelope))
