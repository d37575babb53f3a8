"""Haar features: all of a window, and their values for many windows at once.

Viola and Jones, 2001; centre-surround, wide and tilted features by Lienhart and Maydt,
2002, in the three sets of OpenCV's `opencv_traincascade`. Values are the detector's, to
the bit, so that a threshold that was trained on them means the same when a cascade runs
(`Cascade.detect`).
"""

from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.detection.viola_jones import scan, without_numba

# A feature by the cells it has across and down, and the weighted parts besides the
# whole, whose weight is -1: x, y, width and height in cells, and weight. All weighted
# areas add up to 0, so that a uniform window has the value 0.
HALVES_ACROSS = (2, 1, ((1, 0, 1, 1, 2),))
HALVES_DOWN = (1, 2, ((0, 1, 1, 1, 2),))
THIRDS_ACROSS = (3, 1, ((1, 0, 1, 1, 3),))
THIRDS_DOWN = (1, 3, ((0, 1, 1, 1, 3),))
FOURTHS_ACROSS = (4, 1, ((1, 0, 2, 1, 2),))
FOURTHS_DOWN = (1, 4, ((0, 1, 1, 2, 2),))
QUARTERS = (2, 2, ((0, 0, 1, 1, 2), (1, 1, 1, 1, 2)))
SURROUNDED = (3, 3, ((1, 1, 1, 1, 9),))

BASIC = (HALVES_ACROSS, HALVES_DOWN, THIRDS_ACROSS, THIRDS_DOWN, QUARTERS)
CORE = (*BASIC, FOURTHS_ACROSS, FOURTHS_DOWN, SURROUNDED)
TILTED = (
    HALVES_ACROSS,
    HALVES_DOWN,
    THIRDS_ACROSS,
    THIRDS_DOWN,
    FOURTHS_ACROSS,
    FOURTHS_DOWN,
)
SETS = {"basic": (BASIC, ()), "core": (CORE, ()), "all": (CORE, TILTED)}


class Features(NamedTuple):
    """Features as `Cascade` holds them.

    Attributes:
        rectangles: int32 `[n, 3, 4]` x, y, width and height in the window.
        weights: float32 `[n, 3]`.
        tilted: bool `[n]`.
    """

    rectangles: np.ndarray
    weights: np.ndarray
    tilted: np.ndarray

    def select(self, chosen) -> "Features":
        """Returns some of the features.

        Args:
            chosen: int `[m]` positions, a slice, or bool `[n]`.
        """
        return Features(*(part[chosen] for part in self))


class Windows(NamedTuple):
    """Windows, integrated.

    Attributes:
        sums: int32 `[(height + 1) * (width + 1), n]`, integral images; windows are
            neighbours in memory, since a feature is computed for all of them.
        tilted: the same of tilted integral images, or `[1, n]` where not needed.
        norms: float32 `[n]`, 1 / (area * deviation), 0 where a window is flat.
        size: width and height in pixels.
    """

    sums: np.ndarray
    tilted: np.ndarray
    norms: np.ndarray
    size: tuple[int, int]


