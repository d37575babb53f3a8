"""One stage of a cascade in training, and what stages are put together with."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mlcvtf.detection.viola_jones import boosting, features, scan, without_numba
from mlcvtf.detection.viola_jones.cascade import Cascade

ROC_POINTS = 100
# Features that are computed at a time.
PIECE = 1024


class Stage:
    """A stage that is being trained.

    Args:
        training: the whole.
        number: of the stage.
        samples: faces and negatives to learn from.
        measured: faces and negatives to choose the threshold on.
    """

    def __init__(self, training, number, samples, measured):
        settings = self._settings = training.settings
        every = features.haar_features(settings.window, settings.kind)
        windows = [
            features.integrate(np.concatenate(part), every.tilted.any())
            for part in (samples, measured)
        ]
        self._number = number
        self._features = self._choose(every, len(windows[0].norms))
        if len(self._features.weights) < len(every.weights):
            training.say(
                f"stage {number + 1}: {len(self._features.weights)} features, drawn "
                f"from {len(every.weights)}, fit the memory"
            )
        self._windows, self._measured = windows
        bins = bin_windows(self._features, windows[0], training.threads)
        positive = np.arange(len(windows[0].norms)) < len(samples[0])
        # Both classes weigh the same in the beginning, as in the paper.
        weights = np.where(
            positive, 0.5 / len(samples[0]), 0.5 / max(len(samples[1]), 1)
        )
        self._booster = boosting.Booster(
            training.search(bins, len(positive)),
            positive,
            settings.method,
            settings.depth,
            weights,
            settings.subsample,
            settings.seed + number,
        )
        self._faces = len(measured[0])
        self._counts = {"faces": len(samples[0]), "negatives": len(samples[1])}
        self._sums = np.zeros(len(self._measured.norms))
        self.trees, self._thresholds = [], []
        for tree in training.state.trees:
            self._booster.update(tree, tree.votes(self._booster.below(tree)))
            self._count(tree)

    def _choose(self, every, samples):
        """Draws features where the memory does not hold all."""
        most = max(1, self._settings.most_bytes // samples)
        if most >= len(every.weights):
            return every
        random = np.random.default_rng([self._settings.seed, self._number])
        drawn = random.choice(len(every.weights), most, replace=False)
        return every.select(np.sort(drawn))

    def add(self) -> bool:
        """Adds a tree; returns whether there was one that helps."""
        found = self._booster.round()
        if found is not None:
            self._count(found.tree)
        return found is not None

    def _count(self, tree):
        """Counts the votes of a tree, with the numbers that the cascade will hold."""
        chosen = self._features.select(tree.features)
        learned = features.values(chosen, self._windows)
        thresholds = np.array(
            [
                boosting.threshold(row, self._booster.search.bins[feature], split)
                for row, feature, split in zip(
                    learned, tree.features, tree.bins, strict=True
                )
            ],
            np.float32,
        )
        self.trees.append(tree)
        self._thresholds.append(thresholds)
        below = features.values(chosen, self._measured) < thresholds[:, None]
        leaves = tree.leaves.astype(np.float32).astype(np.float64)
        self._sums += tree._replace(leaves=leaves).votes(below)

    def threshold(self) -> np.float32:
        """Returns the highest threshold that lets enough validation faces pass."""
        sums = np.sort(self._sums[: self._faces])
        lost = int((1 - self._settings.detection) * len(sums) + 1e-9)
        found = np.float32(sums[lost])
        return found if found <= sums[lost] else np.nextafter(found, -np.float32("inf"))

    def rates(self) -> tuple[float, float]:
        """Returns the shares of measured faces and negatives that pass."""
        passed = reaches(self._sums, self.threshold())
        faces, negatives = np.split(passed, [self._faces])
        return faces.mean(), negatives.mean()

    def line(self) -> str:
        """Says how far the stage is."""
        return (
            f"stage {self._number + 1}: {len(self.trees)} trees so far, false alarm "
            f"{self.rates()[1]:.4f}"
        )

    def done(self) -> bool:
        """Says whether the stage is good enough, or as large as it may be."""
        enough = len(self.trees) >= self._settings.most_trees
        return bool(self.trees) and (
            enough or self.rates()[1] <= self._settings.false_alarm
        )

    def entry(self) -> dict:
        """Describes the stage for the history."""
        faces, negatives = np.split(self._sums, [self._faces])
        marks = np.quantile(self._sums, np.linspace(0, 1, ROC_POINTS))
        detection, false_alarm = self.rates()
        return self._counts | {
            "trees": len(self.trees),
            "detection": float(detection),
            "false_alarm": float(false_alarm),
            "roc": [
                [float((part >= mark).mean()) for part in (negatives, faces)]
                for mark in np.unique(marks)[::-1]
            ],
        }

    def cascade(self) -> Cascade:
        """Returns the stage as a cascade of its own."""
        used = np.concatenate([tree.features for tree in self.trees])
        different, place = np.unique(used, return_inverse=True)
        return Cascade(
            tuple(self._settings.window),
            *self._features.select(different),
            stage_trees=np.array([len(self.trees)], np.int32),
            stage_thresholds=np.array([self.threshold()], np.float32),
            tree_nodes=np.array([len(t.features) for t in self.trees], np.int32),
            features=place.astype(np.int32),
            thresholds=np.concatenate(self._thresholds),
            children=np.concatenate([tree.children for tree in self.trees]),
            leaves=np.concatenate([t.leaves for t in self.trees]).astype(np.float32),
        )


def bin_windows(chosen, windows, threads: int = 1) -> np.ndarray:
    """Computes features of windows and cuts their values into bins.

    Args:
        chosen: `features.Features`, n of them.
        windows: `features.Windows`.
        threads: number of threads.

    Returns:
        uint8 `[n, m]` for `boosting.HistogramSearch`.
    """
    loops = without_numba.loops()
    bins = boosting.empty_bins(len(chosen.weights), len(windows.norms))

    def fill(start):
        part = chosen.select(slice(start, start + PIECE))
        loops.fill_bins(
            (windows.sums, windows.tilted),
            features.corners(part, windows),
            part.weights,
            part.tilted,
            windows.norms,
            bins[start : start + PIECE],
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(0, len(bins), PIECE)))
    return bins


def reaches(sums, threshold) -> np.ndarray:
    """Says which sums of votes reach a stage's threshold, as the detector does."""
    return sums >= np.float64(np.float32(threshold) - scan.STAGE_SLACK)


