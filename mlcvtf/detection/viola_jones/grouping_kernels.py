"""The loop of the grouping, compiled by numba."""

import numpy as np
from numba import njit

compiled = njit(cache=True, nogil=True)


@compiled
def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@compiled
def connect(boxes, slack):
    """Connects boxes whose edges are all near each other's.

    Args:
        boxes: int32 `[n, 4]` x, y, width, height, sorted by x.
        slack: how far edges may be apart, as a share of the sum of the smaller width
            and the smaller height.

    Returns:
        int64 `[n]`, one box of the group that a box belongs to, the same for all.
    """
    parents = np.arange(len(boxes))
    for i in range(len(boxes)):
        x, y, w, h = boxes[i]
        for j in range(i + 1, len(boxes)):
            # No box further to the right can be near enough.
            if boxes[j, 0] - x > slack * (w + h):
                break
            delta = slack * (min(w, boxes[j, 2]) + min(h, boxes[j, 3]))
            near = (
                (boxes[j, 0] - x <= delta)
                & (abs(boxes[j, 1] - y) <= delta)
                & (abs(boxes[j, 0] + boxes[j, 2] - x - w) <= delta)
                & (abs(boxes[j, 1] + boxes[j, 3] - y - h) <= delta)
            )
            if near:
                parents[_root(parents, j)] = _root(parents, i)
    for i in range(len(boxes)):
        parents[i] = _root(parents, i)
    return parents
