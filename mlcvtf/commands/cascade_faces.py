"""Faces by a cascade of Haar features, in the form that the face commands take.

A cascade finds squares and no landmarks. All squares frame faces in the same way, so
one similarity, fitted once and kept in the model's card, takes the alignment's template
into them: the landmarks are where those of a mean face would be.
"""

import hashlib
import json
import os
import pathlib

import cv2
import numpy as np

from mlcvtf.commands import cascade_model
from mlcvtf.commands.face_pipeline import Faces
from mlcvtf.embedding import alignment
from mlcvtf.errors import InputError
from mlcvtf.video.track import overlaps

FOLDER = "face_cascade"
SCALE_FACTOR = 1.1
# Of two boxes of which one covers so much of the smaller, or that overlap so much, the
# surer stays.
COVERED, OVERLAP = 0.6, 0.3
# A window that overlaps a group so much speaks for it.
AGREES = 0.4


class CascadeFaces:
    """A cascade as a face detector.

    Args:
        cascade: a `Cascade`.
        card: the card of its model folder, whose "faces" has "points", as of
            `implied`, and "thresholds" for the scores of `squares_of`.
        threads: number of threads.

    Attributes:
        cascade: as given.
        card: as given, with the thresholds for faces.
        model_hash: hexadecimal digits that identify the cascade and where it expects
            landmarks.
    """

    def __init__(self, cascade, card: dict, threads: int = 1):
        self.card = card | {"thresholds": card["faces"]["thresholds"]}
        self.cascade, self._threads = cascade, threads
        self._points = card["faces"]["points"]
        parts = [card["task"], card["files"][cascade_model.CASCADE], self._points]
        text = json.dumps(parts, sort_keys=True)
        self.model_hash = hashlib.sha256(text.encode()).hexdigest()

    def detect(self, image: np.ndarray) -> Faces:
        """Finds the faces in a picture.

        Args:
            image: uint8 `[height, width, 3]` RGB.

        Returns:
            Faces that score at least the threshold of the card; see `squares_of`.
            Landmarks are implied by the square, and the box is the house's,
            `alignment.face_box`.
        """
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        squares, scores = squares_of(self.cascade, gray, self._threads)
        sure = scores >= self.card["thresholds"]["score"]
        landmarks = implied(squares[sure], self._points)
        boxes = [alignment.face_box(points) for points in landmarks]
        return Faces(
            np.array(boxes, np.float32).reshape(-1, 4),
            scores[sure].astype(np.float32),
            landmarks.astype(np.float32),
        )


def load(models_dir: str | os.PathLike, threads: int = 1) -> CascadeFaces:
    """Loads the face cascade of a folder of models.

    Raises:
        InputError: it is missing, damaged or for another task.
    """
    folder = pathlib.Path(models_dir) / FOLDER
    cascade, card = cascade_model.load(folder)
    if set(card.get("faces", {}).get("points", {})) != {"x", "y", "scale"}:
        raise InputError(
            "the card of a cascade of faces says where landmarks are, that of "
            f"{folder} does not"
        )
    return CascadeFaces(cascade, card, threads)


def squares_of(cascade, gray: np.ndarray, threads: int = 1) -> tuple:
    """Finds groups of windows, each an object once, the surest first.

    Args:
        cascade: a `Cascade`.
        gray: uint8 `[height, width]`.
        threads: number of threads.

    Returns:
        int32 `[n, 4]` x, y, width, height; float64 `[n]` in 0..1: s / (s + 1), where s
        is by how much the last stage's sum is above its threshold, of the best of the
        windows that agree. On composed scenes that told faces from the rest better than
        the number of windows, or the sum over them.
    """
    from mlcvtf.detection.viola_jones import grouping

    windows, margins = cascade.windows(gray, SCALE_FACTOR, threads=threads)
    squares, _ = grouping.group(windows, 1)
    agree = overlaps(_corners(squares), _corners(windows)) > AGREES
    best = (agree * np.maximum(margins, 0).astype(np.float64)).max(axis=1, initial=0)
    order = np.argsort(-best, kind="stable")
    order = order[_once(squares[order])]
    return squares[order], best[order] / (best[order] + 1)


def implied(squares, points: dict) -> np.ndarray:
    """Returns the landmarks that squares imply.

    Args:
        squares: `[n, 4]` x, y, width, height.
        points: "scale": side of a square per pixel of the template; "x" and "y": where
            the middle of the template is, as shares of the side.

    Returns:
        float64 `[n, 5, 2]` x, y in pixels.
    """
    squares = np.asarray(squares, np.float64).reshape(-1, 4)
    middle = squares[:, :2] + squares[:, 2:] * [points["x"], points["y"]] - 0.5
    scale = squares[:, 2] * points["scale"]
    template = alignment.TEMPLATE.astype(np.float64) - alignment.SIZE / 2
    return middle[:, None] + scale[:, None, None] * template


def fit(squares, landmarks) -> dict:
    """Fits what `implied` takes: medians over faces.

    Args:
        squares: `[n, 4]` x, y, width, height, n at least 1.
        landmarks: `[n, 5, 2]` of the same faces.
    """
    found = []
    for (x, y, width, height), points in zip(squares, landmarks, strict=True):
        matrix = alignment.similarity(alignment.TEMPLATE, points)
        middle = matrix[:, :2] @ np.full(2, alignment.SIZE / 2) + matrix[:, 2] + 0.5
        scale = np.hypot(matrix[0, 0], matrix[1, 0]) / width
        found.append(((middle[0] - x) / width, (middle[1] - y) / height, scale))
    x, y, scale = np.median(found, axis=0).round(4).tolist()
    return {"x": x, "y": y, "scale": scale}


def _corners(squares):
    return np.concatenate([squares[:, :2], squares[:, :2] + squares[:, 2:]], axis=1)


def _once(squares):
    """Says which squares, the surest first, are no second one of an object."""
    low, high = squares[:, :2], squares[:, :2] + squares[:, 2:]
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.clip(shared, 0, None).astype(np.float64).prod(2)
    area = squares[:, 2:].astype(np.float64).prod(1)
    same = shared > COVERED * np.minimum(area[:, None], area)
    same |= shared > OVERLAP * (area[:, None] + area - shared)
    keep = np.ones(len(squares), bool)
    for number in range(1, len(squares)):
        keep[number] = not (same[number, :number] & keep[:number]).any()
    return keep
