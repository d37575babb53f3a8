"""Depth pictures of a figure of boxes with a part each, and noise, for tests."""

import numpy as np

from mlcvtf.segmentation.body_parts.forest_training import Options, train_forest

CLASSES = 6
# Half width and height, centre x and y in metres: trunk, head, arms, legs.
BOXES = (
    (0.2, 0.25, 0.0, -0.05),
    (0.1, 0.14, 0.0, -0.45),
    (0.12, 0.07, -0.33, -0.2),
    (0.12, 0.07, 0.33, -0.2),
    (0.08, 0.25, -0.1, 0.45),
    (0.08, 0.25, 0.1, 0.45),
)


def scene(seed, height=60, width=80):
    """Draws one figure.

    Returns:
        depth: float32 `[height, width]` in metres, whole millimetres, 0 where there is
        none (background, and 1 % at random); labels: uint8 `[height, width]`.
    """
    random = np.random.default_rng(seed)
    depth = np.zeros((height, width), np.float32)
    labels = np.zeros((height, width), np.uint8)
    z, focal = random.uniform(2.2, 3.8), 285 * width / 320
    rows, columns = np.mgrid[:height, :width]
    x = (columns - width / 2 + random.uniform(-5, 5)) * z / focal
    y = (rows - height / 2) * z / focal
    for part, (a, b, u, v) in enumerate(BOXES, 1):
        u, v = np.array([u, v]) + random.uniform(-0.04, 0.04, 2)
        inside = (abs(x - u) < a) & (abs(y - v) < b)
        depth[inside], labels[inside] = z + random.uniform(-0.15, 0.15), part
    noisy = np.round(1000 * (depth + random.normal(0, 0.005, depth.shape))) / 1000
    seen = (depth > 0) & (random.random(depth.shape) > 0.01)
    return np.where(seen, noisy, 0).astype(np.float32), labels


def scenes(count, first=0):
    """Returns a list of scenes."""
    return [scene(seed) for seed in range(first, first + count)]


def small_forest(count=12, **options):
    """Grows two small trees on some scenes."""
    options = {
        "trees": 2,
        "depth": 7,
        "features": 40,
        "thresholds": 10,
        "pixels_per_image": 150,
        "minimum_samples": 4,
    } | options
    return train_forest(scenes(count), CLASSES, Options(**options), threads=1)
