"""Motion capture made by hand: one person who stands with arms spread."""

import numpy as np

from mlcvtf.segmentation.body_parts import asf, poses

# name, parent, direction and length; y is up, left is x, the person looks along z.
CMU_BONES = (
    ("lhipjoint", "root", (1, 0, 0), 0.1), ("lfemur", "lhipjoint", (0, -1, 0), 0.4),
    ("ltibia", "lfemur", (0, -1, 0), 0.4), ("lfoot", "ltibia", (0, 0, 1), 0.15),
    ("rhipjoint", "root", (-1, 0, 0), 0.1), ("rfemur", "rhipjoint", (0, -1, 0), 0.4),
    ("rtibia", "rfemur", (0, -1, 0), 0.4), ("rfoot", "rtibia", (0, 0, 1), 0.15),
    ("lowerback", "root", (0, 1, 0), 0.2), ("upperback", "lowerback", (0, 1, 0), 0.2),
    ("lowerneck", "upperback", (0, 1, 0), 0.05), ("head", "lowerneck", (0, 1, 0), 0.2),
    ("lclavicle", "upperback", (1, 0, 0), 0.2),
    ("lhumerus", "lclavicle", (1, 0, 0), 0.3),
    ("lradius", "lhumerus", (1, 0, 0), 0.25), ("lhand", "lradius", (1, 0, 0), 0.1),
    ("rclavicle", "upperback", (-1, 0, 0), 0.2),
    ("rhumerus", "rclavicle", (-1, 0, 0), 0.3),
    ("rradius", "rhumerus", (-1, 0, 0), 0.25), ("rhand", "rradius", (-1, 0, 0), 0.1),
)  # fmt: skip
FREE = ("lhumerus", "rhumerus", "lfemur", "rfemur", "head")


def asf_text(bones=CMU_BONES, free=FREE):
    """A skeleton whose unit is the metre, with three freedoms for some bones."""
    lines = [
        ":version 1.10",
        ":units",
        " length 0.0254",
        " angle deg",
        ":root",
        " order TX TY TZ RX RY RZ",
        " axis XYZ",
        " position 0 0 0",
        " orientation 0 0 0",
        ":bonedata",
    ]
    for name, _, direction, length in bones:
        lines += [
            "begin",
            f" name {name}",
            " direction {} {} {}".format(*direction),
            f" length {length}",
            " axis 0 0 0 XYZ",
        ]
        lines += [" dof rx ry rz", " limits (-1 1)", "  (-1 1)", "  (-1 1)"] * (
            name in free
        )
        lines.append("end")
    lines += [":hierarchy", "begin"]
    for parent in dict.fromkeys(bone[1] for bone in bones):
        lines.append(" ".join([parent, *(b[0] for b in bones if b[1] == parent)]))
    return "\n".join([*lines, "end", ""])


def amc_text(frames):
    """A motion: a dict of values by bone for each frame, zero where not given."""
    lines = [":FULLY-SPECIFIED", ":DEGREES"]
    for i, frame in enumerate(frames, start=1):
        lines.append(str(i))
        for name in ("root", *FREE):
            values = frame.get(name, [0] * (6 if name == "root" else 3))
            lines.append(" ".join([name, *map(str, values)]))
    return "\n".join([*lines, ""])


def waving(count, seed=0):
    """Frames in which arms and legs turn at random and the person turns and walks."""
    rng = np.random.default_rng(seed)
    return [
        {
            "root": [*rng.uniform(-1, 1, 3).round(3), 0, int(rng.integers(360)), 0],
            "lhumerus": rng.uniform(-60, 60, 3).round(2).tolist(),
            "rhumerus": rng.uniform(-60, 60, 3).round(2).tolist(),
            "lfemur": rng.uniform(-30, 30, 3).round(2).tolist(),
        }
        for _ in range(count)
    ]


def standing():
    """The pose of the person who stands with arms spread: float32 [directions, 3]."""
    skeleton = asf.read_asf(asf_text(), "made.asf")
    return poses.retarget(asf.read_amc(amc_text([{}]), skeleton, "made.amc"), "it")[0]


def write_people(folder, subjects=("01", "02"), frames=12):
    """Writes a folder of AMC and ASF files."""
    for number, subject in enumerate(subjects):
        place = folder / subject
        place.mkdir(parents=True)
        (place / f"{subject}.asf").write_text(asf_text())
        (place / f"{subject}_01.amc").write_text(amc_text(waving(frames, number)))
    return folder


# Bandai's names; a joint starts at its offset, in centimetres.
BANDAI_JOINTS = (
    ("Hips", None, (0, 90, 0)), ("Spine", "Hips", (0, 15, 0)),
    ("Chest", "Spine", (0, 10, 0)), ("Neck", "Chest", (0, 20, 0)),
    ("Head", "Neck", (0, 7, 0)), ("UpperArm_L", "Chest", (18, 18, 0)),
    ("LowerArm_L", "UpperArm_L", (25, 0, 0)), ("Hand_L", "LowerArm_L", (22, 0, 0)),
    ("UpperArm_R", "Chest", (-18, 18, 0)), ("LowerArm_R", "UpperArm_R", (-25, 0, 0)),
    ("Hand_R", "LowerArm_R", (-22, 0, 0)), ("UpperLeg_L", "Hips", (7, -2, 0)),
    ("LowerLeg_L", "UpperLeg_L", (0, -40, 0)), ("Foot_L", "LowerLeg_L", (0, -40, 0)),
    ("Toes_L", "Foot_L", (0, 0, 12)), ("UpperLeg_R", "Hips", (-7, -2, 0)),
    ("LowerLeg_R", "UpperLeg_R", (0, -40, 0)), ("Foot_R", "LowerLeg_R", (0, -40, 0)),
    ("Toes_R", "Foot_R", (0, 0, 12)),
)  # fmt: skip


def bvh_text(frames=1, head=(90, 90, 0)):
    """The same person as BVH; the head's axes are up, front, left, as Bandai's."""

    def joint(name, parent, offset):
        word = "ROOT" if parent is None else "JOINT"
        yield from (
            f"{word} {name}",
            "{",
            "OFFSET {} {} {}".format(*offset),
            "CHANNELS 3 Zrotation Xrotation Yrotation",
        )
        children = [one for one in BANDAI_JOINTS if one[1] == name]
        for child in children:
            yield from joint(*child)
        if not children:
            yield from ("End Site", "{", "OFFSET 0 0 0", "}")
        yield "}"

    lines = list(joint(*BANDAI_JOINTS[0]))
    order = [line.split()[1] for line in lines if line[:5] in ("ROOT ", "JOINT")]
    row = " ".join(
        " ".join(map(str, head if name == "Head" else (0, 0, 0))) for name in order
    )
    motion = ["MOTION", f"Frames: {frames}", "Frame Time: 0.033", *[row] * frames]
    return "\n".join(["HIERARCHY", *lines, *motion, ""])
