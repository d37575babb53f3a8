"""Poses of one body, whoever was recorded: retargeting and removal of near-duplicates.

A pose is the directions of its segments. Drawn with the lengths of another body they
give that body's joints, so that recordings of any skeleton serve bodies of any build.
"""

from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.mocap import Motion
from mlcvtf.segmentation.body_parts.parts import JOINTS, mirrored

SIDES = ("left", "right")
# Unit vectors of a pose. "across" points to the person's left.
DIRECTIONS = (
    "hips_across", "spine_lower", "spine_upper", "shoulders_across", "neck", "head",
    "head_across",
    *(f"{segment}_{side}"
      for segment in ("upper_arm", "forearm", "hand", "thigh", "shank", "foot")
      for side in SIDES),
)  # fmt: skip

# Points of the skeleton that a body is built on: the 16 joints first, in their order.
POINTS = (
    *JOINTS,
    "pelvis",
    "waist",
    "chest",
    "skull",
    "hip_left",
    "hip_right",
    "fingers_left",
    "fingers_right",
    "toes_left",
    "toes_right",
)

# Lengths of segments as shares of stature, from Drillis and Contini's table as in
# Winter, 2009, "Biomechanics and Motor Control of Human Movement", figure 4.1, where
# it has them; half widths are between the centres of rotation, not the outlines.
LENGTHS = {
    "hip_half": 0.052, "shoulder_half": 0.103, "spine_lower": 0.125,
    "spine_upper": 0.165, "neck": 0.062, "head": 0.06, "upper_arm": 0.172,
    "forearm": 0.15, "hand": 0.05, "fingers": 0.045, "thigh": 0.245, "shank": 0.24,
    "foot": 0.06, "toes": 0.07,
}  # fmt: skip
STATURE = 1.72
# What the paper calls two poses: some joint is so far apart, in metres.
NEAR = 0.05


class _Names(NamedTuple):
    """The bones of a family of skeletons.

    Attributes:
        waist: starts between the two halves of the spine.
        neck: starts between the shoulders.
        skull: the neck ends where it starts; its rotation is the head's.
        up: column of the head's rotation that points up.
        left: column of it that points to the left.
        limbs: left bone of each segment; each ends where the segment does.
        right: the same of the right.
        fingers: signed column of the left and right hand's rotation that points to
            the fingers, where the hand's bone has no length: +1 is the first.
    """

    waist: str
    neck: str
    skull: str
    up: int
    left: int
    limbs: tuple[str, ...]
    right: tuple[str, ...]
    fingers: tuple[int, int] | None = None


LIMBS = ("upper_arm", "forearm", "hand", "thigh", "shank", "foot")
# In the rest pose of CMU's skeletons, from which rotations count, the person looks
# along z, y is up and x left.
CMU = _Names(
    "upperback", "lowerneck", "head", 1, 0,
    ("lhumerus", "lradius", "lhand", "lfemur", "ltibia", "lfoot"),
    ("rhumerus", "rradius", "rhand", "rfemur", "rtibia", "rfoot"),
)  # fmt: skip
# Bandai's joints have axes of their own. The head's was seen to be so in the mean over
# all frames: left 0.96 along z, up 0.98 along x.
BANDAI = _Names(
    "Spine", "Neck", "Head", 0, 2,
    ("UpperArm_L", "LowerArm_L", "Hand_L", "UpperLeg_L", "LowerLeg_L", "Foot_L"),
    ("UpperArm_R", "LowerArm_R", "Hand_R", "UpperLeg_R", "LowerLeg_R", "Foot_R"),
    (1, -1),
)  # fmt: skip


