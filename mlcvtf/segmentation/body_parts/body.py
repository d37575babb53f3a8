"""A body of tapered capsules and ellipsoids whose surface says which part it is.

Shotton et al., 2011, section 2.3, render 15 base characters with varying height, build,
hair and clothing. Here every picture has a body of its own, drawn from continuous
distributions; nothing but its outline is lifelike, which is what depth shows.
"""

from typing import NamedTuple

import numpy as np

from mlcvtf.segmentation.body_parts.parts import label_of
from mlcvtf.segmentation.body_parts.poses import (
    DIRECTIONS,
    LENGTHS,
    POINTS,
    SIDES,
    skeleton_points,
)

# Radii as shares of stature: breadths and girths of adults as in the anthropometric
# tables (NASA-STD-3000), rounded. The torso's are from front to back.
RADII = {
    "neck": 0.033, "shoulder": 0.036, "upper_arm": 0.031, "elbow": 0.025,
    "wrist": 0.017, "hand": 0.022, "thigh": 0.049, "knee": 0.034, "calf": 0.034,
    "ankle": 0.022, "foot": 0.02, "chest": 0.062, "waist": 0.054, "pelvis": 0.06,
}  # fmt: skip
TORSO = ("chest", "waist", "pelvis")
ARMS = ("shoulder", "upper_arm", "elbow", "wrist")
LEGS = ("thigh", "knee", "calf", "ankle")
# Breadth by depth of the torso, and of hands and feet.
BROAD, FLAT = 1.42, 0.62


class Build(NamedTuple):
    """One person's measures, in metres.

    Attributes:
        stature: height.
        lengths: of the segments in `mlcvtf.segmentation.body_parts.poses.LENGTHS`.
        radii: of the places in `RADII`, naked.
        cloth: what clothes add to some of these radii.
        belly: how far it stands out.
        bust: the same of the breast.
        skirt: length below the hips, 0 without one.
        hair: length below the head's middle, 0 for short hair.
    """

    stature: float
    lengths: dict[str, float]
    radii: dict[str, float]
    cloth: dict[str, float]
    belly: float
    bust: float
    skirt: float
    hair: float


class Solids(NamedTuple):
    """Tapered capsules, each seen through an affine map, and their labels.

    Attributes:
        starts: float64 `[n, 3]` metres.
        axes: float64 `[n, 3, 3]`, one unit of the solid's space in metres as rows:
            to its side, through it, and from its start to its end.
        shapes: float64 `[n, 3]`: height and both radii in the solid's space.
        surfaces: float64 `[n, 15]` as `render_kernels.cast` has them.
    """

    starts: np.ndarray
    axes: np.ndarray
    shapes: np.ndarray
    surfaces: np.ndarray


def mean_build() -> Build:
    """Returns a naked body of mean measures."""
    stature = 1.72
    return Build(
        stature,
        {key: share * stature for key, share in LENGTHS.items()},
        {key: share * stature for key, share in RADII.items()},
        {},
        0.0,
        0.0,
        0.0,
        0.0,
    )


