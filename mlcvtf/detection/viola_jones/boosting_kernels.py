"""The loops of boosting, compiled by numba: feature values, bins, the best split.

A split is searched in weighted histograms. A sample's weight and its weight times its
class are whole numbers that share one integer of 64 bits, so that one addition counts
both, and the sums are exact in whatever order they are taken.
"""

import numpy as np
from numba import njit

from mlcvtf.detection.viola_jones.boosting import BINS, CELLS

# Histograms that take turns: an addition does not wait for the one before it where
# both fall into the same bin.
TURNS = 4

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def _add_rectangle(a, b, c, d, weight, out):
    for i in range(len(out)):
        out[i] += weight * np.float32(a[i] - b[i] - c[i] + d[i])


@compiled
def _fill_value(image, corners, weights, norms, out):
    """Computes one feature with the additions and roundings of the detector."""
    out[:] = np.float32(0.0)
    for k in range(3):
        if weights[k] != 0:
            _add_rectangle(
                image[corners[k, 0]],
                image[corners[k, 1]],
                image[corners[k, 2]],
                image[corners[k, 3]],
                weights[k],
                out,
            )
    for i in range(len(out)):
        out[i] *= norms[i]


@compiled
def fill_values(images, corners, weights, tilted, norms, out):
    """Computes features; see `features.values`.

    Args:
        images: int32 `[rows, windows]`, upright and tilted integral images.
        corners: int32 `[features, 3, 4]`.
        weights: float32 `[features, 3]`.
        tilted: bool `[features]`.
        norms: float32 `[windows]`.
        out: float32 `[features, windows]`, which is filled in.
    """
    for f in range(len(out)):
        image = images[1] if tilted[f] else images[0]
        _fill_value(image, corners[f], weights[f], norms, out[f])


@compiled
def _bin(values, cells, counts, bins):
    """Cuts a feature's values into bins that hold about equally many.

    The order of values is kept: a bin's are all below those of the next.
    """
    low = high = values[0]
    for i in range(len(values)):
        low = min(low, values[i])
        high = max(high, values[i])
    # Below the number of cells whatever is rounded, so that no value is out of range.
    scale = np.float32(CELLS - 1) / max(high - low, np.float32(1e-30))
    counts[:] = 0
    for i in range(len(values)):
        cells[i] = np.int32((values[i] - low) * scale)
    for i in range(len(values)):
        counts[cells[i]] += 1
    below = 0
    for cell in range(CELLS):
        here = counts[cell]
        counts[cell] = below * BINS // len(values)
        below += here
    for i in range(len(values)):
        bins[i] = counts[cells[i]]


@compiled
def fill_bins(images, corners, weights, tilted, norms, bins):
    """Computes features and cuts their values into bins.

    Args:
        images: see `fill_values`.
        corners: see `fill_values`.
        weights: see `fill_values`.
        tilted: see `fill_values`.
        norms: see `fill_values`.
        bins: uint8 `[features, n]`, n at least the number of windows; the columns of
            the windows are filled in.
    """
    count = len(norms)
    values = np.empty(count, np.float32)
    cells = np.empty(count, np.int32)
    counts = np.empty(CELLS, np.int64)
    for f in range(len(bins)):
        image = images[1] if tilted[f] else images[0]
        _fill_value(image, corners[f], weights[f], norms, values)
        _bin(values, cells, counts, bins[f, :count])


@compiled
def _count(row, packed, histogram):
    """Adds up weights by bin, eight samples at a time, in `TURNS` histograms."""
    low = np.uint64(255)
    eight = np.uint64(8)
    one, two, three = np.uint64(BINS), np.uint64(2 * BINS), np.uint64(3 * BINS)
    for j in range(np.uint64(len(row))):
        v, i = row[j], j * eight
        histogram[v & low] += packed[i]
        v >>= eight
        histogram[one + (v & low)] += packed[i + np.uint64(1)]
        v >>= eight
        histogram[two + (v & low)] += packed[i + np.uint64(2)]
        v >>= eight
        histogram[three + (v & low)] += packed[i + np.uint64(3)]
        v >>= eight
        histogram[v & low] += packed[i + np.uint64(4)]
        v >>= eight
        histogram[one + (v & low)] += packed[i + np.uint64(5)]
        v >>= eight
        histogram[two + (v & low)] += packed[i + np.uint64(6)]
        v >>= eight
        histogram[three + v] += packed[i + np.uint64(7)]


@compiled
def _score(above, total, gentle):
    """Returns how good a split is; see `boosting.HistogramSearch.best`."""
    # The lower half of a packed sum is signed.
    signed = np.int64(np.int32(above))
    weight = (above - signed) >> 32
    signed_rest = np.int64(np.int32(total)) - signed
    weight_rest = ((total - np.int64(np.int32(total))) >> 32) - weight
    if not gentle:
        return np.float64(abs(signed - signed_rest))
    if weight == 0 or weight_rest == 0:
        return -1.0
    a, b = np.float64(signed), np.float64(signed_rest)
    return a * a / np.float64(weight) + b * b / np.float64(weight_rest)


@compiled
def best_split(bins, packed, rows, gentle):
    """Finds the split of the highest score among some features.

    Args:
        bins: uint64 `[features, samples / 8]`, eight bins of 8 bits each, the first
            in the lowest bits.
        packed: int64 `[samples]`, weight times 2^32 plus weight times class; both
            add up to less than 2^31 in absolute value.
        rows: int64 `[n]`, the features to look at, rising.
        gentle: whether the criterion is that of Gentle AdaBoost.

    Returns:
        Score, feature and bin; samples of this bin and higher ones are above. Of
        equally good splits it is that of the lowest feature, then bin.
    """
    histogram = np.empty(TURNS * BINS, np.int64)
    best, best_row, best_bin = -2.0, np.int64(-1), np.int64(0)
    total = packed.sum()
    for row in rows:
        histogram[:] = 0
        _count(bins[row], packed, histogram)
        above = total
        for b in range(1, BINS):
            for turn in range(TURNS):
                above -= histogram[turn * BINS + b - 1]
            score = _score(above, total, gentle)
            if score > best:
                best, best_row, best_bin = score, row, np.int64(b)
    return best, best_row, best_bin
