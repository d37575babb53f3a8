"""A forest on the processor's cores, with numba's kernels.

Blocks of pixels go down one level at a time, pixels in the inner loop: their steps do
not wait for each other. Splits and leaves are written as lines of 32 bytes, so that a
step reads one cache line of the forest; a leaf leads to itself, so that the loop has
no branch.
"""

import concurrent.futures

import numpy as np

from mlcvtf.segmentation.body_parts import inference_kernels
from mlcvtf.segmentation.body_parts.features import (
    OFFSET_STEPS,
    THRESHOLD_STEPS,
    check_depth,
    pad_depth,
)
from mlcvtf.segmentation.body_parts.forest import FULL, Forest

# A line: u and v (x, y), threshold, left child (the right one is the next line).
LINE = 8
# Below this many pixels a thread costs more than it saves.
WORTH_A_THREAD = 2000


class CompiledForest:
    """Classifies pictures, as `forest.classify` does.

    Args:
        forest: of t trees.
        threads: that share the pixels.

    Attributes:
        forest: as given.
        trees: how many.
    """

    def __init__(self, forest: Forest, threads: int = 1):
        self.forest = forest
        self.trees = len(forest.roots)
        self.threads = max(1, threads)
        self._lines, self._rows, self._roots = _lines(forest)
        self._levels = forest.depth
        self._pool = None
        if self.threads > 1:
            self._pool = concurrent.futures.ThreadPoolExecutor(self.threads)

    def probabilities(self, sums: np.ndarray) -> np.ndarray:
        """Returns the mean probabilities that `classify` adds up, for joints.

        Args:
            sums: uint16 `[n, classes]`.

        Returns:
            float32 `[n, classes]`.
        """
        return sums / np.float32(FULL * self.trees)

    def classify(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gives every pixel with known depth its most probable part.

        Args:
            depth: float `[height, width]` in metres, 0 where missing or background.

        Returns:
            parts: uint8 `[height, width]`, 0 where depth is 0, parts from 1, the
            lowest of equally probable ones; sums: uint16 `[n, classes]` of the n
            pixels with known depth in reading order: 255 t times their mean
            probabilities.

        Raises:
            InputError: depth is not as above.
        """
        depth = check_depth(depth)
        padded = pad_depth(depth).reshape(-1)
        pixels = np.flatnonzero(depth.reshape(-1))
        parts = np.zeros(depth.shape, np.uint8)
        sums = np.empty((len(pixels), self.forest.classes), np.uint16)
        pieces = min(self.threads, 1 + len(pixels) // WORTH_A_THREAD)
        ends = np.linspace(0, len(pixels), pieces + 1).astype(int).tolist()

        def run(start, stop):
            inference_kernels.classify(
                padded,
                depth.shape[0],
                depth.shape[1],
                pixels[start:stop],
                self._lines,
                self._lines.view(np.uint32),
                self._rows,
                self._roots,
                self._levels,
                self.forest.leaves,
                sums[start:stop],
                parts.reshape(-1),
            )

        if pieces == 1:
            run(0, len(pixels))
        else:
            list(self._pool.map(run, ends[:-1], ends[1:]))
        return parts, sums


def _lines(forest):
    """Writes splits and leaves as lines, each pair of children side by side.

    Returns:
        lines: float32 `[LINE n]`, of which a child is a uint32; rows: int32 `[n]`, of
        the leaves at those lines; roots: uint32 `[trees]`.
    """
    lines, rows, first = [], [], 0
    for level in forest.levels():
        inner = level >= 0
        line = np.zeros((len(level), LINE), np.float32)
        line[inner, :4] = forest.offsets[level[inner]] / np.float32(OFFSET_STEPS)
        line[inner, 4] = forest.thresholds[level[inner]] / np.float32(THRESHOLD_STEPS)
        behind = first + len(level)
        line[~inner, 4] = np.inf
        link = line.view(np.uint32)[:, 5]
        link[inner] = behind + 2 * np.arange(inner.sum())
        link[~inner] = first + np.flatnonzero(~inner)
        lines.append(line)
        rows.append(np.where(inner, 0, -1 - level).astype(np.int32))
        first = behind
    roots = np.arange(len(forest.roots), dtype=np.uint32)
    return np.concatenate(lines).reshape(-1), np.concatenate(rows), roots
