"""Instance masks from the segmentations of COCO: polygons and run lengths.

Lin et al., 2014, "Microsoft COCO", arXiv:1405.0312; run lengths go down the columns
and begin with zeros, and their compressed form is that of pycocotools.
"""

import math
import numbers

import numpy as np

from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import MAX_PIXELS


def read_masks(segments, boxes: int, height: int, width: int) -> np.ndarray:
    """Draws the segmentation of each object.

    Args:
        segments: n segmentations, or nothing for none: a list of polygons
            `[x1, y1, x2, y2 ...]` in pixels, `{"counts", "size"}` run lengths, or None
            for an object without.
        boxes: n.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        uint8 `[n, height, width]`, 1 on the object, all 0 for one without.

    Raises:
        ValueError: a segmentation is not of this form.
    """
    masks = np.zeros((boxes, height, width), np.uint8)
    for mask, segment in zip(masks, segments, strict=False):
        if isinstance(segment, dict):
            mask[:] = run_lengths(segment, height, width)
        elif isinstance(segment, list):
            for polygon in segment:
                mask |= draw_polygon(polygon, height, width)
        elif segment is not None:
            raise ValueError(
                "a segmentation is a list of polygons or run lengths, "
                f"received {printable(str(segment))[:50]}"
            )
    return masks


def draw_polygon(polygon, height: int, width: int) -> np.ndarray:
    """Fills a polygon: the pixels whose middle is inside, by the even-odd rule.

    Args:
        polygon: x and y in turn, in pixels; three points or more.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        uint8 `[height, width]`.

    Raises:
        ValueError: it has fewer points, or what is no number.

    >>> draw_polygon([1, 0, 3, 0, 3, 2, 1, 2], 3, 4).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if not (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(v, numbers.Real) and math.isfinite(v) for v in polygon)
    ):
        raise ValueError(
            "a polygon has three points or more of two numbers, received "
            f"{printable(str(polygon))[:50]}"
        )
    x1, y1 = np.array(polygon, float).reshape(-1, 2).T
    x2, y2 = np.roll(x1, -1), np.roll(y1, -1)
    middles = np.arange(height)[:, None] + 0.5
    row, edge = np.nonzero((y1 <= middles) != (y2 <= middles))
    along = (row + 0.5 - y1[edge]) / (y2 - y1)[edge]
    crossing = x1[edge] + along * (x2 - x1)[edge]
    first = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    # Inside begins at every odd crossing from the left and ends at every even one.
    toggles = np.zeros((height, width + 1), np.int32)
    np.add.at(toggles, (row, first), 1)
    return (toggles.cumsum(axis=1)[:, :width] % 2).astype(np.uint8)


def run_lengths(segment: dict, height: int, width: int) -> np.ndarray:
    """Unpacks run lengths.

    Args:
        segment: "counts" as a list of numbers or in the compressed form, a text; and
            "size", height and width.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        uint8 `[height, width]`.

    Raises:
        ValueError: it is of another size or not of this form.

    >>> run_lengths({"counts": [1, 2, 3], "size": [2, 3]}, 2, 3).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    if list(segment.get("size", ())) != [height, width]:
        raise ValueError(
            f"run lengths have the size of their picture, {height} rows "
            f"and {width} columns, received "
            f"{printable(str(segment.get('size')))[:50]}"
        )
    counts = segment.get("counts")
    if isinstance(counts, str | bytes):
        counts = _uncompressed(counts)
    if not (
        isinstance(counts, list)
        and all(isinstance(c, int) and 0 <= c <= MAX_PIXELS for c in counts)
        and sum(counts) == height * width
    ):
        raise ValueError(
            f"run lengths add up to {height * width} pixels, received "
            f"{printable(str(counts))[:50]}"
        )
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).astype(np.uint8).reshape(width, height).T


def _uncompressed(text):
    """Reads numbers of 5 bits a character, each from the third on a difference."""
    data = text if isinstance(text, bytes) else text.encode("latin-1", "replace")
    counts, number, shift = [], 0, 0
    for byte in data:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"no run lengths: {printable(str(text))[:50]}")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number, shift = 0, 0
    return counts
