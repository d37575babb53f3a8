"""Windows around the faces of the face data sets, all in one framing.

The framing is that of the CBCL faces, which cannot be widened: a square from the brows
to below the mouth, `SIDE` pixels of the alignment's template wide, in which the eyes
are 0.53 of the side apart. It is the square of the mean aligned LFW face that
correlates best with the mean CBCL face (0.945).
"""

import math
import os
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.data import archives, faces, object_windows
from mlcvtf.embedding import alignment
from mlcvtf.errors import InputError

# Of the square, in pixels of the template of `alignment`.
CENTRE, SIDE = (56.0, 66.0), 67.0
# A training window is moved by at most these shares of its side, scaled by at most this
# factor more or less, and turned by at most so many degrees.
JITTER = object_windows.Jitter(1, shift=0.05, scale=0.08, degrees=8.0)
# The detector meets faces that half of that is wrong with: its windows are two pixels
# and a tenth of their size apart.
MILD = object_windows.Jitter(1, shift=0.025, scale=0.04, degrees=4.0)
# Shares of the windows that are cut as the detector's pyramid makes them, by a bilinear
# look-up that skips pixels, and that are blurred, by how many pixels of the window.
SKIPPING, BLURRED, BLUR = 0.4, 0.3, (0.3, 0.9)
# Windows of a validation face.
VALIDATION_COPIES = 2


class FaceWindows(NamedTuple):
    """What a cascade of faces is trained on.

    Attributes:
        training: uint8 `[n, height, width]`.
        validation: uint8 `[m, height, width]`, of another source.
        counts: number of windows of each source, by name.
    """

    training: np.ndarray
    validation: np.ndarray
    counts: dict


class Frame(NamedTuple):
    """The square around a face.

    Attributes:
        centre: float64 `[2]` x, y in pixels of the picture.
        side: in pixels.
        degrees: by which the face is turned.
    """

    centre: np.ndarray
    side: float
    degrees: float


def frame(landmarks) -> Frame:
    """Returns the square that belongs to five landmarks.

    Args:
        landmarks: `[5, 2]` x, y in pixels.

    Raises:
        ValueError: the landmarks coincide or are not finite.
    """
    matrix = alignment.similarity(alignment.TEMPLATE, landmarks)
    side = SIDE * math.hypot(matrix[0, 0], matrix[1, 0])
    degrees = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    return Frame(matrix[:, :2] @ np.array(CENTRE) + matrix[:, 2], side, degrees)


def cut(gray, landmarks, window: int, jitter=None, random=None) -> np.ndarray:
    """Cuts a face out of a picture.

    Args:
        gray: uint8 `[height, width]`; beyond its border the border is repeated.
        landmarks: `[5, 2]` x, y in pixels.
        window: side in pixels.
        jitter: an `object_windows.Jitter`, how far the window is moved, scaled and
            turned at most; None for as it is.
        random: a generator, where there is jitter; the window is then mirrored,
            blurred and cut in different ways at random as well.

    Returns:
        uint8 `[window, window]`.
    """
    centre, side, degrees = frame(landmarks)
    size = (window, window)
    # Positions of landmarks are those of pixels' middles.
    if jitter is None:
        return object_windows.sample(
            gray, centre + 0.5, np.full(2, side), size, degrees
        )
    centre = centre + random.uniform(-jitter.shift, jitter.shift, 2) * side
    side *= math.exp(random.uniform(-1, 1) * math.log1p(jitter.scale))
    degrees += random.uniform(-jitter.degrees, jitter.degrees)
    finest = 1 if random.random() < SKIPPING else object_windows.FINEST
    found = object_windows.sample(gray, centre, np.full(2, side), size, degrees, finest)
    if random.random() < BLURRED:
        found = cv2.GaussianBlur(found, (0, 0), random.uniform(*BLUR))
    return found[:, ::-1] if random.random() < 0.5 else found


def read(
    root: str | os.PathLike, landmarks: str | os.PathLike, window: int, seed: int = 0
) -> FaceWindows:
    """Cuts the windows of all sets that may be trained on.

    For training: CBCL's training faces, as they are and mirrored, and LFW folds 1 to 4
    and both CelebA sets, each face once, moved and mirrored at random. For validation:
    YouTube Faces train without the people of LFW folds 5 and 6. People of YouTube Faces
    are left out of LFW, so that nobody is on both sides.

    Args:
        root: the data folder.
        landmarks: `landmarks.npz` of the recipe `face_landmarks`.
        window: side in pixels.
        seed: of all randomness.

    Raises:
        InputError: a file is missing.
    """
    root, random = pathlib.Path(root), np.random.default_rng(seed)
    for path in (root / "cbcl_faces19/train.npz", pathlib.Path(landmarks)):
        if not path.is_file():
            raise InputError(f"windows of faces are cut from {path}, there is none")
    stored = faces.stored_landmarks(landmarks)
    others = {
        "lfw:" + row["person"]
        for split in ("train", "val")
        for row in archives.read_table(root / f"ytf_landmarks68/{split}.csv")
    }
    parts = {"cbcl": read_cbcl(root, window)}
    for found in (
        faces.read_lfw(root),
        faces.read_celeba_wild(root),
        faces.read_celeba_aligned(root),
    ):
        parts[found.source] = np.stack(
            [
                cut(_gray(image), points, window, JITTER, random)
                for image, points, person in zip(
                    found.images, _points(found, stored), found.people, strict=True
                )
                if points is not None and person not in others
            ]
        )
    validation = np.stack(
        [
            cut(_gray(image), points, window, MILD, random)
            for image, points in zip(*faces.read_landmarks(root), strict=True)
            for _ in range(VALIDATION_COPIES)
        ]
    )
    counts = {name: len(part) for name, part in parts.items()}
    return FaceWindows(
        np.concatenate(list(parts.values())),
        validation,
        counts | {"ytf (validation)": len(validation)},
    )


def read_cbcl(root, window: int) -> np.ndarray:
    """Reads CBCL's training faces and their mirror images, resized to the window."""
    with np.load(pathlib.Path(root) / "cbcl_faces19/train.npz") as stored:
        found = stored["faces"]
    found = np.stack([resized(face, window) for face in found])
    return np.concatenate([found, found[:, :, ::-1]])


def resized(face, window: int) -> np.ndarray:
    """Resizes a square face, uint8 `[n, n]`, to a window."""
    return cv2.resize(face, (window, window), interpolation=cv2.INTER_LINEAR)


def _gray(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _points(found, stored):
    """Returns the landmarks of each picture of a set, or None."""
    points = stored.get(found.source, {})
    return [points.get(name) for name in found.names]
