"""Grows a decision forest on pixels of depth pictures, level by level.

Shotton et al., 2011, section 3.3: at each node many random features and thresholds are
tried, the one that gains most information splits the node's pixels, down to depth 20.
The course: bootstrap aggregating over pictures and random candidates at each node make
the trees differ, so that the mean of their errors is small (Breiman, 2001, "Random
Forests", Machine Learning 45).

A node's candidates are drawn from the forest's seed and the node's place in its tree,
and splits are chosen by integers: so one seed gives one forest, on any number of
threads (`compiled_growth.py`) or devices (`forest_tensorflow.py`).
"""

import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import features, information, training_pixels
from mlcvtf.segmentation.body_parts.forest import Forest, Tree, join


class Options(NamedTuple):
    """How a forest is grown; the defaults are the paper's where it gives a number.

    Attributes:
        trees: how many.
        depth: splits on the longest way, at most 30.
        features: candidates at each node.
        thresholds: candidates for each feature.
        pixels_per_image: of each picture that a tree draws.
        minimum_samples: a node with fewer pixels is a leaf.
        most_leaves: of a tree; where a level would exceed it, the splits that gain
            most are made. Three trees of the default are at most 14.7 MB for 31 parts.
        largest_offset: pixel metres, see `features`.
        bagging: each tree draws its pictures with replacement.
        evenly: a picture's pixels are spread evenly over its parts, as the paper's.
        seed: 0 to 2^48 - 1.
    """

    trees: int = 3
    depth: int = 20
    features: int = 2000
    thresholds: int = 50
    pixels_per_image: int = 2000
    minimum_samples: int = 40
    most_leaves: int = 100_000
    largest_offset: float = 129.0
    bagging: bool = True
    evenly: bool = True
    seed: int = 0


LIMITS = {
    "trees": (1, 255),
    "depth": (1, 30),
    "features": (1, 100_000),
    "thresholds": (1, 255),
    "pixels_per_image": (1, 1_000_000),
    "minimum_samples": (2, 2**31 - 1),
    "most_leaves": (1, 2**24),
    "largest_offset": (1 / features.OFFSET_STEPS, 255.0),
    "bagging": (False, True),
    "evenly": (False, True),
    "seed": (0, 2**48 - 1),
}


def train_forest(
    pictures: Iterable,
    classes: int,
    options: Options | None = None,
    folder: str | pathlib.Path | None = None,
    threads: int = 2,
    pool: np.ndarray | None = None,
    engine: Callable | None = None,
    report: Callable[[str], None] | None = None,
) -> Forest:
    """Grows a forest on pictures.

    Args:
        pictures: a stream of (depth, labels), as of `training_pixels.store_people`; it
            is read once, and not at all where the folder has its store.
        classes: number of parts, at most 254.
        options: how.
        folder: keeps the store and every finished level, from which a stopped training
            goes on; a temporary one by default.
        threads: of the compiled engine.
        pool: int16 `[k, 4]`: features that nodes choose from, instead of all.
        engine: makes what searches and splits, with the arguments of
            `compiled_growth.CompiledEngine`; that one by default.
        report: called with a line of text after each new level.

    Returns:
        The forest.

    Raises:
        InputError: options or pictures are not as they must be, or the folder has a
            training with other ones.
    """
    options = options or Options()
    check(options, classes)
    if engine is None:
        from mlcvtf.segmentation.body_parts.compiled_growth import CompiledEngine

        engine = CompiledEngine
    with tempfile.TemporaryDirectory(prefix="forest_") as scratch:
        folder = pathlib.Path(scratch if folder is None else folder)
        people = training_pixels.store_people(pictures, classes, folder)
        text = repr(
            (
                people.digest,
                classes,
                options,
                None if pool is None else np.asarray(pool).tolist(),
            )
        )
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        trees = []
        for number in range(options.trees):

            def make(number=number):
                pixels = training_pixels.draw_pixels(
                    people,
                    options.pixels_per_image,
                    options.seed,
                    number,
                    options.bagging,
                    options.evenly,
                )
                return engine(people, pixels, classes, options, threads, number, pool)

            trees.append(
                grow(make, options, folder / f"tree_{number}.npz", fingerprint, report)
            )
        return join(trees)


def check(options: Options, classes: int) -> None:
    """Refuses options that no forest can be grown with.

    Raises:
        InputError: one is out of its range.
    """
    if not 2 <= classes <= 254:
        raise InputError(f"a forest tells 2 to 254 classes apart, received {classes}")
    for name, (least, most) in LIMITS.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise InputError(f"{name} is {least} to {most}, received {value}")


