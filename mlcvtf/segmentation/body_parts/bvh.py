"""The Biovision hierarchy, BVH: a skeleton and its motion in one file.

Facts about the format: Meredith and Maddock, 2001, "Motion Capture File Formats
Explained", University of Sheffield, CS-01-11. Rotations multiply in the order of their
channels. Position channels replace the joint's OFFSET, as the files of Bandai-Namco
Research mean it, which give both for every joint; where a root's OFFSET is zero, as it
mostly is, that is the same as adding them.
"""

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.mocap import (
    MAX_BONES,
    MAX_FRAMES,
    Motion,
    check_size,
    numbers,
    rotation,
)
from mlcvtf.video.paths import printable

# BVH names no unit; centimetres are what Bandai's and most files have.
CENTIMETRE = 0.01
MAX_DEPTH = 100


def read_bvh(text: str, name: str, scale: float = CENTIMETRE) -> Motion:
    """Reads a motion and computes where all joints are.

    Args:
        text: of the BVH file.
        name: what to call it in messages.
        scale: metres in its unit of length.

    Returns:
        The motion.

    Raises:
        InputError: the text is no such motion.
    """
    head, _, motion = text.partition("MOTION")
    joints = _Hierarchy(head.split(), name)
    values = _values(motion, sum(map(len, joints.channels)), name)
    check_size(len(values), len(joints.names), name)
    shape = (len(values), len(joints.names))
    starts = np.zeros((*shape, 3))
    rotations = np.zeros((*shape, 3, 3))
    column = 0
    for i, (parent, channels) in enumerate(
        zip(joints.parents, joints.channels, strict=True)
    ):
        offset = np.tile(joints.offsets[i], (len(values), 1))
        turn = np.broadcast_to(np.eye(3), (len(values), 3, 3))
        for channel in channels:
            axis = channel[0].lower()
            if channel.endswith("position"):
                offset[:, "xyz".index(axis)] = values[:, column]
            else:
                turn = turn @ rotation(axis, values[:, column])
            column += 1
        if parent < 0:
            starts[:, i], rotations[:, i] = offset * scale, turn
            continue
        above = rotations[:, parent]
        starts[:, i] = starts[:, parent] + scale * np.einsum(
            "nij,nj->ni", above, offset
        )
        rotations[:, i] = above @ turn
    ends = starts.copy()
    # Backwards, so that the first child remains.
    for i in reversed(range(1, len(joints.parents))):
        ends[:, joints.parents[i]] = starts[:, i]
    for i, end in joints.end_sites.items():
        ends[:, i] = starts[:, i] + rotations[:, i] @ (end * scale)
    return Motion(tuple(joints.names), starts, ends, rotations)


class _Hierarchy:
    """Parses the words before MOTION into lists by joint."""

    def __init__(self, words, name):
        self.words, self.name = words, name
        self.names, self.parents, self.offsets, self.channels = [], [], [], []
        self.end_sites = {}
        self.position = 0
        self._expect("HIERARCHY")
        self._expect("ROOT")
        self._joint(-1)
        # A stack of our own: nesting is the file's, the interpreter's is limited.
        stack = [0]
        while stack:
            word = self._next()
            if word == "JOINT":
                if len(stack) >= MAX_DEPTH or len(self.names) >= MAX_BONES:
                    raise InputError(
                        f"a skeleton has at most {MAX_BONES} joints, "
                        f"{MAX_DEPTH} deep, {name} has more"
                    )
                stack.append(self._joint(stack[-1]))
            elif word == "End":
                self._expect("Site")
                self._expect("{")
                self.end_sites[stack[-1]] = self._offset()
                self._expect("}")
            elif word == "}":
                stack.pop()
            else:
                self._refuse("JOINT, End Site or }", word)
        if self.position != len(words):
            self._refuse("MOTION after the skeleton", words[self.position])

    def _joint(self, parent):
        """Reads a joint up to its channels and returns its number."""
        name = self._next()
        self._expect("{")
        self.parents.append(parent)
        self.offsets.append(self._offset())
        channels = []
        if self.words[self.position : self.position + 1] == ["CHANNELS"]:
            self.position += 1
            count = self._next()
            if count not in ("0", "1", "2", "3", "6"):
                self._refuse("3 or 6 channels", count)
            channels = [self._next() for _ in range(int(count))]
        for channel in channels:
            if channel[:1] not in "XYZ" or channel[1:] not in ("position", "rotation"):
                self._refuse("a channel such as Xposition or Zrotation", channel)
        if name in self.names:
            self._refuse("one joint of a name", name)
        self.names.append(name)
        self.channels.append(channels)
        return len(self.names) - 1

    def _offset(self):
        self._expect("OFFSET")
        return numbers([self._next() for _ in range(3)], self.name)

    def _next(self):
        if self.position >= len(self.words):
            self._refuse("a whole skeleton and MOTION", "its end")
        self.position += 1
        return self.words[self.position - 1]

    def _expect(self, word):
        found = self._next()
        if found != word:
            self._refuse(word, found)

    def _refuse(self, rule, found):
        raise InputError(
            f"expected {rule} in the BVH file {self.name}, received "
            f"{printable(found[:60])}"
        )


def _values(text, channels, name):
    """Returns float `[frames, channels]`."""
    words = text.split(maxsplit=5)
    if len(words) < 5 or words[0] != "Frames:" or words[2:4] != ["Frame", "Time:"]:
        raise InputError(
            f"MOTION is followed by Frames: and Frame Time:, in {name} it is not"
        )
    if not words[1].isdecimal() or len(words[1]) > len(str(MAX_FRAMES)):
        raise InputError(
            f"a recording has up to {MAX_FRAMES} frames, {name} says "
            f"{printable(words[1][:60])}"
        )
    frames = int(words[1])
    if not channels:
        raise InputError(f"a skeleton has channels, that of {name} has none")
    values = words[5].split() if len(words) > 5 else []
    if len(values) != frames * channels:
        raise InputError(
            f"{frames} frames of {channels} channels are "
            f"{frames * channels} numbers, {name} has {len(values)}"
        )
    return numbers(values, name).reshape(frames, channels)
