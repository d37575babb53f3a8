"""All poses of some recordings, and whose they are."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.poses import (
    DIRECTIONS,
    NEAR,
    mirrored_poses,
    recombined_poses,
    retarget,
    spread_poses,
)
from mlcvtf.segmentation.body_parts.recordings import recordings
from mlcvtf.video.paths import printable


class PoseSet(NamedTuple):
    """Poses and where each is from.

    Attributes:
        poses: float32 `[n, len(DIRECTIONS), 3]`, from
            `mlcvtf.segmentation.body_parts.poses.retarget`.
        subjects: str `[n]`.
        clips: str `[n]`, subject and recording in one.
        frames: int64 `[n]`, from 0 in the recording.
    """

    poses: np.ndarray
    subjects: np.ndarray
    clips: np.ndarray
    frames: np.ndarray

    def at(self, positions: np.ndarray) -> "PoseSet":
        """Returns the poses at some positions."""
        return PoseSet(*(column[positions] for column in self))


def read_poses(
    sources: Sequence[str | os.PathLike],
    progress: Callable[[Iterable], Iterable] = iter,
) -> PoseSet:
    """Reads the poses of all recordings in some folders or ZIP archives.

    Args:
        sources: as `mlcvtf.segmentation.body_parts.recordings.recordings` has them.
        progress: wraps the recordings, to show how it goes.

    Raises:
        InputError: one cannot be read, or two sources have a recording of one name.
    """
    found = {}
    for source in sources:
        for clip, motion in progress(recordings(source)):
            if clip in found:
                raise InputError(
                    f"a recording is read once, received {printable(clip)} twice"
                )
            found[clip] = retarget(motion, printable(clip))
    if not found:
        return PoseSet(
            np.zeros((0, len(DIRECTIONS), 3), np.float32),
            np.array([], str),
            np.array([], str),
            np.zeros(0, np.int64),
        )
    lengths = [len(poses) for poses in found.values()]
    return PoseSet(
        np.concatenate(list(found.values())),
        np.repeat([clip.split("/")[0] for clip in found], lengths),
        np.repeat(list(found), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
    )


def split_by_subject(poses: PoseSet, test: Sequence[str]) -> tuple[PoseSet, PoseSet]:
    """Splits poses so that no one is in both parts.

    Args:
        poses: of all.
        test: subjects of the second part.

    Returns:
        Those to train and those to test with.

    Raises:
        InputError: a subject is not there.
    """
    for subject in test:
        if subject not in poses.subjects:
            known = ", ".join(map(printable, np.unique(poses.subjects)))
            raise InputError(f"the subjects are {known}, received {printable(subject)}")
    held_out = np.isin(poses.subjects, test)
    return poses.at(~held_out), poses.at(held_out)


def with_mirrored(poses: PoseSet) -> PoseSet:
    """Adds the mirror image of each pose; its clip is called so.

    Args:
        poses: any.
    """
    return _joined(
        poses,
        poses._replace(
            poses=mirrored_poses(poses.poses), clips=_marked(poses, "mirrored")
        ),
    )


def with_recombined(poses: PoseSet, count: int, seed: int = 0) -> PoseSet:
    """Adds poses with the trunk, the arms and the legs of three others each.

    Few subjects do few things at once: one who was never recorded walking and waving
    can so be seen doing both.

    Args:
        poses: at least one; a new one is called by the clip of its trunk.
        count: of new poses.
        seed: of their choice.
    """
    chosen = np.random.default_rng(seed).integers(len(poses.poses), size=(3, count))
    new = poses.at(chosen[0])
    joined = recombined_poses(*(poses.poses[positions] for positions in chosen))
    return _joined(poses, new._replace(poses=joined, clips=_marked(new, "recombined")))


def _marked(poses, mark):
    return np.array([f"{clip} {mark}" for clip in poses.clips], str)


def _joined(first, second):
    return PoseSet(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))


def without_duplicates(poses: PoseSet, near: float = NEAR) -> PoseSet:
    """Removes near-duplicates; see `spread_poses`.

    Args:
        poses: of one part of the data.
        near: metres.
    """
    if not len(poses.poses):
        return poses
    return poses.at(spread_poses(poses.poses, near))