def random_build(rng: np.random.Generator) -> Build:
    """Draws a person: stature 1.5 to 1.95 m, thin to stout, in tight or loose clothes.

    Args:
        rng: its state moves on.
    """
    stature = float(np.clip(rng.normal(1.72, 0.08), 1.5, 1.95))
    lengths = {
        key: share * stature * float(np.clip(rng.normal(1, 0.03), 0.92, 1.08))
        for key, share in LENGTHS.items()
    }
    # One factor for all, one for limbs: people are stout first, and then in places.
    stout = float(np.exp(np.clip(rng.normal(0, 0.1), -0.18, 0.25)))
    limbs = float(np.exp(np.clip(rng.normal(0, 0.08), -0.15, 0.2)))
    radii = {}
    for key, share in RADII.items():
        factor = stout * (limbs if key in ARMS + LEGS else 1)
        factor = factor**0.5 if key in ("hand", "foot", "wrist", "ankle") else factor
        radii[key] = share * stature * factor * float(rng.uniform(0.95, 1.05))
    loose, sleeves, wide = rng.uniform(0, (0.025, 0.025, 0.02))
    cloth = {key: float(loose * rng.uniform(0.5, 1)) for key in TORSO}
    # Sleeves end above the elbow or at the wrist, trousers widen downwards.
    long_sleeves = rng.random() < 0.5
    for key, share in zip(ARMS, (0.4, 0.5, 0.5, 0.4), strict=True):
        if long_sleeves or key in ("shoulder", "upper_arm"):
            cloth[key] = float(sleeves * share)
    skirt = float(rng.uniform(0.15, 0.32) * stature) if rng.random() < 0.05 else 0.0
    if not skirt and rng.random() < 0.75:
        for key, share in zip(LEGS, (0.5, 0.7, 0.9, 1.2), strict=True):
            cloth[key] = float(wide * share)
    return Build(
        stature,
        lengths,
        radii,
        cloth,
        belly=float(max(0, rng.normal(0, 0.025)) + 0.1 * max(0, stout - 1.05)),
        bust=float(rng.uniform(0.012, 0.03)) if rng.random() < 0.5 else 0.006,
        skirt=skirt,
        hair=float(rng.uniform(0.08, 0.25)) if rng.random() < 0.15 else 0.0,
    )


def points_and_solids(pose: np.ndarray, build: Build) -> tuple[np.ndarray, Solids]:
    """Builds a body in a pose.

    Args:
        pose: float `[len(DIRECTIONS), 3]`, from
            `mlcvtf.segmentation.body_parts.poses.retarget`.
        build: its measures.

    Returns:
        Float64 `[len(POINTS), 3]` metres, the pelvis at 0, the first 16 being the
        joints; and the solids.
    """
    pose = np.asarray(pose, np.float64)
    points = skeleton_points(pose[None], build.lengths)[0]
    workshop = _Workshop(
        dict(zip(POINTS, points, strict=True)),
        dict(zip(DIRECTIONS, pose, strict=True)),
        build,
    )
    workshop.head()
    workshop.torso()
    for side, sign in zip(SIDES, (1, -1), strict=True):
        workshop.arm(side, sign)
        workshop.leg(side)
    if build.skirt:
        workshop.skirt()
    return points, workshop.solids()


