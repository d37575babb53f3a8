"""A decision forest as arrays: what it says of pixels, and its file.

Every pixel goes down all trees, left where its feature is below the node's threshold;
the distributions over parts of the leaves it reaches are averaged (Shotton et al.,
2011, equation 2). A forest of three trees of depth 20 fits 16 MB: splits are 18 bytes,
distributions one byte per part, and equal ones are stored once.
"""

import os
import pathlib
import zipfile
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.features import (
    THRESHOLD_STEPS,
    check_depth,
    pad_depth,
    probe_differences,
)

# A leaf's distribution adds up to about this.
FULL = 255
DTYPES = {
    "offsets": np.int16,
    "thresholds": np.int16,
    "children": np.int32,
    "roots": np.int32,
    "leaves": np.uint8,
}


class Tree(NamedTuple):
    """One grown tree.

    Attributes:
        offsets: int16 `[n, 4]` of each split, as of `features.depth_features`.
        thresholds: int16 `[n]` in 1/512 metres.
        children: int32 `[n, 2]`: left and right; a split's index, larger than the
            parent's, or -1 - the index of a leaf.
        counts: int32 `[leaves, classes]`: training pixels. A tree without splits has
            one leaf.
    """

    offsets: np.ndarray
    thresholds: np.ndarray
    children: np.ndarray
    counts: np.ndarray


class Forest(NamedTuple):
    """Trees in one set of arrays.

    Attributes:
        offsets: int16 `[n, 4]`, as of `Tree`.
        thresholds: int16 `[n]`.
        children: int32 `[n, 2]`: a split's index or -1 - a row of `leaves`.
        roots: int32 `[trees]`, as children.
        leaves: uint8 `[rows, classes]`: probabilities times 255, rounded.
    """

    offsets: np.ndarray
    thresholds: np.ndarray
    children: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray

    @property
    def classes(self) -> int:
        """Number of parts."""
        return self.leaves.shape[1]

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self)

    @property
    def depth(self) -> int:
        """Splits on the longest way from a root to a leaf."""
        return sum(1 for _ in self.levels()) - 1

    def levels(self):
        """Yields what is at each depth: int32 `[m]`, as children, roots first."""
        level = self.roots
        while len(level):
            yield level
            level = self.children[level[level >= 0]].reshape(-1)


def join(trees: list[Tree]) -> Forest:
    """Makes a forest of trees, with distributions in bytes, equal ones only once.

    Args:
        trees: grown on the same classes.

    Returns:
        The forest.
    """
    counts = np.concatenate([tree.counts for tree in trees]).astype(np.float64)
    bytes_ = np.rint(FULL * counts / counts.sum(1, keepdims=True)).astype(np.uint8)
    leaves, row = np.unique(bytes_, axis=0, return_inverse=True)
    row = row.reshape(-1)
    children, roots, splits, before = [], [], 0, 0
    for tree in trees:
        shifted = _shift(tree.children, row, splits, before)
        children.append(shifted)
        root = np.array(0 if len(tree.children) else -1)
        roots.append(_shift(root, row, splits, before))
        splits, before = splits + len(tree.children), before + len(tree.counts)
    return Forest(
        np.concatenate([tree.offsets for tree in trees]),
        np.concatenate([tree.thresholds for tree in trees]),
        np.concatenate(children).astype(np.int32),
        np.array(roots, np.int32),
        leaves,
    )


def pruned(tree: Tree, depth: int) -> Tree:
    """Cuts a tree: what is left is the tree that stops growing at that depth.

    Args:
        tree: grown, level by level.
        depth: splits on the longest way that are left, 0 for a single leaf.

    Returns:
        The tree; nodes at that depth are leaves with the pixels of all below them.
    """
    splits, rows = tree.children, tree.counts
    below = np.zeros((len(splits), rows.shape[1]), rows.dtype)
    # A child comes after its parent.
    for split in range(len(splits) - 1, -1, -1):
        for child in splits[split]:
            below[split] += below[child] if child >= 0 else rows[-1 - child]
    level = np.array([0 if len(splits) else -1])
    kept, cut, ends = np.zeros(len(splits), bool), [], []
    for step in range(depth + 1):
        ends.append(level[level < 0])
        level = level[level >= 0]
        if step == depth:
            cut = level
            break
        kept[level] = True
        level = splits[level].reshape(-1)
    number = np.cumsum(kept) - 1
    leaves = np.concatenate([-1 - np.concatenate(ends), len(rows) + np.asarray(cut)])
    leaves = leaves.astype(np.int64)
    row = np.zeros(len(rows) + len(splits), np.int64)
    row[leaves] = np.arange(len(leaves))
    old = splits[kept]
    inner = (old >= 0) & kept[np.maximum(old, 0)]
    leaf = np.where(old < 0, -1 - old, len(rows) + np.maximum(old, 0))
    children = np.where(inner, number[np.maximum(old, 0)], -1 - row[leaf])
    counts = np.concatenate([rows, below])[leaves]
    return Tree(
        tree.offsets[kept], tree.thresholds[kept], children.astype(np.int32), counts
    )