class Growth:
    """A tree that grows, and its nodes that are not decided yet.

    Attributes:
        counts: int64 `[m, classes]`: pixels of the open nodes.
        paths: int64 `[m]`: their places, as of `candidates.candidates`.
        levels: decisions so far, from which the tree can be grown again: for each
            level (index into the open nodes, offsets, thresholds) of those split.
    """

    def __init__(self, root_counts: np.ndarray):
        self.counts = root_counts[None].astype(np.int64)
        self.paths = np.ones(1, np.int64)
        self.levels = []
        self._children = np.zeros((0, 2), np.int64)
        # Where each open node hangs: split and side; the root nowhere.
        self._parents = np.zeros((0, 2), np.int64)
        self._leaves = []

    @property
    def leaves(self) -> int:
        """Leaves that there are if no open node is split."""
        return sum(map(len, self._leaves)) + len(self.counts)

    def close(self, keep: np.ndarray) -> None:
        """Makes leaves of all open nodes except `keep`, an ascending index."""
        leaf = np.ones(len(self.counts), bool)
        leaf[keep] = False
        if len(self._parents):
            parents = self._parents[leaf]
            self._children[parents[:, 0], parents[:, 1]] = -1 - (
                sum(map(len, self._leaves)) + np.arange(len(parents))
            )
            self._parents = self._parents[keep]
        self._leaves.append(self.counts[leaf])
        self.counts, self.paths = self.counts[keep], self.paths[keep]

    def split(self, counts: np.ndarray) -> None:
        """Splits all open nodes, whose children are open then.

        Args:
            counts: int `[m, 2, classes]`: pixels of the children.
        """
        index = len(self._children) + np.arange(len(self.counts))
        if len(self._parents):
            self._children[self._parents[:, 0], self._parents[:, 1]] = index
        self._children = np.concatenate(
            [self._children, np.zeros((len(index), 2), np.int64)]
        )
        self._parents = np.stack([np.repeat(index, 2), np.tile([0, 1], len(index))], 1)
        self.paths = (2 * self.paths[:, None] + [0, 1]).ravel()
        self.counts = counts.reshape(-1, counts.shape[2]).astype(np.int64)

    def tree(self) -> Tree:
        """Returns the tree; no node is open."""
        offsets = [offsets for _, offsets, _ in self.levels]
        thresholds = [thresholds for _, _, thresholds in self.levels]
        return Tree(
            np.concatenate([np.zeros((0, 4), np.int16), *offsets]),
            np.concatenate([np.zeros(0, np.int16), *thresholds]),
            self._children.astype(np.int32),
            np.concatenate(self._leaves).astype(np.int32),
        )


def grow(make_engine, options, path, fingerprint, report=None) -> Tree:
    """Grows one tree, storing every level; goes on from what is stored.

    Args:
        make_engine: makes an engine, see `compiled_growth.CompiledEngine`.
        options: `Options`.
        path: of the tree's `.npz`.
        fingerprint: of everything that the tree depends on.
        report: called with a line of text after each new level.

    Returns:
        The tree.

    Raises:
        InputError: what is stored is of another training.
    """
    path = pathlib.Path(path)
    stored = _load(path, fingerprint)
    if isinstance(stored, Tree):
        return stored
    engine = make_engine()
    growth = Growth(engine.root_counts())
    tables = information.fixed_point_tables()
    for level in range(options.depth):
        if level < len(stored):
            index, offsets, thresholds = stored[level]
        else:
            index = np.flatnonzero(
                (growth.counts.sum(1) >= options.minimum_samples)
                & ((growth.counts > 0).sum(1) > 1)
            )
            scores, offsets, thresholds = engine.search(index, growth.paths[index])
            gain = scores - information.node_score(growth.counts[index], tables)
            gain = _largest(gain, options.most_leaves - growth.leaves)
            index, offsets, thresholds = index[gain], offsets[gain], thresholds[gain]
        growth.close(index)
        if not len(index):
            break
        growth.levels.append((index, offsets, thresholds))
        growth.split(engine.split(index, offsets, thresholds))
        if level >= len(stored):
            _store_levels(path, growth.levels, fingerprint)
            if report:
                report(f"{path.stem} level {level + 1}: {len(index)} splits")
    growth.close(np.zeros(0, np.int64))
    tree = growth.tree()
    _write(path, {"fingerprint": np.array(fingerprint), **tree._asdict()})
    return tree


def _largest(gains, most):
    """Returns a mask of the gains above 0 that are among the largest so many."""
    order = np.argsort(-gains, kind="stable")[: max(most, 0)]
    chosen = np.zeros(len(gains), bool)
    chosen[order] = True
    return chosen & (gains > 0)


def _store_levels(path, levels, fingerprint):
    index, offsets, thresholds = (
        np.concatenate(part) for part in zip(*levels, strict=True)
    )
    _write(
        path,
        {
            "fingerprint": np.array(fingerprint),
            "index": index,
            "offsets": offsets,
            "thresholds": thresholds,
            "sizes": np.array([len(level[0]) for level in levels]),
        },
    )


def _write(path, arrays):
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _load(path, fingerprint):
    """Returns the finished tree, or the levels that are there."""
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        same = str(arrays["fingerprint"]) == fingerprint
        if "counts" in arrays:
            found = Tree(*(arrays[name] for name in Tree._fields))
        else:
            ends = np.cumsum(arrays["sizes"])[:-1]
            found = list(
                zip(
                    *(
                        np.split(arrays[name], ends)
                        for name in ("index", "offsets", "thresholds")
                    ),
                    strict=True,
                )
            )
    except Exception as error:
        raise InputError(
            f"a stopped training is read from {path}, which is damaged: {error}"
        ) from None
    if not same:
        raise InputError(
            "a stopped training goes on with the same pictures and options, the one in "
            f"{path.parent} had others"
        )
    return found
