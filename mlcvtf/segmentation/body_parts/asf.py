"""The Acclaim format of motion capture: an ASF skeleton and AMC motions.

Facts about the format: Lander, 1998, "Working with Motion Capture File Formats", Game
Developer. A bone has a rest `direction` in the world and an `axis` in which its degrees
of freedom turn: with C the rotation of the axis and M that of the motion, its rotation
is that of its parent times C M C^-1. Angles are applied in the order they are listed.
"""

from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.mocap import (
    MAX_BONES,
    Motion,
    check_size,
    numbers,
    rotation,
)
from mlcvtf.video.paths import printable

ROOT = "root"
# CMU's files count in units of 1/0.45 inch (README of the database).
INCH = 0.0254


class Bone(NamedTuple):
    """A bone at rest; its offset from start to end is in metres."""

    parent: int
    offset: np.ndarray
    axis: np.ndarray
    freedom: tuple[str, ...]


class Skeleton(NamedTuple):
    """Bones by name, parents first, and metres in the file's unit of length."""

    bones: dict[str, Bone]
    scale: float


def read_asf(text: str, name: str) -> Skeleton:
    """Reads a skeleton.

    Args:
        text: of the ASF file.
        name: what to call it in messages.

    Returns:
        The skeleton; the root is its first bone and has no length.

    Raises:
        InputError: the text is no such skeleton.
    """
    sections = _sections(text)
    missing = [
        key for key in ("units", "root", "bonedata", "hierarchy") if key not in sections
    ]
    if missing:
        raise InputError(f"an ASF skeleton has a section :{missing[0]}, {name} has not")
    units = _first_words(sections["units"])
    if units.get("angle", ["deg"]) != ["deg"]:
        raise InputError(f"angles are in degrees (angle deg), in {name} they are not")
    length = _values(units.get("length", ["1"]), 1, name)[0]
    if length <= 0:
        raise InputError(f"the unit of length is over 0, in {name} it is {length:g}")
    scale = INCH / length
    bones = {ROOT: _root(_first_words(sections["root"]), name)}
    parents = _hierarchy(sections["hierarchy"], name)
    described = _bone_data(sections["bonedata"], name)
    # Level by level, so that parents come first whatever the file's order is.
    waiting = [ROOT]
    while waiting:
        parent = waiting.pop(0)
        for child in parents.pop(parent, ()):
            if child in bones or child not in described:
                raise InputError(
                    "a bone is described and has one parent, "
                    f"{printable(child)} in {name} has not"
                )
            bones[child] = _bone(
                described[child],
                list(bones).index(parent),
                scale,
                f"bone {printable(child)} of {name}",
            )
            waiting.append(child)
    if parents:
        raise InputError(
            f"a bone hangs on the root, in {name} {printable(min(parents))} does not"
        )
    return Skeleton(bones, scale)


def read_amc(text: str, skeleton: Skeleton, name: str) -> Motion:
    """Reads a motion and computes where all bones are.

    Args:
        text: of the AMC file.
        skeleton: from `read_asf`.
        name: what to call the file in messages.

    Returns:
        The motion; the root is a bone without length.

    Raises:
        InputError: the text is no motion of this skeleton.
    """
    bones = skeleton.bones
    values, count = _frames(text, bones, name)
    shape = (count, len(bones))
    starts, ends = np.zeros((*shape, 3)), np.zeros((*shape, 3))
    rotations = np.zeros((*shape, 3, 3))
    for i, (key, bone) in enumerate(bones.items()):
        turn = np.broadcast_to(np.eye(3), (count, 3, 3))
        for freedom, column in zip(bone.freedom, values[key].T, strict=True):
            if freedom[0] == "r":
                turn = rotation(freedom[1], column) @ turn
        turn = bone.axis @ turn @ bone.axis.T
        if i == 0:
            for freedom, column in zip(bone.freedom, values[key].T, strict=True):
                if freedom[0] == "t":
                    starts[:, 0, "xyz".index(freedom[1])] = column * skeleton.scale
            rotations[:, 0], ends[:, 0] = turn, starts[:, 0]
            continue
        rotations[:, i] = rotations[:, bone.parent] @ turn
        starts[:, i] = ends[:, bone.parent]
        ends[:, i] = starts[:, i] + rotations[:, i] @ bone.offset
    return Motion(tuple(bones), starts, ends, rotations)