def retarget(motion: Motion, name: str) -> np.ndarray:
    """Turns a recording into poses: directions that any body can take.

    Headings are removed: every pose faces along z, by its hips and shoulders.

    Args:
        motion: of a skeleton with the names of CMU's or Bandai's.
        name: what to call it in messages.

    Returns:
        float32 `[frames, len(DIRECTIONS), 3]` unit vectors; y is up and x the
        person's left.

    Raises:
        InputError: the skeleton has other names, or segments without length.
    """
    missing = []
    for family in (CMU, BANDAI):
        needed = (family.waist, family.neck, family.skull, *family.limbs, *family.right)
        missing.append([bone for bone in needed if bone not in motion.names])
        if not missing[-1]:
            break
    else:
        least = min(missing, key=len)[0]
        raise InputError(
            "a skeleton has the bones of CMU's (lhumerus ...) or Bandai's "
            f"(UpperArm_L ...), {name} lacks {least}"
        )
    starts = {key: motion.starts[:, i] for i, key in enumerate(motion.names)}
    ends = {key: motion.ends[:, i] for i, key in enumerate(motion.names)}
    turns = {key: motion.rotations[:, i] for i, key in enumerate(motion.names)}
    hips = starts[family.limbs[3]], starts[family.right[3]]
    shoulders = starts[family.limbs[0]], starts[family.right[0]]
    chest, pelvis = np.mean(shoulders, axis=0), np.mean(hips, axis=0)
    vectors = {
        "hips_across": hips[0] - hips[1],
        "spine_lower": starts[family.waist] - pelvis,
        "spine_upper": chest - starts[family.waist],
        "shoulders_across": shoulders[0] - shoulders[1],
        "neck": starts[family.skull] - starts[family.neck],
        "head": turns[family.skull][..., family.up],
        "head_across": turns[family.skull][..., family.left],
    }
    for side, bones in zip(SIDES, (family.limbs, family.right), strict=True):
        for segment, bone in zip(LIMBS, bones, strict=True):
            vectors[f"{segment}_{side}"] = ends[bone] - starts[bone]
    if family.fingers:
        for side, bones, sign in zip(
            SIDES, (family.limbs, family.right), family.fingers, strict=True
        ):
            vectors[f"hand_{side}"] = turns[bones[2]][..., 0] * sign
    poses = np.stack([vectors[key] for key in DIRECTIONS], axis=1)
    lengths = np.linalg.norm(poses, axis=-1, keepdims=True)
    if lengths.min() < 1e-6:
        bone = DIRECTIONS[lengths[..., 0].min(0).argmin()]
        raise InputError(f"a person's segments have a length, {name} has no {bone}")
    return _facing(poses / lengths).astype(np.float32)


def _facing(poses):
    """Turns poses about the vertical until hips and shoulders lie along x."""
    across = (
        poses[:, DIRECTIONS.index("hips_across")]
        + poses[:, DIRECTIONS.index("shoulders_across")]
    )
    # left is (cos a, -sin a) in x and z where the person was turned by a.
    return turn(poses, -np.arctan2(-across[:, 2], across[:, 0]))


