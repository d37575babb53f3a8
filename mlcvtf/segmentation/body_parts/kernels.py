"""Numba kernels of the body-part forest; imported by the functions that call them.

All arithmetic on depth is single IEEE operations in float32 in the order of
`features.depth_features`, and all counts and scores are integers, so that what they
give does not depend on blocks, threads or instruction sets.
"""

import numba
import numpy as np

from mlcvtf.segmentation.body_parts.features import OFFSET_STEPS, THRESHOLD_STEPS
from mlcvtf.segmentation.body_parts.information import SMALL

# Pixels whose constants are kept at hand while features go over them: 256 x 64 bytes
# stay in the first-level cache.
BLOCK = 256
# Features whose histograms are filled in one pass over a node's pixels.
FEATURES = 32
SCALE = np.float32(1.0 / OFFSET_STEPS)
STEPS = np.float32(THRESHOLD_STEPS)


@numba.njit(nogil=True, cache=True, inline="always")
def _n_log_n(small, logarithms, n):
    """Fixed-point n log2 n, as `information.n_log_n`."""
    if n < SMALL:
        return small[n]
    shift = 0
    while (n >> shift) >= SMALL:
        shift += 1
    m = n >> shift
    rest = n & ((1 << shift) - 1)
    step = logarithms[m + 1] - logarithms[m]
    return n * (logarithms[m] + ((step * rest) >> shift) + (shift << 20))


@numba.njit(nogil=True, cache=True)
def _load(pixels, order, start, stop, depth, place, reals, ints, base):
    """Fetches what features need of the pixels order[start:stop].

    Filled are `reals`, float32 `[7, BLOCK]`: column, row, reciprocal of the depth, and
    the lowest and highest column and row; `ints`, int32 `[2, BLOCK]`: label and length
    of a line; `base`, int64 `[BLOCK]`: address of the picture's frame corner.
    """
    for i in range(stop - start):
        p = order[start + i]
        image, row, column = pixels[p, 0], pixels[p, 1], pixels[p, 2]
        first, top, left = place[image, 0], place[image, 1], place[image, 2]
        height, width = place[image, 3], place[image, 4]
        stride = width + 2
        # Coordinates stay those of the whole picture: its rounding is that of
        # inference.
        base[i] = first - top * stride - left
        reals[0, i] = np.float32(column) + np.float32(1.5)
        reals[1, i] = np.float32(row) + np.float32(1.5)
        here = depth[base[i] + (row + 1) * stride + column + 1]
        reals[2, i] = np.float32(1.0) / here
        reals[3, i] = left
        reals[4, i] = left + width + 1
        reals[5, i] = top
        reals[6, i] = top + height + 1
        ints[0, i] = pixels[p, 3]
        ints[1, i] = stride


@numba.njit(nogil=True, cache=True)
def _steps(offset, count, depth, reals, ints, base, first, second, steps):
    """Computes one feature of a block's pixels in whole steps of a threshold.

    Filled are `steps`, int32 `[BLOCK]`: the integer below 512 f, within -512..511;
    `first` and `second`, int64 `[BLOCK]`, are scratch.
    """
    ux, uy = np.float32(offset[0]) * SCALE, np.float32(offset[1]) * SCALE
    vx, vy = np.float32(offset[2]) * SCALE, np.float32(offset[3]) * SCALE
    for i in range(count):
        z = reals[2, i]
        x = min(max(reals[0, i] + ux * z, reals[3, i]), reals[4, i])
        y = min(max(reals[1, i] + uy * z, reals[5, i]), reals[6, i])
        first[i] = base[i] + np.int32(y) * ints[1, i] + np.int32(x)
        x = min(max(reals[0, i] + vx * z, reals[3, i]), reals[4, i])
        y = min(max(reals[1, i] + vy * z, reals[5, i]), reals[6, i])
        second[i] = base[i] + np.int32(y) * ints[1, i] + np.int32(x)
    for i in range(count):
        value = (depth[first[i]] - depth[second[i]]) * STEPS
        value = min(max(value, np.float32(-512.0)), np.float32(511.0))
        # Shifted to be positive, so that cutting off is rounding down.
        steps[i] = np.int32(np.floor(value))


