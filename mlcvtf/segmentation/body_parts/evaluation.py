"""Measures a forest and its joints on pictures whose truth is known.

Shotton et al., 2011, section 4: the mean over the parts of the share of their pixels
that are classified right, and the mean average precision of the joints at 10 cm. As
the paper's standard test is of people who turn away by 120 degrees at most, both are
given over all pictures and over those.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.metrics.joint_precision import joint_average_precision
from mlcvtf.segmentation.body_parts import parts
from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.segmentation.body_parts.joints import (
    JointModel,
    default_model,
    propose,
    visible_joints,
)
from mlcvtf.segmentation.body_parts.picture_folder import PictureFolder
from mlcvtf.video.paths import printable

# Degrees by which people turn away from the camera in the paper's standard test.
TURNED = 120.0
# Metres between which a person is far from a depth camera: what is nearer or farther
# was written in another unit.
NEAREST, FURTHEST = 0.3, 15.0


class Example(NamedTuple):
    """What a forest says of one person, and the truth.

    Attributes:
        points: float `[n, 3]` metres, of the person's pixels.
        probabilities: float32 `[n, classes]`, for joints.
        joints: float32 `[joints, 3]` metres.
        visible: bool `[joints]`.
        labels: uint8 `[n]` from 1.
        found: uint8 `[n]`, the most probable parts.
        yaw: degrees.
    """

    points: np.ndarray
    probabilities: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    labels: np.ndarray
    found: np.ndarray
    yaw: float


class Figures(NamedTuple):
    """The outcome of `evaluate`.

    Attributes:
        pictures: how many.
        class_accuracy: mean over the parts of the share of their pixels that are
            right, in 0..1.
        joints: float64 `[joints]`, average precision of each at 10 cm; NaN where it
            is never in sight.
        confusion: int64 `[classes, classes]`: pixels by true and found part.
    """

    pictures: int
    class_accuracy: float
    joints: np.ndarray
    confusion: np.ndarray

    @property
    def precision(self) -> float:
        """Mean average precision of the joints; NaN where none is in sight."""
        seen = self.joints[~np.isnan(self.joints)]
        return float(seen.mean()) if len(seen) else float("nan")


def joints_of_parts() -> JointModel:
    """Returns the 16 joints of the 31 parts, with the paper's mean values."""
    labels = [parts.labels_of_joint(joint) for joint in parts.JOINTS]
    return default_model(labels, len(parts.PARTS))


def people(
    folder: PictureFolder, positions: Iterable[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads pictures and cuts the people out, as removing the background does.

    Args:
        folder: of the pictures.
        positions: in the folder; all by default.

    Yields:
        float32 `[h, w]` metres, 0 where there is no person; uint8 `[h, w]` labels.

    Raises:
        InputError: a picture cannot be read, or is not in millimetres.
    """
    for position in range(len(folder)) if positions is None else positions:
        depth, labels = folder.read(position)
        depth = np.where(labels > 0, depth, np.float32(0))
        seen = depth[depth > 0]
        if len(seen) and not NEAREST <= np.median(seen) <= FURTHEST:
            raise InputError(
                f"depth is in millimetres, of people {NEAREST:g} to {FURTHEST:g} m "
                f"away; the one in {printable(folder.names[position])} of "
                f"{printable(folder.folder)} would be {np.median(seen):g} m away"
            )
        yield depth, labels


def examples(
    forest, folder: PictureFolder, positions: Iterable[int] | None = None
) -> Iterator[Example]:
    """Classifies the people of a folder.

    Args:
        forest: `compiled_forest.CompiledForest` of the 31 parts, a
            `mirror.MirroredForest`, or None for the true parts, which bounds what the
            joints' stage can reach.
        folder: of the pictures.
        positions: in the folder; all by default.

    Yields:
        One for each picture with a person.

    Raises:
        InputError: as of `people`.
    """
    chosen = list(range(len(folder)) if positions is None else positions)
    model = joints_of_parts()
    for position, (depth, labels) in zip(chosen, people(folder, chosen), strict=True):
        there = depth > 0
        if not there.any():
            continue
        truth = labels[there]
        if forest is None:
            found = truth
            probabilities = np.eye(len(parts.PARTS), dtype=np.float32)[truth - 1]
        else:
            classified, sums = forest.classify(depth)
            found = classified[there]
            probabilities = forest.probabilities(sums)
        height, width = depth.shape
        yield Example(
            Camera.of_size(width, height).points(depth)[there],
            probabilities,
            folder.joints[position],
            visible_joints(model, labels),
            truth,
            found,
            float(folder.yaw[position]),
        )


def evaluate(
    model: JointModel, classified: Iterable[Example], turned: float = TURNED
) -> tuple[Figures, Figures]:
    """Measures parts and joints.

    Args:
        model: of the joints.
        classified: from `examples`; each is looked at once and dropped.
        turned: degrees by which people of the second result turn away at most.

    Returns:
        The figures of all pictures, and of those of people who turn away less.

    Raises:
        InputError: there are no pictures.
    """
    classes = model.parts.shape[1]
    proposals, truths, visible, near = [], [], [], []
    totals = np.zeros((2, classes, classes), np.int64)
    for one in classified:
        proposals.append(propose(model, one.points, one.probabilities))
        truths.append(one.joints)
        visible.append(one.visible)
        near.append(abs(one.yaw) <= turned)
        pairs = (one.labels.astype(np.int64) - 1) * classes + one.found - 1
        counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        totals[0] += counts
        totals[1] += counts * near[-1]
    if not proposals:
        raise InputError("a forest is measured on pictures with people, received none")
    near, truths, visible = np.array(near), np.array(truths), np.array(visible)
    found = []
    for chosen, confusion in zip((np.ones_like(near), near), totals, strict=True):
        own = [one for one, take in zip(proposals, chosen, strict=True) if take]
        found.append(
            Figures(
                len(own),
                _class_accuracy(confusion),
                joint_average_precision(own, truths[chosen], visible[chosen]),
                confusion,
            )
        )
    return tuple(found)


def _class_accuracy(confusion):
    """Returns the mean share of right pixels over the parts that there are."""
    pixels = confusion.sum(1)
    seen = pixels > 0
    if not seen.any():
        return float("nan")
    return float(np.mean(confusion.diagonal()[seen] / pixels[seen]))
