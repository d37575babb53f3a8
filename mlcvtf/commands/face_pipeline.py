"""From a picture to faces and from faces to embeddings, with the shipped models.

What every face command shares: the detector, the alignment and the embedder behind
two verbs, on NumPy arrays, with either runtime.
"""

import hashlib
import os
import pathlib
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf import models_folder
from mlcvtf.embedding import alignment
from mlcvtf.video import predictor
from mlcvtf.video.track import overlaps

# Two boxes that overlap more than this show one face.
SAME_FACE = 0.6


class Faces(NamedTuple):
    """The faces of a picture, the surest first.

    Attributes:
        boxes: float32 `[n, 4]`: x1, y1, x2, y2 in pixels of the picture.
        scores: float32 `[n]` in 0..1.
        landmarks: float32 `[n, 5, 2]`: left eye, right eye, nose tip, left and right
            corner of the mouth as seen in the picture.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class FacePipeline:
    """The face detector and the face embedder.

    Args:
        models_dir: folder that holds `face_detector` and `face_embedder`; by default
            that of the models that come with the package.
        runtime: "litert", "saved_model", "keras", or "auto" for the fastest there is.
        threads: processor threads for each of the two models.
        embedder: a loaded embedder to use in place of the folder's.
        detector: one of `video_app.DETECTORS`.

    Attributes:
        detector: the detector, with its card.
        embedder: the predictor of the embedder, with its card.
        model_hash: hexadecimal digits that identify the weights of both models, so
            that vectors of faces that another detector aligned are not mixed in.

    Raises:
        InputError: a model is missing, damaged or for another task.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike | None = None,
        runtime: str = "auto",
        threads: int = 2,
        embedder: "predictor.Predictor | None" = None,
        detector: str = "centernet",
    ):
        self.detector = load_detector(detector, models_dir, runtime, threads)
        self.embedder = embedder or load("face_embedder", models_dir, runtime, threads)
        both = self.detector.model_hash + self.embedder.model_hash
        self.model_hash = hashlib.sha256(both.encode()).hexdigest()

    def detect(self, image: np.ndarray) -> Faces:
        """Finds the faces in a picture.

        Args:
            image: uint8 `[height, width, 3]` RGB.

        Returns:
            The faces that score at least the threshold of the detector's card.
        """
        return self.detector.detect(image)

    def embed(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Embeds faces of a picture.

        Args:
            image: uint8 `[height, width, 3]` RGB.
            landmarks: `[n, 5, 2]` in pixels of `image`.

        Returns:
            float32 `[n, d]` of unit norm; a row is zero, so that it is like nobody,
            where landmarks coincide or are not finite.
        """
        vectors = np.zeros((len(landmarks), self.dimensions), np.float32)
        for vector, points in zip(vectors, landmarks, strict=True):
            try:
                crop = alignment.align(image, points)
            except ValueError:
                continue
            vector[:] = self.embedder(crop)["embedding"]
        return vectors

    def embed_whole(self, image: np.ndarray) -> np.ndarray:
        """Embeds a picture that shows a face and nothing else.

        Args:
            image: uint8 `[height, width, 3]` RGB, stretched to the embedder's input.

        Returns:
            float32 `[d]` of unit norm.
        """
        size = (alignment.SIZE, alignment.SIZE)
        crop = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return self.embedder(crop)["embedding"]

    def embed_picture(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        """Embeds the one face of a gallery picture.

        Args:
            image: uint8 `[height, width, 3]` RGB.

        Returns:
            How many faces were found, and the embedding, float32 `[d]`, if it is one.
            Beside the best, a face counts only from the card's `certain` score on: a
            false box in a portrait's background is no reason to refuse it.
        """
        faces = self.detect(image)
        thresholds = self.detector.card["thresholds"]
        certain = np.sum(faces.scores >= thresholds.get("certain", thresholds["score"]))
        count = max(int(certain), min(len(faces.boxes), 1))
        if count != 1:
            return count, None
        vector = self.embed(image, faces.landmarks[:1])[0]
        return 1, vector if vector.any() else None

    @property
    def dimensions(self) -> int:
        """How many numbers an embedding has."""
        return self.embedder.card["outputs"]["embedding"]["shape"][-1]


class NetworkFaces:
    """The network `face_detector` as a face detector.

    Args:
        network: its predictor.

    Attributes:
        card: of the network.
        model_hash: of the network.
    """

    def __init__(self, network: "predictor.Predictor"):
        self.card, self.model_hash = network.card, network.model_hash
        self._network = network

    def detect(self, image: np.ndarray) -> Faces:
        """Finds faces; see `FacePipeline.detect`."""
        return detect(self._network, image)


def load_detector(
    name: str, models_dir: str | os.PathLike | None, runtime: str, threads: int = 2
):
    """Loads what finds faces.

    Args:
        name: one of `video_app.DETECTORS`.
        models_dir: folder that holds its model; None for the models of the package.
        runtime: as of `FacePipeline`; a cascade has its own.
        threads: processor threads.

    Returns:
        An object with `detect`, as of `FacePipeline`, `card` and `model_hash`.

    Raises:
        InputError: the model is missing, damaged or for another task.
    """
    if name == "cascade":
        from mlcvtf.commands import cascade_faces

        return cascade_faces.load(models_dir or models_folder.shipped_models(), threads)
    return NetworkFaces(load("face_detector", models_dir, runtime, threads))


def load(
    name: str, models_dir: str | os.PathLike | None, runtime: str, threads: int = 2
) -> "predictor.Predictor":
    """Loads one of the two models.

    Args:
        name: "face_detector" or "face_embedder".
        models_dir: folder that holds it; None for the models of the package.
        runtime: as of `FacePipeline`.
        threads: processor threads.

    Raises:
        InputError: the model is missing, damaged or for another task.
    """
    task = {"face_detector": "face_detection", "face_embedder": "face_embedding"}[name]
    folder = pathlib.Path(models_dir or models_folder.shipped_models())
    return predictor.load(folder / name, runtime, task=task, threads=threads)


def detect(detector: "predictor.Predictor", image: np.ndarray) -> Faces:
    """Finds faces with a detector; see `FacePipeline.detect`."""
    longest = max(image.shape[:2])
    limit = detector.card["input"]["longest_side"]
    scale = np.ones(2, np.float32)
    if longest > limit:
        # The graph would shrink it too, but by bilinear look-ups that skip pixels.
        height, width = image.shape[:2]
        size = [max(1, round(side * limit / longest)) for side in (width, height)]
        scale = np.float32([width / size[0], height / size[1]])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    found = detector(image)
    keep = np.flatnonzero(found["scores"] >= detector.card["thresholds"]["score"])
    keep = keep[_distinct(found["boxes"][keep])]
    return Faces(
        found["boxes"][keep] * np.tile(scale, 2),
        found["scores"][keep],
        found["landmarks"][keep] * scale,
    )


def _distinct(boxes):
    """Says which boxes, the surest first, are no second box of a face.

    A face that lies right between the cells of the detector's map may be a peak in
    two of them.
    """
    keep = np.ones(len(boxes), bool)
    if len(boxes) > 1:
        same = overlaps(boxes, boxes) > SAME_FACE
        for number in range(1, len(boxes)):
            keep[number] = not (same[number, :number] & keep[:number]).any()
    return keep
