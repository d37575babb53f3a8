"""A cascade of boosted Haar features: what it holds and how it is run.

Viola and Jones, 2001, "Rapid Object Detection using a Boosted Cascade of Simple
Features", CVPR; trees in place of stumps and tilted features by Lienhart and Maydt,
2002, "An Extended Set of Haar-like Features for Rapid Object Detection", ICIP. Windows,
their variance and their grouping follow OpenCV 4's `CascadeClassifier`, so that a
cascade finds the same boxes here and there.
"""

import dataclasses

import numpy as np

from mlcvtf.detection.viola_jones import grouping, pyramid, scan, without_numba

# A tree's answer is looked up by the bits of all its comparisons.
MOST_NODES = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade:
    """Stages of boosted trees over Haar features of a window.

    Attributes:
        window: width and height in pixels, each at least 3.
        rectangles: int32 `[features, 3, 4]`, x, y, width and height in the window; of
            a tilted feature the top corner, and the sides down to the right and down
            to the left. A third rectangle of weight 0 is none.
        weights: float32 `[features, 3]`.
        tilted: bool `[features]`.
        stage_trees: int32 `[stages]`, number of trees of each stage.
        stage_thresholds: float32 `[stages]`; a window passes where the sum over the
            stage's trees is at least this, less 1e-5.
        tree_nodes: int32 `[trees]`, number of nodes of each tree, 1 for a stump.
        features: int32 `[nodes]`, the feature that a node compares.
        thresholds: float32 `[nodes]`; below it the left child follows. Feature values
            are divided by the standard deviation of the window times its area.
        children: int32 `[nodes, 2]`, left and right: a node of the same tree where
            positive, else minus the number of the tree's leaf.
        leaves: float32 `[nodes + trees]`, the votes.

    Raises:
        ValueError: shapes or indices do not fit each other.
    """

    window: tuple[int, int]
    rectangles: np.ndarray
    weights: np.ndarray
    tilted: np.ndarray
    stage_trees: np.ndarray
    stage_thresholds: np.ndarray
    tree_nodes: np.ndarray
    features: np.ndarray
    thresholds: np.ndarray
    children: np.ndarray
    leaves: np.ndarray

    @classmethod
    def arrays(cls) -> tuple[str, ...]:
        """Names the attributes that are arrays: all but the window."""
        return tuple(field.name for field in dataclasses.fields(cls))[1:]

    def __post_init__(self):
        _check(self)
        object.__setattr__(self, "tables", _tables(self))
        pairs = scan.corner_pairs(self.rectangles, self.weights, self.tilted)
        object.__setattr__(self, "pairs", pairs)

    def detect(
        self,
        gray: np.ndarray,
        scale_factor: float = 1.1,
        min_neighbors: int = 3,
        min_size: tuple[int, int] | None = None,
        max_size: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> np.ndarray:
        """Finds objects as OpenCV's `detectMultiScale` does.

        Args:
            gray: uint8 `[height, width]`.
            scale_factor: between one size of the window and the next, above 1.
            min_neighbors: windows that a group needs more than; 0 gives all windows
                that pass, ungrouped.
            min_size: smallest width and height in pixels.
            max_size: largest width and height in pixels.
            threads: number of threads, at least 1; None for one per processor.

        Returns:
            int32 `[n, 4]`: x, y, width, height. None where the picture is smaller than
            the window.

        Raises:
            ValueError: an argument is out of its range or the picture is not gray.
        """
        _check_neighbors(min_neighbors)
        boxes, _ = self.windows(gray, scale_factor, min_size, max_size, threads)
        if min_neighbors > 0:
            boxes, _ = grouping.group(boxes, min_neighbors)
        return _clipped(boxes, gray)

    def detect_scores(
        self,
        gray: np.ndarray,
        scale_factor: float = 1.1,
        min_neighbors: int = 3,
        min_size: tuple[int, int] | None = None,
        max_size: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds objects and says how sure each is; arguments as for `detect`.

        Of windows that overlap the one of the highest confidence is kept
        (`grouping.suppress`), if it stands for more than `min_neighbors`; OpenCV
        averages them, and has no order among groups.

        Returns:
            int32 `[n, 4]`: x, y, width, height; float32 `[n]`, falling: by how much the
            sum of the last stage is above its threshold.
        """
        _check_neighbors(min_neighbors)
        boxes, scores = self.windows(gray, scale_factor, min_size, max_size, threads)
        kept = grouping.suppress(boxes, scores, min_neighbors)
        return _clipped(boxes[kept], gray), scores[kept]

    def windows(
        self,
        gray: np.ndarray,
        scale_factor: float = 1.1,
        min_size: tuple[int, int] | None = None,
        max_size: tuple[int, int] | None = None,
        threads: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lists the windows that pass all stages; arguments as for `detect`.

        Returns:
            int32 `[n, 4]`: x, y, width, height, at the right and lower edge a pixel or
            so beyond the picture; float32 `[n]`: by how much the sum of the last stage
            is above its threshold, a confidence.
        """
        gray = np.asarray(gray)
        if gray.dtype != np.uint8 or gray.ndim != 2:
            raise ValueError(
                f"gray is uint8 [height, width], received {gray.dtype} "
                f"{list(gray.shape)}"
            )
        if not scale_factor > 1:
            raise ValueError(f"scale_factor is above 1, received {scale_factor}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is at least 1, received {threads}")
        if not without_numba.has_numba():
            from mlcvtf.detection.viola_jones import model

            scales = pyramid.scales(
                gray.shape[::-1], self.window, scale_factor, min_size, max_size
            )
            return model.find_windows(self, gray, scales)
        levels = pyramid.build(
            gray, self.window, scale_factor, min_size, max_size, self.tilted.any()
        )
        return scan.windows(self, levels, threads)


def _check_neighbors(min_neighbors):
    if min_neighbors < 0:
        raise ValueError(f"min_neighbors is at least 0, received {min_neighbors}")


def _clipped(boxes, gray):
    # Rounding may have moved a window's end beyond the picture's.
    boxes[:, 2:] = np.minimum(boxes[:, 2:], np.shape(gray)[::-1] - boxes[:, :2])
    return boxes


def _check(cascade):
    """Raises ValueError where an index points out of its array."""
    c, (width, height) = cascade, cascade.window
    nodes, trees = len(c.features), len(c.tree_nodes)
    rules = {
        "a window has at least 3 x 3 pixels": min(c.window) >= 3,
        "a stage has at least one tree": len(c.stage_trees) and c.stage_trees.min() > 0,
        "every tree is in a stage": c.stage_trees.sum() == trees,
        f"a tree has 1 to {MOST_NODES} nodes": trees
        and 1 <= c.tree_nodes.min() <= c.tree_nodes.max() <= MOST_NODES,
        "every node is in a tree": c.tree_nodes.sum() == nodes,
        "a tree has one leaf more than nodes": len(c.leaves) == nodes + trees,
        "a node's feature exists": (c.features >= 0).all()
        and (c.features < len(c.rectangles)).all(),
        "numbers are finite": all(
            np.isfinite(a).all()
            for a in (c.weights, c.stage_thresholds, c.thresholds, c.leaves)
        ),
    }
    x, y, w, h = np.moveaxis(c.rectangles.astype(np.int64), -1, 0)
    used = c.weights != 0
    used[:, :2] = True
    upright = (x >= 0) & (y >= 0) & (x + w <= width) & (y + h <= height)
    tilted = (x - h >= 0) & (y >= 0) & (x + w <= width) & (y + w + h <= height)
    inside = np.where(c.tilted[:, None], tilted, upright) & (w > 0) & (h > 0)
    rules["a rectangle lies in the window"] = (inside | ~used).all()
    order = np.arange(nodes) - np.repeat(
        np.cumsum(c.tree_nodes) - c.tree_nodes, c.tree_nodes
    )
    size = np.repeat(c.tree_nodes, c.tree_nodes)[:, None]
    # A child comes after its parent, so that every walk ends.
    child = np.where(
        c.children > 0,
        (c.children > order[:, None]) & (c.children < size),
        -c.children <= size,
    )
    rules["a child is a later node or a leaf of its tree"] = child.all()
    for rule, kept in rules.items():
        if not kept:
            raise ValueError(f"in a cascade {rule}; this one breaks the rule")


def _tables(cascade):
    """Returns every tree's answers: float64 `[trees, 2 ** MOST_NODES]` or less wide.

    Bit k of the column is set where the k-th node's feature is below its threshold.
    """
    widest = int(cascade.tree_nodes.max())
    tables = np.zeros((len(cascade.tree_nodes), 2**widest))
    first = 0
    for tree, count in enumerate(cascade.tree_nodes):
        children = cascade.children[first : first + count]
        leaves = cascade.leaves[first + tree : first + tree + count + 1]
        for bits in range(2**count):
            node = children[0][0 if bits & 1 else 1]
            while node > 0:
                node = children[node][0 if bits >> node & 1 else 1]
            tables[tree, bits] = leaves[-node]
        first += count
    return tables
