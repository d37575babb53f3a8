"""Searches and splits on the processor's cores with numba's kernels.

Features are computed as they are needed and never stored. Work is shared by pixels: a
node with many goes to all threads, each trying a part of the candidates; nodes with
few go together.
"""

import concurrent.futures
import os

import numpy as np

from mlcvtf.segmentation.body_parts import information, kernels
from mlcvtf.segmentation.body_parts.candidates import candidates

# Pieces of work for each thread and level, and nodes of one, whose candidates are in
# memory together.
PIECES = 8
MOST_NODES = 256
# Features of the smallest piece of a node: fewer would fetch its pixels in vain.
GRAIN = 4
# A node costs as much as this many pixels besides its own.
NODE_COST = 100


class CompiledEngine:
    """Searches the splits of a tree's open nodes and moves its pixels.

    Args:
        people: `training_pixels.People`.
        pixels: int32 `[n, 4]`, as `training_pixels.draw_pixels` gives.
        classes: how many.
        options: `forest_training.Options`.
        threads: that work side by side.
        tree: number of the tree.
        pool: int16 `[k, 4]`, or None; see `candidates.candidates`.
    """

    def __init__(self, people, pixels, classes, options, threads, tree, pool=None):
        self._people, self._pixels, self._classes = people, pixels, classes
        self._options, self._tree, self._pool = options, tree, pool
        self._threads = max(1, min(threads, os.cpu_count() or 1))
        self._order = np.arange(len(pixels), dtype=np.int32)
        self._ranges = np.array([[0, len(pixels)]], np.int64)
        self._tables = information.fixed_point_tables()

    def root_counts(self) -> np.ndarray:
        """Counts the pixels of each class, int64 `[classes]`."""
        return np.bincount(self._pixels[:, 3], minlength=self._classes)

    def search(self, index, paths):
        """Finds the best candidate of open nodes.

        Args:
            index: int `[m]`, ascending: which of the open nodes.
            paths: int64 `[m]`: their places in the tree.

        Returns:
            score: int64 `[m]`, as of `information.best_split`; offsets: int16
            `[m, 4]` and thresholds: int16 `[m]` of the best.
        """
        ranges = self._ranges[index]
        m, count = len(index), self._options.features
        best = np.full((m, 3), np.iinfo(np.int64).min, np.int64)
        offsets = np.zeros((m, 4), np.int16)
        thresholds = np.zeros(m, np.int16)
        work = pieces(ranges[:, 1] - ranges[:, 0], count, self._threads)

        def run(piece):
            nodes, low, high = piece
            tried, at = candidates(self._options, self._tree, paths[nodes], self._pool)
            found = np.empty((len(at), 3), np.int64)
            kernels.search(
                self._pixels,
                self._order,
                ranges[nodes],
                self._people.depth,
                self._people.place,
                tried,
                at,
                low,
                high,
                self._classes,
                *self._tables,
                found,
            )
            each = np.arange(len(at))
            return nodes, found, tried[each, found[:, 1]], at[each, found[:, 2]]

        # In the order of the pieces, so that the lowest feature stays of equal ones.
        for nodes, found, tried, at in self._map(run, work):
            better = found[:, 0] > best[nodes, 0]
            rows = np.arange(nodes.start, nodes.stop)[better]
            best[rows], offsets[rows], thresholds[rows] = (
                found[better],
                tried[better],
                at[better],
            )
        return best[:, 0], offsets, thresholds

    def split(self, index, offsets, thresholds):
        """Splits some of the open nodes; the others are leaves from now on.

        Args:
            index: int `[m]`, ascending: which of the open nodes.
            offsets: int16 `[m, 4]`.
            thresholds: int16 `[m]`.

        Returns:
            int32 `[m, 2, classes]`: pixels of the children, which are the open nodes
            from now on.
        """
        ranges = self._ranges[index]
        middles = np.empty(len(index), np.int64)
        counts = np.empty((len(index), 2, self._classes), np.int32)

        def run(piece):
            nodes = piece[0]
            kernels.partition(
                self._pixels,
                self._order,
                ranges[nodes],
                self._people.depth,
                self._people.place,
                offsets[nodes],
                thresholds[nodes],
                middles[nodes],
                counts[nodes],
            )

        list(self._map(run, pieces(ranges[:, 1] - ranges[:, 0], 1, self._threads)))
        self._ranges = np.stack(
            [ranges[:, 0], middles, middles, ranges[:, 1]], 1
        ).reshape(-1, 2)
        return counts

    def _map(self, run, work):
        if self._threads == 1:
            return map(run, work)
        with concurrent.futures.ThreadPoolExecutor(self._threads) as threads:
            return list(threads.map(run, work))


def pieces(sizes: np.ndarray, count: int, threads: int) -> list:
    """Cuts the search of a level into pieces of about equal work.

    Args:
        sizes: int `[m]`: pixels of the nodes.
        count: candidate features of each node.
        threads: that the pieces are for.

    Returns:
        (slice of nodes, first feature, the one behind the last) of each piece, in the
        order of nodes and features.
    """
    cost = np.asarray(sizes) + NODE_COST
    target = max(1, int(cost.sum()) // (threads * PIECES))
    found, start, collected = [], 0, 0
    for node, own in enumerate(cost.tolist()):
        if own > target:
            if node > start:
                found.append((slice(start, node), 0, count))
            parts = min(-(-own // target), -(-count // GRAIN))
            step = -(-count // (parts * GRAIN)) * GRAIN
            found += [
                (slice(node, node + 1), low, min(low + step, count))
                for low in range(0, count, step)
            ]
            start, collected = node + 1, 0
            continue
        collected += own
        if collected >= target or node + 1 - start == MOST_NODES:
            found.append((slice(start, node + 1), 0, count))
            start, collected = node + 1, 0
    if start < len(cost):
        found.append((slice(start, len(cost)), 0, count))
    return found