@numba.njit(nogil=True, cache=True)
def search(
    pixels,
    order,
    ranges,
    depth,
    place,
    offsets,
    thresholds,
    low,
    high,
    classes,
    small,
    logarithms,
    best,
):
    """Finds the best of the candidates `low` to `high` of each node.

    Args:
        pixels: int32 `[n, 4]`: image, row, column, label.
        order: int32 `[n]`, the pixels by node.
        ranges: int64 `[m, 2]`, where each node's pixels are in `order`.
        depth: float32, flat, see `training_pixels.People`.
        place: int64 `[images, 6]`, likewise.
        offsets: int16 `[m, f, 4]`.
        thresholds: int16 `[m, t]`, ascending.
        low: the first feature.
        high: the one behind the last.
        classes: how many.
        small: of `information.fixed_point_tables`.
        logarithms: likewise.
        best: int64 `[m, 3]`, filled: score, feature, threshold. The lowest feature and
            then the lowest threshold of several best.
    """
    count = thresholds.shape[1]
    reals, ints = np.empty((7, BLOCK), np.float32), np.empty((2, BLOCK), np.int32)
    base = np.empty(BLOCK, np.int64)
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    steps = np.empty(BLOCK, np.int32)
    bins = np.empty(2 * THRESHOLD_STEPS, np.int32)
    histograms = np.empty((FEATURES, (count + 1) * classes), np.int32)
    column = np.empty(classes, np.int32)
    # Pixels of each class: of the node, left of a threshold, and right of it.
    counts = np.empty((3, classes), np.int64)
    for k in range(ranges.shape[0]):
        begin, end = ranges[k, 0], ranges[k, 1]
        present = _present(pixels, order, begin, end, column, counts[0])
        _fill_bins(thresholds[k], present, bins)
        best[k, 0], best[k, 1], best[k, 2] = np.iinfo(np.int64).min, low, 0
        for chunk in range(low, high, FEATURES):
            some = min(FEATURES, high - chunk)
            histograms[:some, : (count + 1) * present] = 0
            for start in range(begin, end, BLOCK):
                stop = min(start + BLOCK, end)
                if end - begin > BLOCK or chunk == low:
                    _load(pixels, order, start, stop, depth, place, reals, ints, base)
                    for i in range(stop - start):
                        ints[0, i] = column[ints[0, i]]
                for f in range(some):
                    _steps(
                        offsets[k, chunk + f],
                        stop - start,
                        depth,
                        reals,
                        ints,
                        base,
                        first,
                        second,
                        steps,
                    )
                    histogram = histograms[f]
                    for i in range(stop - start):
                        histogram[bins[steps[i] + THRESHOLD_STEPS] + ints[0, i]] += 1
            for f in range(some):
                _best_threshold(
                    histograms[f],
                    count,
                    present,
                    counts,
                    end - begin,
                    small,
                    logarithms,
                    chunk + f,
                    best[k],
                )


@numba.njit(nogil=True, cache=True)
def _present(pixels, order, begin, end, column, totals):
    """Numbers the classes that a node has and counts them; returns how many."""
    column[:] = 0
    for i in range(begin, end):
        column[pixels[order[i], 3]] += 1
    present = 0
    for c in range(column.size):
        if column[c] > 0:
            totals[present] = column[c]
            column[c] = present
            present += 1
    return present


@numba.njit(nogil=True, cache=True)
def _fill_bins(thresholds, present, bins):
    """Fills the place in a histogram of every step: thresholds at or below it."""
    below = 0
    for step in range(-THRESHOLD_STEPS, THRESHOLD_STEPS):
        while below < thresholds.size and thresholds[below] <= step:
            below += 1
        bins[step + THRESHOLD_STEPS] = below * present


@numba.njit(nogil=True, cache=True)
def _best_threshold(
    histogram, count, present, counts, n, small, logarithms, feature, best
):
    """Moves pixels from right to left, threshold by threshold, and keeps the best."""
    left, right = counts[1], counts[2]
    left[:present], right[:present] = 0, counts[0, :present]
    score, n_left = np.int64(0), np.int64(0)
    for c in range(present):
        score += _n_log_n(small, logarithms, right[c])
    for t in range(count):
        before = n_left
        for c in range(present):
            moved = histogram[t * present + c]
            if moved > 0:
                score -= _n_log_n(small, logarithms, left[c])
                score -= _n_log_n(small, logarithms, right[c])
                left[c] += moved
                right[c] -= moved
                n_left += moved
                score += _n_log_n(small, logarithms, left[c])
                score += _n_log_n(small, logarithms, right[c])
        if n_left == before:
            continue
        total = score - _n_log_n(small, logarithms, n_left)
        total -= _n_log_n(small, logarithms, n - n_left)
        if total > best[0]:
            best[0], best[1], best[2] = total, feature, t


@numba.njit(nogil=True, cache=True)
def partition(
    pixels, order, ranges, depth, place, offsets, thresholds, middles, counts
):
    """Sorts each node's pixels into those left and right of its threshold.

    Args:
        pixels: as of `search`.
        order: as of `search`; changed.
        ranges: as of `search`.
        depth: as of `search`.
        place: as of `search`.
        offsets: int16 `[m, 4]`, of the chosen features.
        thresholds: int16 `[m]`.
        middles: int64 `[m]`, filled: where the right child's pixels start.
        counts: int32 `[m, 2, classes]`, filled: pixels per class of each child.
    """
    reals, ints = np.empty((7, BLOCK), np.float32), np.empty((2, BLOCK), np.int32)
    base = np.empty(BLOCK, np.int64)
    first, second = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64)
    steps = np.empty(BLOCK, np.int32)
    for k in range(ranges.shape[0]):
        begin, end = ranges[k, 0], ranges[k, 1]
        right = np.empty(end - begin, np.int32)
        kept, passed = begin, 0
        counts[k] = 0
        for start in range(begin, end, BLOCK):
            stop = min(start + BLOCK, end)
            _load(pixels, order, start, stop, depth, place, reals, ints, base)
            _steps(
                offsets[k], stop - start, depth, reals, ints, base, first, second, steps
            )
            for i in range(stop - start):
                p = order[start + i]
                if steps[i] < thresholds[k]:
                    counts[k, 0, ints[0, i]] += 1
                    order[kept] = p
                    kept += 1
                else:
                    counts[k, 1, ints[0, i]] += 1
                    right[passed] = p
                    passed += 1
        order[kept:end] = right[:passed]
        middles[k] = kept
