"""Groups of windows that are one object: by OpenCV's rule, and with scores by ours."""

import numpy as np

from mlcvtf.detection.viola_jones import without_numba

# Share of the sides by which windows of one object may differ.
EPSILON = 0.2
# Intersection over union from which on windows are one object, as a fraction.
OVERLAP = (3, 10)


def group(windows, min_neighbors: int, epsilon: float = EPSILON):
    """Averages windows that are alike and drops small groups.

    Two windows are alike where each edge differs by at most `epsilon` times the mean
    of the smaller width and the smaller height; a group is what chains of such pairs
    connect. A group within a larger one that has more windows is dropped as well. The
    rule of OpenCV's `groupRectangles`.

    Args:
        windows: int32 `[n, 4]` x, y, width, height.
        min_neighbors: a group has more windows than this, at least 1.
        epsilon: see above.

    Returns:
        int32 `[m, 4]`, in the order of each group's first window; int32 `[m]`, how
        many windows it has.

    Raises:
        ValueError: `min_neighbors` is below 1.
    """
    windows = np.asarray(windows, np.int32).reshape(-1, 4)
    if min_neighbors < 1:
        raise ValueError(f"min_neighbors is at least 1, received {min_neighbors}")
    if not len(windows):
        return windows, np.zeros(0, np.int32)
    labels = _label(windows, epsilon)
    counts = np.bincount(labels).astype(np.int32)
    sums = np.stack([np.bincount(labels, side) for side in windows.T], axis=1)
    share = np.float32(1) / counts.astype(np.float32)
    means = np.rint(sums.astype(np.float32) * share[:, None]).astype(np.int32)
    large = counts > min_neighbors
    means, counts = means[large], counts[large]
    keep = ~_inside(means, counts, epsilon)
    return means[keep], counts[keep]


def suppress(windows, scores, min_neighbors: int) -> np.ndarray:
    """Keeps the windows with the highest scores, and none that overlap such.

    The window of the highest score stands for all that overlap it by at least
    `OVERLAP` (intersection over union), itself included; of the rest the next is
    chosen. Whole numbers decide, so that a graph chooses the same.

    Args:
        windows: int32 `[n, 4]` x, y, width, height.
        scores: float32 `[n]`, at least 0; of equal ones the first counts more.
        min_neighbors: a window that is kept stands for more than this.

    Returns:
        int64 `[m]`, which are kept, by falling score.
    """
    windows = np.asarray(windows, np.int64).reshape(-1, 4)
    low, high = windows[:, :2], windows[:, :2] + windows[:, 2:]
    area = windows[:, 2:].prod(1)
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while len(order):
        one = order[0]
        sides = np.minimum(high[order], high[one]) - np.maximum(low[order], low[one])
        common = np.maximum(sides, 0).prod(1)
        union = area[order] + area[one] - common
        near = common * OVERLAP[1] >= union * OVERLAP[0]
        if near.sum() > min_neighbors:
            kept.append(one)
        order = order[~near]
    return np.array(kept, np.int64)


def _inside(boxes, counts, epsilon):
    """Says which groups lie in another that counts more."""
    slack = np.rint(boxes[:, 2:] * epsilon).astype(np.int32)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    within = (low[:, None] >= (low - slack)[None]).all(2)
    within &= (high[:, None] <= (high + slack)[None]).all(2)
    np.fill_diagonal(within, False)
    more = counts[None] > np.maximum(3, counts)[:, None]
    return (within & (more | (counts < 3)[:, None])).any(1)


def _label(windows, epsilon):
    """Numbers the connected groups of alike windows, by their first window."""
    if without_numba.has_numba():
        from mlcvtf.detection.viola_jones.grouping_kernels import connect
    else:
        from mlcvtf.detection.viola_jones.without_numba import connect

    order = np.argsort(windows[:, 0], kind="stable")
    roots = np.empty(len(windows), np.int64)
    roots[order] = order[connect(windows[order], 0.5 * epsilon)]
    _, first, labels = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels]
