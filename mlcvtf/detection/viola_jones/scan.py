"""Runs a cascade over the windows of a pyramid, on the processor.

The first stage, which sees every window, runs over whole rows, whose windows are
neighbours in memory. The windows that are left are listed, and each further stage runs
node by node over the list, without a branch in the inner loop, and shortens it. The
loops are in `kernels.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Windows in a piece of work: enough to hide the cost of a call, few enough that their
# lists stay in the cache.
PIECE = 4096
# OpenCV lowers the threshold of every stage by this.
STAGE_SLACK = np.float32(1e-5)


def windows(cascade, pyramid, threads: int | None = None):
    """Lists the windows of a pyramid that pass all stages.

    Args:
        cascade: a `Cascade`.
        pyramid: a `pyramid.Pyramid` for its window.
        threads: number of threads, at least 1; None for one per processor.

    Returns:
        int32 `[n, 4]`: x, y, width, height in the picture; float32 `[n]`: by how much
        the sum of the last stage is above its threshold.

    Raises:
        ValueError: `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is at least 1, received {threads}")
    from mlcvtf.detection.viola_jones import kernels

    plans = {step: plan(cascade, pyramid.stride, step) for step in (1, 2)}
    images = pyramid.sums, pyramid.squares, pyramid.tilted
    nodes = cascade.tilted[cascade.features], cascade.thresholds
    stages = (
        np.append(0, np.cumsum(cascade.stage_trees)),
        cascade.stage_thresholds - STAGE_SLACK,
        np.append(0, np.cumsum(cascade.tree_nodes)),
        cascade.tables,
        cascade.best,
    )

    def run(piece):
        level, first, last = piece
        place = level.start, pyramid.stride, level.step, level.columns
        features, inner = plans[level.step]
        return kernels.run(
            images, place, (first, last), features, nodes, inner, stages
        )

    pieces = list(share(pyramid.levels))
    threads = min(threads or os.cpu_count() or 1, max(len(pieces), 1))
    if threads == 1:
        found = [run(piece) for piece in pieces]
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(run, pieces))
    return _boxes(cascade.window, pieces, found)


def share(levels):
    """Yields (level, first row, row after the last) of about `PIECE` windows each."""
    for level in levels:
        if level.rows and level.columns:
            rows = max(1, PIECE // level.columns)
            for first in range(0, level.rows, rows):
                yield level, first, min(first + rows, level.rows)


def plan(cascade, stride, step):
    """Turns a cascade into offsets from a window's first pixel in the buffers.

    Returns:
        Per node: int64 `[nodes]`, number of pairs of corners (see `corner_pairs`);
        uint64 `[nodes, 4, 2]` their offsets and int32 `[nodes, 4]` their weights;
        uint64 `[nodes, 3, 4]` corners of each rectangle and float32
        `[nodes, 3]` weights. Then uint64 `[4]` corners of the rectangle whose variance
        counts, and its area.
    """

    def offsets(places):
        column, row = places[..., 0], places[..., 1]
        if step == 2:
            column = column % 2 * (stride // 2) + column // 2
        return (row * stride + column).astype(np.uint64)

    counts, places, weights = cascade.pairs
    width, height = cascade.window
    # The variance is that of the window without its border, as in OpenCV.
    inner = [(1, 1), (width - 1, 1), (1, height - 1), (width - 1, height - 1)]
    used = cascade.features
    features = (
        counts[used],
        offsets(places)[used],
        weights[used],
        offsets(rectangle_corners(cascade.rectangles, cascade.tilted))[used],
        cascade.weights[used],
    )
    return features, (offsets(np.array(inner)), (width - 2) * (height - 2))


def rectangle_corners(rectangles, tilted):
    """Lists where the integral image is looked up.

    Args:
        rectangles: int32 `[features, 3, 4]`.
        tilted: bool `[features]`.

    Returns:
        int64 `[features, 3, 4, 2]`, column and row; a rectangle's sum is the first
        minus the second minus the third plus the fourth.
    """
    x, y, w, h = np.moveaxis(rectangles.astype(np.int64), -1, 0)
    upright = [(x, y), (x + w, y), (x, y + h), (x + w, y + h)]
    rotated = [(x, y), (x - h, y + h), (x + w, y + w), (x + w - h, y + w + h)]
    return np.where(
        tilted[:, None, None, None],
        np.stack([np.stack(corner, -1) for corner in rotated], 2),
        np.stack([np.stack(corner, -1) for corner in upright], 2),
    )


def corner_pairs(rectangles, weights, tilted):
    """Writes features as weighted differences of corners: sum of w (a - b).

    Corners that two rectangles share are looked up once: two halves have three pairs,
    two separate rectangles four.

    Args:
        rectangles: int32 `[features, 3, 4]`.
        weights: float32 `[features, 3]`.
        tilted: bool `[features]`.

    Returns:
        int64 `[features]`, the number of pairs, 3 or 4, or 0 for a feature that has no
        such form or whose value float32 may round; int64 `[features, 4, 2, 2]` columns
        and rows; int32 `[features, 4]` weights. What is not used is 0.
    """
    corners = rectangle_corners(rectangles, tilted).reshape(-1, 12, 2)
    signed = weights[:, :, None] * np.float32([1, -1, -1, 1])
    area = np.prod(rectangles[..., 2:].astype(np.float64), axis=-1)
    area *= np.where(tilted, 2, 1)[:, None]
    largest = 255 * (np.abs(weights) * area).sum(1)
    exact = (weights == np.rint(weights)).all(1) & (largest < 2**24)
    counts = np.zeros(len(corners), np.int64)
    places = np.zeros((len(corners), 4, 2, 2), np.int64)
    factors = np.zeros((len(corners), 4), np.int32)
    for feature in np.flatnonzero(exact):
        pairs = _pairs(corners[feature].tolist(), signed[feature].ravel().tolist())
        if 0 < len(pairs) <= 4:
            counts[feature] = max(len(pairs), 3)
            for k, (weight, plus, minus) in enumerate(pairs):
                factors[feature, k] = weight
                places[feature, k] = plus, minus
    return counts, places, factors


def _pairs(corners, weights):
    """Returns (weight, corner, corner of the opposite weight), or nothing."""
    sums: dict = {}
    for corner, weight in zip(map(tuple, corners), weights, strict=True):
        sums[corner] = sums.get(corner, 0) + int(weight)
    plus = [(weight, corner) for corner, weight in sums.items() if weight > 0]
    minus = [(-weight, corner) for corner, weight in sums.items() if weight < 0]
    if sorted(w for w, _ in plus) != sorted(w for w, _ in minus):
        return []
    return [
        (weight, a, b)
        for (weight, a), (_, b) in zip(sorted(plus), sorted(minus), strict=True)
    ]


def split_columns(source, target):
    """Copies a picture so that its even columns come first, then the odd ones.

    Args:
        source: int32 `[height, width]`.
        target: int32 `[height, stride]`, an even stride of at least `width`.
    """
    half = target.shape[1] // 2
    even, odd = (source.shape[1] + 1) // 2, source.shape[1] // 2
    target[:, :even] = source[:, ::2]
    target[:, half : half + odd] = source[:, 1::2]


def _boxes(window, pieces, found):
    boxes, confidences = [], []
    for (level, first, _), (rows, columns, sums) in zip(pieces, found, strict=True):
        scale = level.scale
        side = [int(np.rint(np.float32(s) * scale)) for s in window]
        box = np.empty((len(rows), 4), np.int32)
        for axis, places in enumerate((columns, rows + first)):
            places = (places * level.step).astype(np.float32)
            box[:, axis] = np.rint(places * scale)
        box[:, 2:] = side
        boxes.append(box)
        confidences.append(sums)
    if not boxes:
        return np.zeros((0, 4), np.int32), np.zeros(0, np.float32)
    return np.concatenate(boxes), np.concatenate(confidences).astype(np.float32)
