"""Writes segments.json with pycocotools, in an environment that has it.

    python tests/data/make_segments.py
"""

import json
import pathlib

import numpy as np
from pycocotools import mask as api


def cases():
    """Yields (size, polygons or None, mask in pycocotools' compressed form)."""
    generator = np.random.default_rng(0)
    for height, width, points in ((30, 40, 3), (30, 40, 7), (64, 48, 12), (9, 9, 4),
                                  (120, 200, 30), (50, 50, 5)):
        angles = np.sort(generator.uniform(0, 2 * np.pi, points))
        radii = generator.uniform(0.2, 0.6, points) * min(height, width)
        x = width / 2 + radii * np.cos(angles)
        y = height / 2 + radii * np.sin(angles)
        polygon = np.stack([x, y], 1).round(2).ravel().tolist()
        packed = api.merge(api.frPyObjects([polygon], height, width))
        yield (height, width), [polygon], packed
    for height, width, share in ((20, 30, 0.5), (20, 30, 0.0), (20, 30, 1.0),
                                 (300, 7, 0.01)):
        values = generator.random((height, width)) < share
        yield (height, width), None, api.encode(np.asfortranarray(values, np.uint8))


def plain_counts(mask):
    """Counts runs down the columns, zeros first."""
    values = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, len(values)]).tolist()
    return [0, *counts] if values[0] else counts


def main():
    """Writes the file beside this one."""
    written = [{
        "size": list(size), "polygons": polygons,
        "plain": plain_counts(api.decode(packed)),
        "compressed": packed["counts"].decode(), "area": int(api.area(packed)),
        "bbox": api.toBbox(packed).astype(int).tolist(),
    } for size, polygons, packed in cases()]
    path = pathlib.Path(__file__).with_name("segments.json")
    path.write_text(json.dumps(written, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
