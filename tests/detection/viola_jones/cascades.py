"""Cascades of random features for tests."""

import numpy as np

from mlcvtf.detection.viola_jones.cascade import Cascade

WINDOW = (14, 12)
KINDS = ("quarters", "halves", "whole", "three")


def rectangle(generator, tilted):
    """Draws a rectangle inside the window."""
    width, height = WINDOW
    while True:
        x, y, w, h = (int(v) for v in generator.integers(0, 12, 4))
        w, h = w // 2 + 1, h // 2 + 1
        if tilted and x - h >= 0 and x + w <= width and y + w + h <= height:
            return x, y, w, h
        if not tilted and x + w <= width and y + h <= height:
            return x, y, w, h


def parts(generator, kind):
    """Draws four quarters, of which two count, or two halves; returns their weights."""
    w, h = (int(v) for v in generator.integers(1, 5, 2))
    x, y = (int(v) for v in generator.integers(0, 4, 2))
    if kind == "halves":
        return [(x, y, 2 * w, h), (x, y, w, h), (0, 0, 0, 0)], (-1, 2, 0)
    rows = [(x, y, 2 * w, 2 * h), (x, y, w, h), (x + w, y + h, w, h)]
    return rows, (-1, 2, 2)


def features(count, tilted_share, fractions, generator):
    """Draws features: a whole with a part, three rectangles, or four quarters."""
    rectangles, weights, tilted = [], [], []
    for number in range(count):
        is_tilted = generator.random() < tilted_share
        kind = "whole" if is_tilted and number % 4 < 2 else KINDS[number % 4]
        if kind in ("quarters", "halves"):
            rows, given = parts(generator, kind)
        else:
            rows = [rectangle(generator, is_tilted) for _ in range(3)]
            areas = [w * h for *_, w, h in rows]
            given = (-1, 2, -3)
            if kind == "whole":
                given = (-areas[1], areas[0], 0)
        if fractions:
            given = tuple(weight * 0.37 for weight in given)
        rectangles.append(rows)
        weights.append(given)
        tilted.append(is_tilted)
    return (
        np.array(rectangles, np.int32),
        np.array(weights, np.float32),
        np.array(tilted),
    )


def random_cascade(
    seed, stages=(3, 5, 8, 4), nodes=(1,), tilted=0.0, fractions=False, slack=0.9
):
    """Builds a cascade that lets a good part of random windows pass.

    Args:
        seed: of its numbers.
        stages: trees of each stage.
        nodes: numbers of nodes that trees have in turn.
        tilted: share of tilted features.
        fractions: whether weights are no whole numbers.
        slack: of the stages' thresholds; more of it lets more windows pass.
    """
    generator = np.random.default_rng(seed)
    trees = sum(stages)
    sizes = np.array([nodes[tree % len(nodes)] for tree in range(trees)], np.int32)
    count = int(sizes.sum())
    children = []
    for size in sizes:
        # A chain: the next node or a leaf, in an order that changes from node to node.
        leaf = 0
        for node in range(size):
            last = node == size - 1
            row = [-leaf, -(leaf + 1) if last else node + 1]
            leaf += 2 if last else 1
            turned = size > 1 and generator.random() < 0.5
            children.append(row[::-1] if turned else row)
    return Cascade(
        WINDOW,
        *features(count, tilted, fractions, generator),
        np.array(stages, np.int32),
        np.array([-slack * np.sqrt(n) for n in stages], np.float32),
        sizes,
        generator.permutation(count).astype(np.int32),
        generator.normal(0, 0.02, count).astype(np.float32),
        np.array(children, np.int32),
        generator.normal(0, 1, count + trees).astype(np.float32),
    )
