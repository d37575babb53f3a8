"""The random features and thresholds that are tried at a node.

They are hashes of the forest's seed and the node's place in its tree, so they are the
same whenever, wherever and in whatever order nodes are searched. The hash is
SplitMix64 (Steele, Lea, Flood, 2014, "Fast Splittable Pseudorandom Number Generators",
OOPSLA). NumPy only.
"""

import numpy as np

from mlcvtf.segmentation.body_parts.features import LARGEST_THRESHOLD, OFFSET_STEPS

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def candidates(
    options, tree: int, paths: np.ndarray, pool: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws what is tried at nodes.

    Args:
        options: `forest_training.Options`.
        tree: number of the tree.
        paths: int64 `[m]`, the nodes' places: 1 for the root, the left child of p is
            2 p, the right one 2 p + 1.
        pool: int16 `[k, 4]` to choose features from, or None for all.

    Returns:
        offsets: int16 `[m, features, 4]`; thresholds: int16 `[m, thresholds]`,
        ascending.
    """
    first = mix(np.array([(options.seed << 8) | tree], np.uint64))
    keys = mix(first + np.asarray(paths).astype(np.uint64) * GOLDEN)
    features, thresholds = options.features, options.thresholds
    numbers = stream(keys, 2 * features + thresholds)
    of_features = numbers[:, : 2 * features].reshape(-1, features, 2)
    if pool is None:
        offsets = sample_offsets(of_features, options.largest_offset)
    else:
        offsets = pool[_below(of_features[..., 0] >> np.uint64(32), len(pool))]
    return offsets, sample_thresholds(numbers[:, 2 * features :])


def sample_pool(seed: int, count: int, largest: float) -> np.ndarray:
    """Draws features for `candidates` to choose from.

    Args:
        seed: of the numbers.
        count: how many features.
        largest: pixel metres, at most 255.

    Returns:
        int16 `[count, 4]`.
    """
    keys = mix(np.array([seed], np.uint64))
    return sample_offsets(stream(keys, 2 * count).reshape(count, 2), largest)


def sample_offsets(numbers: np.ndarray, largest: float) -> np.ndarray:
    """Makes offsets of random numbers, every coordinate uniform within +-`largest`.

    Args:
        numbers: uint64 `[..., 2]`, uniform.
        largest: pixel metres, at most 255.

    Returns:
        int16 `[..., 4]` in 1/128 pixel metres.
    """
    steps = round(largest * OFFSET_STEPS)
    halves = np.stack([numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)], -1)
    offsets = _below(halves, 2 * steps + 1) - steps
    return offsets.reshape(*numbers.shape[:-1], 4).astype(np.int16)


def sample_thresholds(numbers: np.ndarray) -> np.ndarray:
    """Makes thresholds within one metre, denser near 0 (a cubed uniform number).

    Args:
        numbers: uint64 `[..., t]`, uniform.

    Returns:
        int16 `[..., t]`, ascending, in 1/512 metres.
    """
    share = (numbers >> np.uint64(11)) * 2.0**-52 - 1.0
    steps = np.rint(LARGEST_THRESHOLD * share * share * share)
    return np.sort(steps.astype(np.int16), axis=-1)


def stream(keys: np.ndarray, count: int) -> np.ndarray:
    """Returns the random numbers of keys, uint64 `[m, count]`.

    Args:
        keys: uint64 `[m]`.
        count: how many of each.
    """
    return mix(keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def mix(numbers: np.ndarray) -> np.ndarray:
    """Hashes 64-bit numbers one to one.

    >>> hex(int(mix(np.array([GOLDEN]))[0]))
    '0xe220a8397b1dcdaf'
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _below(numbers, count):
    """Scales uniform 32-bit numbers to 0..count - 1."""
    return (numbers * np.uint64(count) >> np.uint64(32)).astype(np.int64)