class _Workshop:
    """Collects the solids of one body."""

    def __init__(self, at, way, build):
        self.at, self.way, self.build = at, way, build
        self.rows = []
        self.radius = {
            key: value + build.cloth.get(key, 0) for key, value in build.radii.items()
        }
        self.left = _unit(way["hips_across"] + way["shoulders_across"])
        self.torso_parts = self.quarters(
            "torso", at["waist"], self.left, at["chest"] - at["pelvis"]
        )

    def quarters(self, name, centre, left, up, heights=("upper", "lower")):
        """Labels by the side and height of a point relative to a centre."""
        labels = [
            label_of(f"{name}_{height}_{side}") for height in heights for side in SIDES
        ]
        return [*labels, -1, -1, *centre, *left, *_unit(up)]

    def bands(self, *parts, cuts=(2.0, 2.0)):
        """Labels by how far along a solid a point is."""
        labels = [label_of(part) for part in parts]
        labels += labels[-1:] * (4 - len(labels))
        return [*labels, *(*cuts, 2.0)[:2], *[0.0] * 9]

    def capsule(self, start, end, radii, surface, left=None, scale=(1.0, 1.0, 1.0)):
        """Adds a tapered capsule, stretched to its side, through it and along it."""
        along = end - start
        height = np.sqrt(along @ along)
        self.solid(
            start, along / height, left, scale, (height / scale[2], *radii), surface
        )

    def ellipsoid(self, centre, up, left, semi_axes, surface):
        """Adds an ellipsoid; its semi-axes point to the left, through it and up."""
        self.solid(centre, up, left, semi_axes, (0.0, 1.0, 1.0), surface)

    def solid(self, start, along, left, scale, shape, surface):
        if left is None:
            left = self.left
        # Any side will do where the wanted one lies along the solid.
        if abs(left @ along) > 0.99:
            left = _cross(along, self.left + (0.3, 0.5, 0.7))
        left = _unit(left - (left @ along) * along)
        axes = (
            *(left * scale[0]),
            *(_cross(along, left) * scale[1]),
            *(along * scale[2]),
        )
        self.rows.append((*start, *axes, *shape, *surface))

    def solids(self):
        rows = np.array(self.rows, np.float64)
        return Solids(
            rows[:, :3], rows[:, 3:12].reshape(-1, 3, 3), rows[:, 12:15], rows[:, 15:]
        )

    def head(self):
        at, way, size = self.at, self.way, self.build.stature
        up = way["head"]
        left = _unit(way["head_across"] - (way["head_across"] @ up) * up)
        front = _cross(left, up)
        parts = self.quarters("head", at["head"], left, up)
        # The skull lies before the neck, about which the joint turns.
        skull = at["head"] + size * 0.008 * front
        self.ellipsoid(skull, up, left, np.multiply((0.044, 0.056, 0.066), size), parts)
        jaw = at["head"] + size * (0.022 * front - 0.03 * up)
        self.ellipsoid(jaw, up, left, np.multiply((0.034, 0.04, 0.036), size), parts)
        nose = at["head"] + size * (0.064 * front - 0.012 * up)
        self.ellipsoid(nose, up, left, np.multiply((0.009, 0.011, 0.015), size), parts)
        neck = self.radius["neck"]
        self.capsule(
            at["chest"] + 0.6 * neck * way["neck"],
            at["skull"],
            (1.1 * neck, neck),
            self.bands("neck"),
        )
        if self.build.hair:
            back = at["head"] - size * 0.02 * front
            end = back - self.build.hair * up - 0.02 * front
            self.capsule(
                back, end, (0.045 * size, 0.035 * size), parts, left, (1.1, 1.0, 1.0)
            )

    def torso(self):
        at, radius, parts = self.at, self.radius, self.torso_parts
        chest, waist, pelvis = (radius[key] for key in TORSO)
        up = _unit(at["chest"] - at["waist"])
        low = _unit(at["waist"] - at["pelvis"])
        across, hips = self.way["shoulders_across"], self.way["hips_across"]
        front = _unit(_cross(self.left, up))
        scale = (BROAD, 1.0, 1.0)
        self.capsule(
            at["waist"],
            at["chest"] - 0.7 * chest * up,
            (waist, chest),
            parts,
            across,
            scale,
        )
        self.capsule(at["pelvis"], at["waist"], (pelvis, waist), parts, hips, scale)
        if self.build.belly:
            middle = 0.4 * at["pelvis"] + 0.6 * at["waist"] + self.build.belly * front
            self.ellipsoid(middle, low, hips, (1.2 * waist, waist, 1.6 * waist), parts)
        for sign in (1, -1):
            seat = at["pelvis"] - 0.5 * pelvis * front - 0.3 * pelvis * low
            seat = seat + sign * 0.6 * pelvis * hips
            self.ellipsoid(
                seat, low, hips, np.multiply((0.75, 0.8, 0.8), pelvis), parts
            )
            if self.build.bust:
                breast = at["chest"] - 1.1 * chest * up + sign * 0.55 * chest * across
                breast = breast + (0.55 * chest + self.build.bust) * front
                self.ellipsoid(
                    breast, up, across, np.multiply((0.6, 0.5, 0.55), chest), parts
                )

    def arm(self, side, sign):
        at, radius, way = self.at, self.radius, self.way
        shoulder, elbow, wrist = (
            at[f"{key}_{side}"] for key in ("shoulder", "elbow", "wrist")
        )
        named = {key: f"{key}_{side}" for key in ("shoulder", "elbow", "wrist", "hand")}
        # From the neck down to the shoulder, as the trapezius muscle does.
        root = at["chest"] + 0.5 * radius["shoulder"] * way["neck"]
        self.capsule(
            root,
            shoulder,
            (radius["shoulder"], 0.9 * radius["shoulder"]),
            self.bands(f"torso_upper_{side}", named["shoulder"], cuts=(0.5, 2.0)),
        )
        self.capsule(
            shoulder,
            elbow,
            (1.08 * radius["upper_arm"], radius["elbow"]),
            self.bands(
                named["shoulder"],
                f"arm_upper_{side}",
                named["elbow"],
                cuts=(0.25, 0.82),
            ),
        )
        self.capsule(
            elbow,
            wrist,
            (radius["elbow"], radius["wrist"]),
            self.bands(
                named["elbow"], f"arm_lower_{side}", named["wrist"], cuts=(0.2, 0.82)
            ),
        )
        # Palms face the body: a hand is broad along the way the arm swings.
        hand = radius["hand"]
        edge = _cross(way[f"hand_{side}"], sign * self.left)
        edge = edge if edge @ edge > 0.05 else _cross(self.left, way["spine_upper"])
        self.capsule(
            wrist,
            at[f"fingers_{side}"] - 0.6 * hand * way[f"hand_{side}"],
            (hand, 0.8 * hand),
            self.bands(named["wrist"], named["hand"], cuts=(0.05, 2.0)),
            edge,
            (1.0, FLAT, 1.0),
        )

    def leg(self, side):
        at, radius, way = self.at, self.radius, self.way
        hip, knee, ankle = (at[f"{key}_{side}"] for key in ("hip", "knee", "ankle"))
        knee_part, ankle_part, foot_part = (
            f"{key}_{side}" for key in ("knee", "ankle", "foot")
        )
        self.capsule(
            hip,
            knee,
            (radius["thigh"], radius["knee"]),
            self.bands(
                f"torso_lower_{side}", f"leg_upper_{side}", knee_part, cuts=(0.04, 0.82)
            ),
        )
        lower = self.bands(
            knee_part, f"leg_lower_{side}", ankle_part, cuts=(0.18, 0.84)
        )
        self.capsule(knee, ankle, (0.95 * radius["knee"], radius["ankle"]), lower)
        shank, foot = way[f"shank_{side}"], way[f"foot_{side}"]
        behind = shank * (shank @ foot) - foot
        calf = knee + 0.3 * (ankle - knee) + 0.35 * radius["calf"] * behind
        self.ellipsoid(
            calf,
            shank,
            way["hips_across"],
            np.multiply((0.95, 0.9, 2.6), radius["calf"]),
            self.bands(f"leg_lower_{side}"),
        )
        # The sole is below the ankle, at right angles to the foot.
        thick = radius["foot"]
        down = (shank - (shank @ foot) * foot) * 0.9 * thick
        heel = ankle - 0.8 * thick * foot + down
        toes = at[f"toes_{side}"] - thick * foot + 1.2 * down
        self.capsule(
            heel,
            toes,
            (1.15 * thick, 0.85 * thick),
            self.bands(ankle_part, foot_part, cuts=(0.3, 2.0)),
            way["hips_across"],
            (1.25, 1.0, 1.0),
        )

    def skirt(self):
        at, pelvis = self.at, self.radius["pelvis"]
        fall = _unit(self.way["thigh_left"] + self.way["thigh_right"] + (0, -0.2, 0))
        labels = self.quarters(
            "leg", at["pelvis"], self.way["hips_across"], -fall, ("upper", "upper")
        )
        self.capsule(
            at["pelvis"] + 0.05 * fall,
            at["pelvis"] + self.build.skirt * fall,
            (1.05 * pelvis, (1.1 + 0.9 * self.build.skirt) * pelvis),
            labels,
            self.way["hips_across"],
            (BROAD, 1.0, 0.35),
        )


def _unit(vector):
    return vector / np.sqrt(vector @ vector)


def _cross(a, b):
    # np.cross takes ten times as long for two vectors.
    return np.array(
        [
            a[1] * b[2] - a[2] * b[1],
            a[2] * b[0] - a[0] * b[2],
            a[0] * b[1] - a[1] * b[0],
        ]
    )
