"""Boosting: AdaBoost and Gentle AdaBoost over stumps and small trees.

Freund and Schapire, 1997, "A Decision-Theoretic Generalization of On-Line Learning and
an Application to Boosting"; Friedman, Hastie and Tibshirani, 2000, "Additive Logistic
Regression: a Statistical View of Boosting" (Gentle AdaBoost). Learners vote -1 or 1 and
a sample is positive where the weighted votes add up to at least 0; Viola and Jones let
them vote 0 or 1 and compare with half the sum of weights, which is the same.

A learner is the best of all splits of all features. Features are cut into up to 256
bins and weights are whole numbers, so that every sum is exact: the processor's search
(`HistogramSearch`) and TensorFlow's (`boosting_tensorflow.py`) find the same splits.
"""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

BINS = 256
# Cells into which a feature's range is cut before they are joined to bins.
CELLS = 2048
METHODS = ("adaboost", "gentle")
# What all weights add up to as whole numbers, but for rounding; sums fit 32 bits.
WHOLE = 2**30
# What rounding may add to an error of one half.
ROUNDING = 1e-9
# Features that are given to a thread at a time.
PIECE = 2048


class Split(NamedTuple):
    """Where samples are divided.

    Attributes:
        score: how good the split is; see `HistogramSearch.best`.
        feature: number of the feature.
        bin: samples of lower bins are below.
    """

    score: float
    feature: int
    bin: int


class Tree(NamedTuple):
    """A learner, as `Cascade` holds one.

    Attributes:
        features: int32 `[nodes]`.
        bins: int32 `[nodes]`, samples of lower bins follow the left child.
        children: int32 `[nodes, 2]`, a node where positive, else minus a leaf.
        leaves: float64 `[nodes + 1]`, the votes.
    """

    features: np.ndarray
    bins: np.ndarray
    children: np.ndarray
    leaves: np.ndarray

    def votes(self, below) -> np.ndarray:
        """Returns what the tree votes.

        Args:
            below: bool `[nodes, n]`, whether samples are below the nodes' splits.

        Returns:
            float64 `[n]`.
        """
        below = np.asarray(below)
        place = np.where(below[0], *self.children[0])
        for node in range(1, len(self.features)):
            step = np.where(below[node], *self.children[node])
            place = np.where(place == node, step, place)
        return self.leaves[-place]


class Round(NamedTuple):
    """What a round of boosting gives.

    Attributes:
        tree: the learner; its leaves are its votes.
        error: weight of the samples that it gets wrong.
        beta: (1 - error) / error, by which their weight grew (AdaBoost).
    """

    tree: Tree
    error: float
    beta: float


