"""Follows faces over frames, so that names are steady.

A face continues a track when its box overlaps the track's last box and its embedding
agrees with the track's. The embedding of a track is the mean of what was seen, with
recent frames weighing more (1/n at first, then an exponential mean), and the name is
looked up for that mean. Against voting on the names of single frames this decides
after the noise is averaged out, needs one look-up, has one score that belongs to the
name shown, and follows a changed gallery at once. A newcomer in the same place does
not inherit the name, because the embeddings do not agree.
"""

import numpy as np

OVERLAP = 0.3
NEWEST_WEIGHT = 0.1
PATIENCE = 10


def overlaps(first, second) -> np.ndarray:
    """Returns the intersection over union of each box with each other.

    Args:
        first: `[n, 4]` boxes x1, y1, x2, y2.
        second: `[m, 4]` boxes.

    Returns:
        `[n, m]` in 0..1; 0 where both boxes are empty.

    >>> overlaps([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3)
    array([[0.333, 0.   ]])
    """
    first = np.asarray(first, np.float64).reshape(-1, 1, 4)
    second = np.asarray(second, np.float64).reshape(1, -1, 4)
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    union = _areas(first) + _areas(second) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def _areas(boxes):
    return np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


class Tracker:
    """Gives faces track numbers and steadied embeddings.

    Args:
        agreement: least cosine between a face's embedding and its track's: what few
            pairs of strangers reach, by the calibration of the embedder.
        overlap: least intersection over union of a face with its track.
        newest_weight: weight of the newest frame in the mean once there are many.
        patience: frames for which a track waits for its face to be found again.
    """

    def __init__(
        self,
        agreement: float,
        overlap: float = OVERLAP,
        newest_weight: float = NEWEST_WEIGHT,
        patience: int = PATIENCE,
    ):
        self._overlap = overlap
        self._agreement = agreement
        self._newest_weight = newest_weight
        self._patience = patience
        self._next_number = 0
        self.forget()

    def update(self, boxes, embeddings) -> tuple[np.ndarray, np.ndarray]:
        """Takes the faces of the next frame.

        Args:
            boxes: float `[n, 4]`.
            embeddings: float32 `[n, d]` of unit norm (or zero where unknown).

        Returns:
            Track numbers, int64 `[n]`, counted from 0 over the whole run, and the
            tracks' embeddings, float32 `[n, d]` of unit norm (or zero).
        """
        embeddings = np.asarray(embeddings, np.float32)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if self._embeddings is None:
            self._embeddings = np.zeros((0, embeddings.shape[1]), np.float32)
        tracks = self._assign(boxes, embeddings)
        means, seen = embeddings.copy(), np.ones(len(boxes), np.int64)
        numbers = np.empty(len(boxes), np.int64)
        known = tracks >= 0
        old = tracks[known]
        seen[known] += self._seen[old]
        weight = np.maximum(1 / seen[known], self._newest_weight)[:, None]
        mean = weight * embeddings[known] + (1 - weight) * self._embeddings[old]
        norm = np.linalg.norm(mean, axis=1, keepdims=True)
        means[known] = mean / np.maximum(norm, 1e-12)
        numbers[known] = self._numbers[old]
        fresh = np.count_nonzero(~known)
        numbers[~known] = self._next_number + np.arange(fresh)
        self._next_number += fresh
        self._remember(numbers, boxes, means, seen, old)
        return numbers, means

    def forget(self) -> None:
        """Ends all tracks: what comes next has nothing to do with what came before."""
        self._numbers, self._seen, self._missed = np.zeros((3, 0), np.int64)
        self._boxes = np.zeros((0, 4))
        self._embeddings = None

    def _assign(self, boxes, embeddings):
        """Returns for each face the row of its track or -1, best overlaps first."""
        tracks = np.full(len(boxes), -1)
        if not len(boxes) or not len(self._boxes):
            return tracks
        overlap = overlaps(boxes, self._boxes)
        agrees = embeddings @ self._embeddings.T >= self._agreement
        overlap[~agrees | (overlap < self._overlap)] = 0
        for _ in range(min(overlap.shape)):
            face, track = np.unravel_index(np.argmax(overlap), overlap.shape)
            if overlap[face, track] == 0:
                break
            tracks[face] = track
            overlap[face, :] = 0
            overlap[:, track] = 0
        return tracks

    def _remember(self, numbers, boxes, means, seen, continued):
        """Keeps the faces of this frame, and for a while the tracks without one."""
        waiting = np.ones(len(self._numbers), bool)
        waiting[continued] = False
        waiting &= self._missed < self._patience
        missed = np.zeros(len(numbers), np.int64)
        self._missed = np.concatenate([missed, self._missed[waiting] + 1])
        self._numbers = np.concatenate([numbers, self._numbers[waiting]])
        self._boxes = np.concatenate([boxes, self._boxes[waiting]])
        self._embeddings = np.concatenate([means, self._embeddings[waiting]])
        self._seen = np.concatenate([seen, self._seen[waiting]])