def turn(vectors: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Turns vectors about the vertical axis.

    Args:
        vectors: float `[n, k, 3]`.
        yaw: float `[n]` radians; positive turns z, where a person looks, to x.

    Returns:
        Float `[n, k, 3]`.
    """
    cosine, sine = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([x * cosine + z * sine, y, z * cosine - x * sine], -1)


def mirrored_poses(poses: np.ndarray) -> np.ndarray:
    """Mirrors poses: what the left side did, the right does.

    Args:
        poses: float `[n, len(DIRECTIONS), 3]`.

    Returns:
        The same shape.
    """
    result = poses[:, mirrored(DIRECTIONS)] * np.array([-1, 1, 1], poses.dtype)
    for name in DIRECTIONS:
        if name.endswith("_across"):
            # It points to the left, which the mirror makes the right.
            result[:, DIRECTIONS.index(name)] *= -1
    return result


def recombined_poses(
    trunks: np.ndarray, arms: np.ndarray, legs: np.ndarray
) -> np.ndarray:
    """Joins the trunks and heads of poses with the arms and legs of others.

    Limbs keep their directions relative to the chest or the pelvis they hang on.

    Args:
        trunks: float `[n, len(DIRECTIONS), 3]`.
        arms: the same shape.
        legs: the same shape.

    Returns:
        The same shape.
    """
    result = trunks.copy()
    for others, across, along, segments in (
        (arms, "shoulders_across", "spine_upper", LIMBS[:3]),
        (legs, "hips_across", "spine_lower", LIMBS[3:]),
    ):
        columns = [
            DIRECTIONS.index(f"{segment}_{side}")
            for segment in segments
            for side in SIDES
        ]
        turn = np.swapaxes(_frames(trunks, across, along), 1, 2) @ _frames(
            others, across, along
        )
        result[:, columns] = others[:, columns] @ np.swapaxes(turn, 1, 2)
    return result


def _frames(poses, across, along):
    """Returns `[n, 3, 3]`, as rows the axes of a part of the trunk."""
    left, up = (poses[:, DIRECTIONS.index(name)] for name in (across, along))
    front = np.cross(left, up)
    front /= np.linalg.norm(front, axis=-1, keepdims=True)
    return np.stack([left, np.cross(front, left), front], axis=1)


def skeleton_points(poses: np.ndarray, lengths: dict | None = None) -> np.ndarray:
    """Computes where a body's points are in poses, with the pelvis at 0.

    Args:
        poses: float `[n, len(DIRECTIONS), 3]`, from `retarget`.
        lengths: metres of each segment in `LENGTHS`; those of a body of mean stature
            by default.

    Returns:
        float `[n, len(POINTS), 3]` metres, in the order of `POINTS`; the first 16 are
        `JOINTS`.
    """
    if lengths is None:
        lengths = {key: share * STATURE for key, share in LENGTHS.items()}
    way = {key: poses[:, i] for i, key in enumerate(DIRECTIONS)}
    at = {"pelvis": np.zeros_like(poses[:, 0])}
    at["waist"] = at["pelvis"] + lengths["spine_lower"] * way["spine_lower"]
    at["chest"] = at["waist"] + lengths["spine_upper"] * way["spine_upper"]
    at["neck"] = at["chest"] + 0.5 * lengths["neck"] * way["neck"]
    at["skull"] = at["chest"] + lengths["neck"] * way["neck"]
    at["head"] = at["skull"] + lengths["head"] * way["head"]
    for side, sign in zip(SIDES, (1, -1), strict=True):
        chain = (
            ("shoulder", "chest", "shoulder_half", sign * way["shoulders_across"]),
            ("elbow", "shoulder", "upper_arm", way[f"upper_arm_{side}"]),
            ("wrist", "elbow", "forearm", way[f"forearm_{side}"]),
            ("hand", "wrist", "hand", way[f"hand_{side}"]),
            ("fingers", "hand", "fingers", way[f"hand_{side}"]),
            ("hip", "pelvis", "hip_half", sign * way["hips_across"]),
            ("knee", "hip", "thigh", way[f"thigh_{side}"]),
            ("ankle", "knee", "shank", way[f"shank_{side}"]),
            ("foot", "ankle", "foot", way[f"foot_{side}"]),
            ("toes", "foot", "toes", way[f"foot_{side}"]),
        )
        for point, origin, segment, direction in chain:
            origin = at[origin] if origin in at else at[f"{origin}_{side}"]
            at[f"{point}_{side}"] = origin + lengths[segment] * direction
    return np.stack([at[key] for key in POINTS], axis=1)


def spread_poses(poses: np.ndarray, near: float = NEAR) -> np.ndarray:
    """Removes near-duplicates by the paper's furthest-neighbour rule.

    Greedy: from the first pose on, the one furthest from all that were kept is kept,
    until each is nearer than `near` to one that is. The distance of two poses is the
    largest that any joint moves, on a body of mean stature with its pelvis at 0 and
    its heading removed.

    Args:
        poses: float32 `[n, len(DIRECTIONS), 3]`.
        near: metres.

    Returns:
        int `[kept]` positions, furthest first: any beginning of it is spread as well
        as so many can be.
    """
    from mlcvtf.segmentation.body_parts import render_kernels

    joints = skeleton_points(poses)[:, : len(JOINTS)].astype(np.float32)
    # The ends of limbs move most: first, they let a comparison stop early.
    order = [
        JOINTS.index(f"{joint}_{side}")
        for joint in ("hand", "foot", "elbow")
        for side in SIDES
    ]
    order += [i for i in range(len(JOINTS)) if i not in order]
    joints = np.ascontiguousarray(joints[:, order])
    return render_kernels.furthest_neighbours(joints, np.float32(near))