def empty_bins(features: int, samples: int) -> np.ndarray:
    """Returns zeros uint8 `[features, n]`, n as `HistogramSearch` needs it."""
    return np.zeros((features, -(-samples // 8) * 8), np.uint8)


def bin_values(values) -> np.ndarray:
    """Cuts features into bins that hold about equally many samples.

    Where a feature has up to 256 different values, each has its bin.

    Args:
        values: float `[features, samples]`.

    Returns:
        uint8 `[features, n]` for `HistogramSearch`, in the order of the values.
    """
    values = np.asarray(values)
    bins = empty_bins(*values.shape)
    for row, out in zip(values, bins, strict=True):
        different, place, counts = np.unique(
            row, return_inverse=True, return_counts=True
        )
        number = np.arange(len(different))
        if len(different) > BINS:
            number = (np.cumsum(counts) - counts) * BINS // len(row)
        out[: len(row)] = number[place]
    return bins


def threshold(values, bins, split: int) -> np.float32:
    """Turns the bin of a split into a threshold in the middle of the gap.

    Args:
        values: float32 `[n]` of a feature.
        bins: uint8 `[n]` of these.
        split: the lowest bin above.

    Returns:
        A number t: `values < t` says the same as `bins < split`.
    """
    values = np.asarray(values, np.float32)
    low = values[bins < split].max(initial=-np.inf)
    high = values[bins >= split].min(initial=np.inf)
    if high == np.inf:
        return np.nextafter(np.float32(low), np.float32(np.inf))
    if low == -np.inf:
        return np.float32(high)
    middle = np.float32((np.float64(low) + np.float64(high)) / 2)
    # Between neighbours among float32 there is no middle.
    return middle if middle > low else np.float32(high)


def pack(weights, signs) -> np.ndarray:
    """Makes whole numbers of weights, and one of both weight and class.

    Args:
        weights: float64 `[n]` that add up to 1.
        signs: `[n]` of -1 and 1.

    Returns:
        int64 `[n]`, 2^32 times the weight plus the weight times the sign.
    """
    whole = np.rint(np.asarray(weights) * WHOLE).astype(np.int64)
    return (whole << 32) + whole * np.asarray(signs, np.int64)


def unpack(packed: int) -> tuple[int, int]:
    """Returns the weight and the signed weight that a packed sum holds."""
    signed = (int(packed) + 2**31) % 2**32 - 2**31
    return (int(packed) - signed) >> 32, signed


class HistogramSearch:
    """Searches the best split on the processor.

    Args:
        bins: uint8 `[features, n]`, from `bin_values`, or filled into `empty_bins`.
        samples: number of samples, of which n is the next multiple of 8.
        threads: number of threads; None for one per processor.
    """

    def __init__(self, bins, samples: int, threads: int | None = None):
        if bins.dtype != np.uint8 or bins.shape[1] != -(-samples // 8) * 8:
            raise ValueError(
                f"bins are uint8 [features, {-(-samples // 8) * 8}] for {samples} "
                f"samples, received {bins.dtype} {list(bins.shape)}"
            )
        self.bins = bins[:, :samples]
        self.features, self.samples = len(bins), samples
        # The lowest byte is the first on every machine.
        self._words = bins.view("<u8")
        self._threads = threads or os.cpu_count() or 1

    def best(self, packed, rows=None, gentle: bool = False) -> Split:
        """Finds the best split.

        With s the weight times class of a side, summed, and w its weight, the score is
        |s_above - s_below| for AdaBoost, which is the weight that is told right minus
        that told wrong, and s_above^2 / w_above + s_below^2 / w_below for Gentle
        AdaBoost, which leaves the least squared error; it is less than 0 where no side
        may be without weight.

        Args:
            packed: int64 `[samples]`, from `pack`; 0 for a sample that does not count.
            rows: int `[m]` features to look at, rising; None for all.
            gentle: which score.

        Returns:
            The split of the highest score; of equal ones the lowest feature's, then
            that of the lowest bin.
        """
        from mlcvtf.detection.viola_jones import boosting_kernels

        rows = np.arange(self.features) if rows is None else np.asarray(rows, np.int64)
        padded = np.zeros(self._words.shape[1] * 8, np.int64)
        padded[: self.samples] = packed
        pieces = np.split(rows, range(PIECE, len(rows), PIECE))

        def run(piece):
            return boosting_kernels.best_split(self._words, padded, piece, gentle)

        if min(self._threads, len(pieces)) < 2:
            found = list(map(run, pieces))
        else:
            with ThreadPoolExecutor(self._threads) as pool:
                found = list(pool.map(run, pieces))
        # The first of equal ones, and pieces are in the order of features.
        return Split(*max(found, key=lambda split: split[0]))


class Booster:
    """Boosts round by round.

    A learner that gets nothing wrong would change no weight and be found for ever. Its
    error counts as that of half a sample of mean weight, so that its vote is finite,
    and its features are not looked at any more.

    Args:
        search: a `HistogramSearch`, or what has its `best`, `bins`, `features` and
            `samples`.
        positive: bool `[samples]`.
        method: one of `METHODS`.
        depth: comparisons in a row, 1 for stumps, up to 3.
        weights: float `[samples]` to begin with; None for equal ones.
        subsample: share of the features, drawn anew for each node.
        seed: of the draws.

    Raises:
        ValueError: an argument is out of its range, or all samples are of one class.
    """

    def __init__(
        self,
        search,
        positive,
        method: str = "adaboost",
        depth: int = 1,
        weights=None,
        subsample: float = 1.0,
        seed: int = 0,
    ):
        positive = np.asarray(positive, bool)
        if len(positive) != search.samples or positive.all() or not positive.any():
            raise ValueError(
                f"boosting needs {search.samples} labels of two classes, received "
                f"{len(positive)}, {positive.sum()} of them positive"
            )
        if method not in METHODS or not 1 <= depth <= 3 or not 0 < subsample <= 1:
            raise ValueError(
                f"method is one of {METHODS}, depth 1 to 3 and subsample above 0 and "
                f"up to 1, received {method!r}, {depth} and {subsample}"
            )
        self.search, self.gentle = search, method == "gentle"
        self.signs = np.where(positive, 1, -1)
        self.weights = np.ones(len(positive)) if weights is None else np.array(weights)
        self.weights = self.weights / self.weights.sum()
        self.rounds, self._spent = 0, set()
        self._depth, self._share, self._seed = depth, subsample, seed

    def round(self) -> Round | None:
        """Adds a learner; returns None where none is better than chance."""
        tree, votes = self._grow()
        if not len(tree.features):
            return None
        wrong = votes * self.signs <= 0
        error = float(self.weights[wrong].sum())
        least = max(error, 0.5 / len(votes))
        beta = (1 - least) / least
        if self.gentle:
            if not votes.any():
                return None
        elif error >= 0.5 - ROUNDING:
            return None
        else:
            tree = tree._replace(leaves=tree.leaves * math.log(beta))
        self.update(tree, votes)
        return Round(tree, error, beta)

    def update(self, tree: Tree, votes) -> None:
        """Gives samples the weight that they have after a learner's round.

        Args:
            tree: the learner.
            votes: float64 `[samples]`, its votes, or their signs.
        """
        wrong = votes * self.signs <= 0
        if not wrong.any():
            self._spent.update(tree.features.tolist())
        if self.gentle:
            factor = np.exp(-self.signs * votes)
        else:
            # The leaves are plus and minus ln(beta).
            factor = np.where(wrong, math.exp(np.abs(tree.leaves).max()), 1.0)
        self.weights = self.weights * factor
        self.weights /= self.weights.sum()
        self.rounds += 1

    def below(self, tree: Tree) -> np.ndarray:
        """Returns bool `[nodes, samples]`, which samples are below its splits."""
        return np.stack(
            [
                self.search.bins[feature] < split
                for feature, split in zip(tree.features, tree.bins, strict=True)
            ]
        )

    def _grow(self):
        """Grows a tree level by level; returns it and float64 `[samples]` votes."""
        packed = pack(self.weights, self.signs)
        random = np.random.default_rng([self._seed, self.rounds])
        nodes, leaves, votes = [], [], np.zeros(len(packed))
        # Where a branch hangs: its parent, its side, samples, vote and depth.
        branches = [(None, 0, np.ones(len(packed), bool), 0.0, 0)]
        while branches:
            parent, side, members, vote, depth = branches.pop(0)
            split = None
            if depth < self._depth:
                split = self._split(np.where(members, packed, 0), random, parent)
            if split is None:
                place = -len(leaves)
                leaves.append(vote)
                votes[members] = vote
            else:
                place = len(nodes)
                nodes.append([split.feature, split.bin, 0, 0])
                below = self.search.bins[split.feature] < split.bin
                parts = members & below, members & ~below
                both = self._votes(*(unpack(packed[part].sum()) for part in parts))
                for k, (part, new) in enumerate(zip(parts, both, strict=True)):
                    branches.append((place, k, part, new, depth + 1))
            if parent is not None:
                nodes[parent][2 + side] = place
        nodes = np.array(nodes, np.int32).reshape(-1, 4)
        tree = Tree(nodes[:, 0], nodes[:, 1], nodes[:, 2:], np.array(leaves))
        return tree, votes

    def _split(self, packed, random, parent):
        """Finds a split, or none for a branch that would not gain by it."""
        rows = None
        if self._share < 1:
            count = math.ceil(self._share * self.search.features)
            rows = random.choice(self.search.features, count, replace=False)
            rows.sort()
        if self._spent:
            rows = np.arange(self.search.features) if rows is None else rows
            rows = rows[~np.isin(rows, list(self._spent))]
        if rows is not None and not len(rows):
            return None
        split = self.search.best(packed, rows, self.gentle)
        weight, signed = unpack(packed.sum())
        undivided = signed * signed / max(weight, 1) if self.gentle else abs(signed)
        if parent is not None and split.score <= undivided:
            return None
        return split

    def _votes(self, below, above):
        """Returns the votes of both sides from their weights and signed weights."""
        if self.gentle:
            return [signed / max(weight, 1) for weight, signed in (below, above)]
        return [1.0, -1.0] if below[1] > above[1] else [-1.0, 1.0]
