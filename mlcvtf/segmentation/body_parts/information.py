"""Information gain in integers, so that every computation picks the same split.

The entropy of a node with n_c pixels of class c, n in all, times n, is

    n log2 n - sum_c n_c log2 n_c,

so a split gains most where the sum over both children and all classes of
n_c log2 n_c, less the children's n log2 n, is largest. Here n log2 n is a 64-bit
integer, the logarithm having 20 binary places: sums of such numbers do not depend on
their order, which float sums over devices do. NumPy only.
"""

import numpy as np

PLACES = 20
# Numbers below this are looked up; the logarithms of larger ones are interpolated.
SMALL = 1 << 16


def fixed_point_tables() -> tuple[np.ndarray, np.ndarray]:
    """Returns n log2 n of small numbers and the logarithms of them, in fixed point.

    Returns:
        int64 `[SMALL]` and int64 `[SMALL + 1]`; both 0 for n = 0.
    """
    numbers = np.arange(SMALL + 1, dtype=np.float64)
    logarithms = np.rint(np.log2(np.maximum(numbers, 1)) * (1 << PLACES))
    logarithms = logarithms.astype(np.int64)
    return np.arange(SMALL, dtype=np.int64) * logarithms[:SMALL], logarithms


def n_log_n(numbers, tables) -> np.ndarray:
    """Computes n log2 n in fixed point.

    Args:
        numbers: int64 of any shape, 0 to 2^31.
        tables: of `fixed_point_tables`.

    Returns:
        int64 of that shape, in 2^-20.

    >>> int(n_log_n(np.array(8), fixed_point_tables())) / 2**20
    24.0
    """
    small, logarithms = tables
    numbers = np.asarray(numbers, np.int64)
    shift = np.zeros_like(numbers)
    for _ in range(16):
        shift += (numbers >> shift) >= SMALL
    m = numbers >> shift
    rest = numbers & ((np.int64(1) << shift) - 1)
    step = logarithms[np.minimum(m + 1, SMALL)] - logarithms[m]
    large = numbers * (logarithms[m] + ((step * rest) >> shift) + (shift << PLACES))
    return np.where(numbers < SMALL, small[np.minimum(numbers, SMALL - 1)], large)


def node_score(counts, tables) -> np.ndarray:
    """Returns minus n times the entropy of nodes, which a split makes larger.

    Args:
        counts: int `[..., classes]`.
        tables: of `fixed_point_tables`.

    Returns:
        int64 `[...]` in 2^-20 bits.
    """
    inner = n_log_n(counts, tables).sum(-1)
    return inner - n_log_n(np.sum(counts, -1, dtype=np.int64), tables)


def best_split(histograms, tables) -> np.ndarray:
    """Picks the split of each node that gains most information.

    Args:
        histograms: int `[nodes, features, thresholds + 1, classes]`: how many pixels
            have how many thresholds at or below their value.
        tables: of `fixed_point_tables`.

    Returns:
        int64 `[nodes, 3]`: score, feature, threshold; of several best ones the lowest
        feature and then the lowest threshold.
    """
    left = np.cumsum(histograms, axis=2, dtype=np.int64)
    right = left[:, :, -1:] - left
    scores = node_score(left, tables) + node_score(right, tables)
    # Behind the last threshold nothing is right of it.
    scores = scores[:, :, :-1]
    flat = scores.reshape(len(scores), -1)
    chosen = flat.argmax(1)
    feature, threshold = np.divmod(chosen, scores.shape[2])
    return np.stack([flat[np.arange(len(flat)), chosen], feature, threshold], 1)
