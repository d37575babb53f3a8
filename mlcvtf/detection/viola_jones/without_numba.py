"""What serves where numba cannot be imported: NumPy, slowly and with equal results.

The scan of a cascade and the search for splits go through TensorFlow then (`model.py`,
`boosting_tensorflow.py`).
"""

import functools
import logging
import sys

import numpy as np

from mlcvtf.detection.viola_jones.boosting import BINS, CELLS, HistogramSearch


@functools.cache
def has_numba() -> bool:
    """Says whether numba can be imported; where it cannot, logs one line, once."""
    try:
        import numba  # noqa: F401
    except ImportError:
        logging.getLogger("mlcvtf").warning(
            "numba cannot be imported: cascades run through TensorFlow and NumPy, with "
            "equal results, many times slower"
        )
        return False
    return True


def loops():
    """Returns the module that has `fill_values` and `fill_bins`."""
    if has_numba():
        from mlcvtf.detection.viola_jones import boosting_kernels

        return boosting_kernels
    return sys.modules[__name__]


def search(bins, samples: int, threads: int | None = None):
    """Makes the search for splits that this machine has; see `boosting.Booster`."""
    if has_numba():
        return HistogramSearch(bins, samples, threads)
    from mlcvtf.detection.viola_jones.boosting_tensorflow import TensorSearch

    return TensorSearch(bins, samples)


def fill_values(images, corners, weights, tilted, norms, out):
    """Computes features; as `boosting_kernels.fill_values`."""
    for feature, values in enumerate(out):
        image = images[int(tilted[feature])]
        values[:] = 0
        for places, weight in zip(corners[feature], weights[feature], strict=True):
            if weight != 0:
                a, b, c, d = image[places]
                values += weight * (a - b - c + d).astype(np.float32)
        values *= norms


def fill_bins(images, corners, weights, tilted, norms, bins):
    """Computes features and cuts them; as `boosting_kernels.fill_bins`."""
    count = len(norms)
    values = np.empty((1, count), np.float32)
    for feature, row in enumerate(bins):
        one = slice(feature, feature + 1)
        fill_values(images, corners[one], weights[one], tilted[one], norms, values)
        low, high = values.min(), values.max()
        scale = np.float32(CELLS - 1) / max(high - low, np.float32(1e-30))
        cells = ((values[0] - low) * scale).astype(np.int32)
        counts = np.bincount(cells, minlength=CELLS)
        below = np.cumsum(counts) - counts
        row[:count] = (below * BINS // count)[cells]


def connect(boxes, slack: float) -> np.ndarray:
    """Connects boxes that are alike; as `grouping_kernels.connect`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    low, sides = boxes[:, :2].astype(np.int64), boxes[:, 2:]
    high = low + sides
    pairs = []
    for number in range(len(boxes)):
        # No box further to the right than its own sides can be near.
        last = np.searchsorted(
            low[:, 0], low[number, 0] + slack * sides[number].sum(), "right"
        )
        others = slice(number, last)
        delta = slack * np.minimum(sides[others], sides[number]).sum(1)[:, None]
        near = (np.abs(low[others] - low[number]) <= delta).all(1)
        near &= (np.abs(high[others] - high[number]) <= delta).all(1)
        found = np.flatnonzero(near) + number
        pairs.append(np.stack([np.full(len(found), number), found]))
    first, second = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), [len(boxes)] * 2)
    _, labels = connected_components(graph, directed=False)
    _, one = np.unique(labels, return_index=True)
    return one[labels]
