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
    stages = (
        np.append(0, np.cumsum(cascade.stage_trees)),
        cascade.stage_thresholds - np.float32(1e-5),
        np.append(0, np.cumsum(cascade.tree_nodes)),
        cascade.tables,
    )

    def run(piece):
        level, first, last = piece
        return kernels.run(
            pyramid.sums,
            pyramid.squares,
            pyramid.tilted,
            level.start,
            pyramid.stride,
            level.step,
            level.columns,
            first,
            last,
            *plans[level.step],
            *stages,
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
        uint64 `[nodes, 3, 4]` corners of each node's rectangles, float32 `[nodes, 3]`
        weights, bool `[nodes]` tilted, float32 `[nodes]` thresholds, uint64 `[4]`
        corners of the rectangle whose variance counts, and its area.
    """
    x, y, w, h = np.moveaxis(cascade.rectangles.astype(np.int64), -1, 0)
    upright = [(x, y), (x + w, y), (x, y + h), (x + w, y + h)]
    rotated = [(x, y), (x - h, y + h), (x + w, y + w), (x + w - h, y + w + h)]
    corners = np.where(
        cascade.tilted[:, None, None, None],
        np.stack([np.stack(c, -1) for c in rotated], 2),
        np.stack([np.stack(c, -1) for c in upright], 2),
    )
    # A rectangle that is none reads the window's first pixel.
    corners[cascade.weights == 0] = 0
    width, height = cascade.window
    # The variance is that of the window without its border, as in OpenCV.
    inner = [(1, 1), (width - 1, 1), (1, height - 1), (width - 1, height - 1)]

    def offsets(places):
        column, row = places[..., 0], places[..., 1]
        if step == 2:
            column = column % 2 * (stride // 2) + column // 2
        return (row * stride + column).astype(np.uint64)

    return (
        offsets(corners)[cascade.features],
        cascade.weights[cascade.features],
        cascade.tilted[cascade.features],
        cascade.thresholds,
        offsets(np.array(inner)),
        (width - 2) * (height - 2),
    )


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