def haar_features(window: tuple[int, int], kind: str = "basic") -> Features:
    """Lists all features of a set at all sizes and places in a window.

    Args:
        window: width and height in pixels.
        kind: "basic", the five upright types of Viola and Jones, 162,336 features in
            24 x 24; "core", with four parts in a row and the centre against its
            surroundings; "all", with tilted ones.

    Returns:
        The features, by type, then size, then place.

    Raises:
        ValueError: there is no such set.
    """
    if kind not in SETS:
        raise ValueError(f"a set of features is one of {', '.join(SETS)}, not {kind!r}")
    upright, tilted = SETS[kind]
    parts = [_type(window, shape, False) for shape in upright]
    parts += [_type(window, shape, True) for shape in tilted]
    return Features(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _type(window, shape, tilted):
    """Lists all features of one type."""
    across, down, parts = shape
    width, height = window
    found = [np.zeros((0, 4), np.int64)]
    for dx in range(1, width // across + 1):
        for dy in range(1, height // down + 1):
            w, h = across * dx, down * dy
            if tilted:
                columns, rows = (h, width - w), height - w - h
            else:
                columns, rows = (0, width - w), height - h
            x, y = np.meshgrid(
                np.arange(columns[0], columns[1] + 1),
                np.arange(0, rows + 1),
                indexing="ij",
            )
            cell = np.broadcast_to((dx, dy), (x.size, 2))
            found.append(np.column_stack([x.ravel(), y.ravel(), cell]))
    x, y, dx, dy = np.concatenate(found).T
    rectangles = np.zeros((len(x), 3, 4), np.int32)
    weights = np.zeros((len(x), 3), np.float32)
    for k, (u, v, w, h, weight) in enumerate(((0, 0, across, down, -1), *parts)):
        right, below = u * dx, v * dy
        # The sides of a tilted rectangle lead right and down, and left and down.
        left, top = (right - below, right + below) if tilted else (right, below)
        rectangles[:, k] = np.column_stack([x + left, y + top, w * dx, h * dy])
        weights[:, k] = weight
    return rectangles, weights, np.full(len(x), tilted)


def integrate(windows, tilted: bool = False) -> Windows:
    """Integrates windows and measures their spread.

    Args:
        windows: uint8 `[n, height, width]`, sides of at least 3 pixels.
        tilted: whether tilted features are to be computed.

    Raises:
        ValueError: the windows are not gray.
    """
    windows = np.asarray(windows)
    if windows.dtype != np.uint8 or windows.ndim != 3 or min(windows.shape[1:]) < 3:
        raise ValueError(
            "windows are uint8 [n, height, width] with sides of at least 3, received "
            f"{windows.dtype} {list(windows.shape)}"
        )
    count, height, width = windows.shape
    length = (height + 1) * (width + 1)
    sums = np.empty((length, count), np.int32)
    rotated = np.zeros((length if tilted else 1, count), np.int32)
    inner = np.empty((2, count))
    for i, window in enumerate(windows):
        if tilted:
            total, squares, turned = cv2.integral3(
                window, sdepth=cv2.CV_32S, sqdepth=cv2.CV_32S
            )
            rotated[:, i] = turned.ravel()
        else:
            total, squares = cv2.integral2(
                window, sdepth=cv2.CV_32S, sqdepth=cv2.CV_32S
            )
        sums[:, i] = total.ravel()
        # The spread is that of the window without its border, as in the detector.
        inner[0, i] = _inner(total)
        inner[1, i] = _inner(squares).astype(np.uint32)
    return Windows(sums, rotated, _norms(inner, windows.shape), (width, height))


def _inner(integral):
    return integral[1, 1] - integral[1, -2] - integral[-2, 1] + integral[-2, -2]


def _norms(inner, shape):
    """Returns 1 / (area * deviation) as `kernels` does, but 0 for flat windows."""
    area = float((shape[1] - 2) * (shape[2] - 2))
    spread = area * inner[1] - inner[0] * inner[0]
    norms = (1 / np.sqrt(np.maximum(spread, 1e-30))).astype(np.float32)
    flat = (spread <= 0) | ~(area * norms.astype(np.float64) < 0.1)
    norms[flat] = 0
    return norms


def values(features: Features, windows: Windows) -> np.ndarray:
    """Computes features of windows.

    Args:
        features: n of them.
        windows: from `integrate`, of the features' window.

    Returns:
        float32 `[n, windows]`, a feature's weighted sum over area and deviation.
    """
    found = np.empty((len(features.weights), len(windows.norms)), np.float32)
    without_numba.loops().fill_values(
        (windows.sums, windows.tilted),
        corners(features, windows),
        features.weights,
        features.tilted,
        windows.norms,
        found,
    )
    return found


def corners(features: Features, windows: Windows) -> np.ndarray:
    """Lists the rows of `Windows.sums` in which features are looked up.

    Returns:
        int32 `[n, 3, 4]`; a rectangle's sum is the first minus the second minus the
        third plus the fourth.
    """
    places = scan.rectangle_corners(features.rectangles, features.tilted)
    rows = places[..., 1] * (windows.size[0] + 1) + places[..., 0]
    # Of rectangles that are none, tilted or not, the corner may lie anywhere.
    return np.where(features.weights[:, :, None] != 0, rows, 0).astype(np.int32)