def save(forest: Forest, path: str | pathlib.Path) -> None:
    """Writes a forest as `.npz`, whole or not at all."""
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **forest._asdict())
    os.replace(partial, path)


def load(path: str | pathlib.Path) -> Forest:
    """Reads a forest and checks every index in it.

    Args:
        path: of the `.npz`.

    Returns:
        The forest.

    Raises:
        InputError: no such file, no forest, or indices that lead nowhere.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            forest = Forest(*(stored[name] for name in Forest._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"a forest is a .npz with {', '.join(Forest._fields)}; cannot read {path}: "
            f"{error}"
        ) from None
    problem = _problem(forest)
    if problem:
        raise InputError(f"{path} is no forest: {problem}")
    return forest


def leaves_of_pixels(forest: Forest, depth, rows, columns) -> np.ndarray:
    """Finds the leaf that pixels reach in each tree, in NumPy: slow, and the oracle.

    Args:
        forest: of t trees.
        depth: float32 `[height, width]` in metres, 0 where missing.
        rows: int `[n]` of pixels whose depth is known.
        columns: int `[n]`, likewise.

    Returns:
        int64 `[t, n]`: rows of the forest's leaves.
    """
    padded = pad_depth(depth)
    rows, columns = np.asarray(rows), np.asarray(columns)
    reached = np.repeat(forest.roots[:, None].astype(np.int64), len(rows), 1)
    for nodes in reached:
        while len(open_ := np.flatnonzero(nodes >= 0)):
            at = nodes[open_]
            values = probe_differences(
                padded, rows[open_], columns[open_], forest.offsets[at]
            )
            right = values * np.float32(THRESHOLD_STEPS) >= forest.thresholds[at]
            nodes[open_] = forest.children[at, right.astype(np.int64)]
    return -1 - reached


def classify(forest: Forest, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives every pixel with known depth its most probable part, in NumPy.

    `compiled_forest.CompiledForest` gives the same, much faster.

    Args:
        forest: of t trees.
        depth: float `[height, width]` in metres, 0 where missing or background.

    Returns:
        parts: uint8 `[height, width]`, 0 where depth is 0, parts from 1, the lowest
        of equally probable ones; sums: uint16 `[n, classes]` of the n pixels with
        known depth in reading order: 255 t times their mean probabilities.

    Raises:
        InputError: depth is not as above.
    """
    depth = check_depth(depth)
    rows, columns = np.nonzero(depth > 0)
    reached = leaves_of_pixels(forest, depth, rows, columns)
    sums = forest.leaves[reached].sum(0, dtype=np.uint16)
    parts = np.zeros(depth.shape, np.uint8)
    parts[rows, columns] = sums.argmax(1) + 1
    return parts, sums


def _shift(children, row, splits, before):
    """Moves indices of one tree to those of the forest."""
    leaf = row[np.where(children < 0, before - 1 - children, 0)]
    return np.where(children < 0, -1 - leaf, children + splits)


def _problem(forest):
    """Says what is wrong with a forest's arrays, or nothing."""
    for name, dtype in DTYPES.items():
        if getattr(forest, name).dtype != dtype:
            return (
                f"{name} is {np.dtype(dtype)}, received {getattr(forest, name).dtype}"
            )
    n = len(forest.offsets)
    shapes = [array.shape for array in forest]
    rows, classes = shapes[4] if len(shapes[4]) == 2 else (0, 0)
    if shapes[:3] != [(n, 4), (n,), (n, 2)] or len(shapes[3]) != 1:
        return f"shapes do not fit together: {shapes}"
    if min(rows, classes, len(forest.roots)) < 1:
        return f"there is a root, a leaf and a class, received shapes {shapes}"
    if forest.thresholds.size and np.abs(forest.thresholds.astype(int)).max() > 511:
        return "thresholds are within 511 of 0"
    inner = forest.children >= 0
    ascending = forest.children > np.arange(n)[:, None]
    for links in (forest.children, forest.roots):
        if links.size and (links.max() >= n or links.min() < -rows):
            return "a child is a split or a leaf that is there"
    if not (ascending | ~inner).all():
        return "a child comes after its parent"
    return None
