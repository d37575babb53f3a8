"""The tables of body parts and joints, in the order that is used everywhere.

Shotton et al., 2011, section 3.1: 31 parts, "LU" is left upper and "RW" right lower;
left and right are the person's own. Label 0 of a picture is no part: background or a
missing pixel.
"""

import colorsys

import numpy as np

# The name of label i at position i - 1.
PARTS = (
    "head_upper_left", "head_upper_right", "head_lower_left", "head_lower_right",
    "neck",
    "shoulder_left", "shoulder_right",
    "arm_upper_left", "arm_upper_right", "arm_lower_left", "arm_lower_right",
    "elbow_left", "elbow_right",
    "wrist_left", "wrist_right",
    "hand_left", "hand_right",
    "torso_upper_left", "torso_upper_right", "torso_lower_left", "torso_lower_right",
    "leg_upper_left", "leg_upper_right", "leg_lower_left", "leg_lower_right",
    "knee_left", "knee_right",
    "ankle_left", "ankle_right",
    "foot_left", "foot_right",
)  # fmt: skip

JOINTS = (
    "head", "neck",
    "shoulder_left", "shoulder_right", "elbow_left", "elbow_right",
    "wrist_left", "wrist_right", "hand_left", "hand_right",
    "knee_left", "knee_right", "ankle_left", "ankle_right",
    "foot_left", "foot_right",
)  # fmt: skip

# Pairs of joints between which a skeleton is drawn.
BONES = (
    ("head", "neck"),
    *((a, f"{b}_{side}") for side in ("left", "right")
      for a, b in (("neck", "shoulder"), (f"shoulder_{side}", "elbow"),
                   (f"elbow_{side}", "wrist"), (f"wrist_{side}", "hand"),
                   (f"knee_{side}", "ankle"), (f"ankle_{side}", "foot"))),
)  # fmt: skip


def label_of(part: str) -> int:
    """Returns the label of a part.

    >>> label_of("head_upper_left"), label_of("foot_right")
    (1, 31)
    """
    return PARTS.index(part) + 1


def labels_of_joint(joint: str) -> tuple[int, ...]:
    """Returns the labels of the parts whose pixels lie around a joint.

    >>> labels_of_joint("head"), labels_of_joint("hand_left")
    ((1, 2, 3, 4), (16,))
    """
    if joint == "head":
        return tuple(i + 1 for i, name in enumerate(PARTS) if name.startswith("head"))
    return (label_of(joint),)


def mirrored(names: tuple[str, ...]) -> np.ndarray:
    """Returns where each name's counterpart of the other side is.

    Args:
        names: `PARTS` or `JOINTS`.

    Returns:
        int `[names]`; the position itself where there is one of the kind only.
    """
    swap = {"left": "right", "right": "left"}
    other = [
        "_".join(swap.get(word, word) for word in name.split("_")) for name in names
    ]
    return np.array([names.index(name) for name in other])


def part_colours() -> np.ndarray:
    """Returns the RGB of each label, black for 0; left and right differ in shade.

    Returns:
        uint8 `[32, 3]`.
    """
    colours = np.zeros((len(PARTS) + 1, 3), np.uint8)
    kinds = [name.rsplit("_", 1)[0] for name in PARTS]
    distinct = list(dict.fromkeys(kinds))
    for i, (name, kind) in enumerate(zip(PARTS, kinds, strict=True), start=1):
        # Neighbours on the body are far apart in hue: the golden ratio spreads any
        # number of hues.
        hue = distinct.index(kind) * 0.618034 % 1
        shade = (0.55, 0.6) if name.endswith("right") else (0.95, 1.0)
        colours[i] = np.round(255 * np.array(colorsys.hsv_to_rgb(hue, *shade)))
    return colours
