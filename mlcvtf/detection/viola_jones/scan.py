"""Runs a cascade over the windows of a pyramid, on the processor.

The first stage, which sees every window, runs over whole rows, whose windows are
neighbours in memory. The windows that are left are listed, and each further stage runs
node by node over the list, without a branch in the inner loop, and shortens it. The
loops are in `kernels.py`.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Windows that pass through all stages together: few enough that their lists stay in the
# cache. Windows of a call: enough to hide what a call costs.
PIECE = 4096
JOB = 131072
# Elements after the last window's that a block of windows may read.
BEYOND = 16
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
    """
    from mlcvtf.detection.viola_jones import kernels

    plans = {step: plan(cascade, pyramid.stride, step) for step in (1, 2)}
    images = pyramid.sums, pyramid.squares, pyramid.tilted
    nodes = cascade.tilted[cascade.features], cascade.thresholds
    stages = (
        np.append(0, np.cumsum(cascade.stage_trees)),
        cascade.stage_thresholds - STAGE_SLACK,
        np.append(0, np.cumsum(cascade.tree_nodes)),
        cascade.tables,
    )

    def run(pieces):
        used, inner = plans[pieces[0, 1]]
        return kernels.run(images, pyramid.stride, pieces, used, inner, nodes, stages)

    jobs = share(pyramid.levels)
    threads = min(threads or os.cpu_count() or 1, len(jobs))
    if threads < 2:
        # The caller's processor time is that of the work.
        found = list(map(run, jobs))
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(run, jobs))
    places, confidences = zip(*found, strict=True) if found else ((), ())
    empty = np.zeros(0)
    return _boxes(
        cascade.window,
        pyramid,
        np.concatenate([empty, *places]).astype(np.int64),
        np.concatenate([empty, *confidences]).astype(np.float32),
    )


def share(levels):
    """Divides the windows of all levels into jobs.

    Returns:
        A list of int64 `[n, 5]` of about `JOB` windows each, in pieces of about
        `PIECE`: start, step and columns of the level, first row of windows and the one
        after the last. The levels of a job have one step.
    """
    pieces, windows = [], []
    for level in levels:
        if level.rows and level.columns:
            rows = max(1, PIECE // level.columns)
            for first in range(0, level.rows, rows):
                last = min(first + rows, level.rows)
                pieces.append((level.start, level.step, level.columns, first, last))
                windows.append((last - first) * level.columns)
    if not pieces:
        return []
    pieces = np.array(pieces, np.int64)
    job = (np.cumsum(windows) - 1) // JOB
    ends = np.diff(job).astype(bool) | np.diff(pieces[:, 1]).astype(bool)
    return np.split(pieces, np.flatnonzero(ends) + 1)


def plan(cascade, stride, step):
    """Turns a cascade into offsets from a window's first pixel in the buffers.

    Returns:
        Per node: int64 `[nodes]`, number of pairs of corners (see `corner_pairs`);
        uint64 `[nodes, 6, 2]` their offsets and int32 `[nodes, 6]` their weights;
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

    Corners that rectangles share are looked up once: two halves have three pairs, a
    part within the whole four, four quarters six.

    Args:
        rectangles: int32 `[features, 3, 4]`.
        weights: float32 `[features, 3]`.
        tilted: bool `[features]`.

    Returns:
        int64 `[features]`, the number of pairs, 3, 4 or 6, or 0 for a feature that has
        no such form or whose value float32 may round; int64 `[features, 6, 2, 2]`
        columns and rows; int32 `[features, 6]` weights. What is not used is 0.
    """
    corners = rectangle_corners(rectangles, tilted).reshape(-1, 12, 2)
    signed = weights[:, :, None] * np.float32([1, -1, -1, 1])
    area = np.prod(rectangles[..., 2:].astype(np.float64), axis=-1)
    area *= np.where(tilted, 2, 1)[:, None]
    largest = 255 * (np.abs(weights) * area).sum(1)
    exact = (weights == np.rint(weights)).all(1) & (largest < 2**24)
    counts = np.zeros(len(corners), np.int64)
    places = np.zeros((len(corners), 6, 2, 2), np.int64)
    factors = np.zeros((len(corners), 6), np.int32)
    for feature in np.flatnonzero(exact):
        pairs = _pairs(corners[feature].tolist(), signed[feature].ravel().tolist())
        if 0 < len(pairs) <= 6:
            counts[feature] = next(n for n in (3, 4, 6) if len(pairs) <= n)
            for k, (weight, plus, minus) in enumerate(pairs):
                factors[feature, k] = weight
                places[feature, k] = plus, minus
    return counts, places, factors


def _pairs(corners, weights):
    """Returns (weight, corner, corner of the opposite weight), as few as are found."""
    sums: dict = {}
    for corner, weight in zip(map(tuple, corners), weights, strict=True):
        sums[corner] = sums.get(corner, 0) + int(weight)
    plus = sorted((weight, corner) for corner, weight in sums.items() if weight > 0)
    minus = sorted((-weight, corner) for corner, weight in sums.items() if weight < 0)
    pairs = []
    # All weights together are 0, so that both lists end at the same time.
    while plus:
        (more, a), (less, b) = plus.pop(), minus.pop()
        weight = min(more, less)
        pairs.append((weight, a, b))
        if more > weight:
            plus.append((more - weight, a))
        if less > weight:
            minus.append((less - weight, b))
    return pairs


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


def _boxes(window, pyramid, places, confidences):
    """Returns the windows in the picture that places in the buffers stand for."""
    if not len(places):
        return np.zeros((0, 4), np.int32), confidences
    starts, steps = (np.array([v[i] for v in pyramid.levels]) for i in (2, 1))
    level = np.searchsorted(starts, places, side="right") - 1
    scale = np.array([v.scale for v in pyramid.levels], np.float32)[level]
    rows, columns = np.divmod(places - starts[level], pyramid.stride)
    boxes = np.empty((len(places), 4), np.int32)
    # A row's windows are neighbours in the buffer, whatever their step.
    for axis, pixels in enumerate((columns * steps[level], rows)):
        boxes[:, axis] = np.rint(pixels.astype(np.float32) * scale)
        boxes[:, 2 + axis] = np.rint(np.float32(window[axis]) * scale)
    return boxes, confidences