def passing(cascade: Cascade | None, windows) -> np.ndarray:
    """Returns the windows that a cascade lets pass.

    Args:
        cascade: None lets everything pass.
        windows: uint8 `[n, height, width]`, none of them flat.
    """
    if cascade is None:
        return windows
    integrated = features.integrate(windows, cascade.tilted.any())
    every = features.Features(cascade.rectangles, cascade.weights, cascade.tilted)
    passed = np.ones(len(windows), bool)
    tree = node = 0
    for count, threshold in zip(
        cascade.stage_trees, cascade.stage_thresholds, strict=True
    ):
        sums = np.zeros(len(windows))
        for _ in range(count):
            nodes = slice(node, node + cascade.tree_nodes[tree])
            found = features.values(every.select(cascade.features[nodes]), integrated)
            leaves = cascade.leaves[nodes.start + tree : nodes.stop + tree + 1]
            learner = boosting.Tree(
                cascade.features[nodes],
                np.zeros(0),
                cascade.children[nodes],
                leaves.astype(np.float64),
            )
            sums += learner.votes(found < cascade.thresholds[nodes, None])
            tree, node = tree + 1, nodes.stop
        passed &= reaches(sums, threshold)
    return windows[passed]


def join(first: Cascade, second: Cascade) -> Cascade:
    """Puts the stages of a cascade behind those of another of the same window."""
    parts = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in Cascade.arrays()
    }
    parts["features"][len(first.features) :] += len(first.rectangles)
    return Cascade(first.window, **parts)