def _frames(text, bones, name):
    """Returns float `[frames, freedoms]` of each bone, and the count of frames."""
    rows = {key: [] for key, bone in bones.items()}
    frames = 0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#:":
            if [word.upper() for word in words] == [":RADIANS"]:
                raise InputError(f"angles are in degrees, in {name} in radians")
            continue
        if len(words) == 1 and words[0].isdecimal():
            frames += 1
        elif words[0] not in rows or not frames:
            raise InputError(
                "a frame is its number and lines of the skeleton's bones,"
                f" {name} has {printable(line.strip()[:60])}"
            )
        else:
            key = words[0]
            freedoms = len(bones[key].freedom)
            if len(words) != 1 + freedoms or len(rows[key]) != frames - 1:
                raise InputError(
                    f"a frame has {freedoms} values of {key} once, frame {frames} of "
                    f"{name} has {printable(line.strip()[:60])}"
                )
            rows[key].append(words[1:])
    check_size(frames, len(bones), name)
    for key, bone in bones.items():
        if bone.freedom and len(rows[key]) != frames:
            raise InputError(
                f"a frame has values of {key}, {name} has {frames} frames "
                f"and {len(rows[key])} of these"
            )
    values = {
        key: numbers([word for row in rows[key] for word in row], name).reshape(
            frames, len(bone.freedom)
        )
        for key, bone in bones.items()
    }
    return values, frames


def _sections(text):
    """Splits a text at its lines with a colon: lists of words by lower-case name."""
    sections, lines = {}, []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith(":") and line[1:].split():
            key, *words = line[1:].split()
            lines = sections.setdefault(key.lower(), [])
            lines += [words] if words else []
        elif line:
            lines.append(line.split())
    return sections


def _first_words(lines):
    return {words[0].lower(): words[1:] for words in lines}


def _values(words, count, name):
    if len(words) != count:
        raise InputError(
            f"expected {count} numbers in {name}, received "
            f"{printable(' '.join(words)[:60]) or 'none'}"
        )
    return numbers(words, name)


def _axis(words, name):
    """Returns the rotation of "ax ay az XYZ"; the first letter turns first."""
    order = words[-1].lower() if words else ""
    if sorted(order) != ["x", "y", "z"]:
        raise InputError(
            "an axis is three angles and an order such as XYZ, "
            f"received {printable(' '.join(words)[:60])} in {name}"
        )
    turn = np.eye(3)
    for letter, angle in zip(order, _values(words[:-1], 3, name), strict=True):
        turn = rotation(letter, angle) @ turn
    return turn


def _root(lines, name):
    order = tuple(word.lower() for word in lines.get("order", ()))
    if sorted(order) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise InputError(
            f"the root has the order TX TY TZ RX RY RZ or another of "
            f"these, received {printable(' '.join(order)[:60])} in {name}"
        )
    axis = lines.get("axis", ["XYZ"])
    axis = _axis([*lines.get("orientation", ["0"] * 3), *axis[-1:]], name)
    return Bone(-1, np.zeros(3), axis, order)


def _hierarchy(lines, name):
    parents = {}
    for words in lines:
        if words[0] in ("begin", "end") and len(words) == 1:
            continue
        if words[0] in parents or sum(map(len, parents.values())) > MAX_BONES:
            raise InputError(
                f"a skeleton has at most {MAX_BONES} bones and one line of"
                f" children of each, {name} has more"
            )
        parents[words[0]] = words[1:]
    return parents


def _bone_data(lines, name):
    """Returns the words of each bone, by its name."""
    bones, current = {}, None
    for words in lines:
        if words == ["begin"]:
            current = {}
        elif words == ["end"]:
            if not current or len(current.get("name", ())) != 1:
                raise InputError(f"a bone has a name, one of {name} has none")
            bones[current["name"][0]] = current
            current = None
        elif current is not None:
            current.setdefault(words[0].lower(), words[1:])
    return bones


def _bone(words, parent, scale, name):
    direction = _values(words.get("direction", []), 3, name)
    length = _values(words.get("length", []), 1, name)[0]
    norm = np.linalg.norm(direction)
    if length < 0 or not 0.5 < norm < 2:
        raise InputError(
            f"a bone has a direction of length 1 and a length of 0 or "
            f"more, not so {name}"
        )
    freedom = tuple(word.lower() for word in words.get("dof", ()))
    if not set(freedom) <= {"rx", "ry", "rz"} or len(set(freedom)) != len(freedom):
        raise InputError(
            "a degree of freedom is rx, ry or rz, received "
            f"{printable(' '.join(freedom)[:60])} for {name}"
        )
    axis = _axis(words.get("axis", ["0", "0", "0", "XYZ"]), name)
    return Bone(parent, direction / norm * length * scale, axis, freedom)
