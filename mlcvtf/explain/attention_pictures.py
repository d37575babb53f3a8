"""Draws what `attention_maps.py` computes as pictures: uint8 RGB arrays."""

import io

import cv2
import matplotlib.backends.backend_agg
import matplotlib.figure
import numpy as np
from PIL import Image

# Sides in pixels of a tile, of what lies between two, and of the frame.
TILE, GAP = 64, 4
# The most rows and columns of tiles: a finer grid of positions is thinned.
MOST_TILES = 14
WHITE = 255


def tiles(pictures, columns: int, side: int = TILE) -> np.ndarray:
    """Lays small pictures out in rows.

    Args:
        pictures: uint8 `[n, height, width, 3]`.
        columns: pictures in a row.
        side: in pixels that each is scaled to, by its nearest pixels.

    Returns:
        uint8 `[height, width, 3]` with white between the pictures.
    """
    rows = -(-len(pictures) // columns)
    step = side + GAP
    sheet = np.full((rows * step + GAP, columns * step + GAP, 3), WHITE, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = GAP + row * step, GAP + column * step
        scaled = cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST)
        sheet[top : top + side, left : left + side] = scaled
    return sheet


def draw_filters(filters: np.ndarray) -> np.ndarray:
    """Draws filters as tiles, seven in a row.

    Args:
        filters: float `[n, patch, patch, 3]` in 0..1.

    Returns:
        uint8 `[height, width, 3]`.
    """
    return tiles(np.round(filters * 255).astype(np.uint8), 7)


def draw_similarity(similarity: np.ndarray) -> np.ndarray:
    """Draws one tile per position: its likeness with all others, -1 dark to 1 bright.

    Args:
        similarity: float `[rows, columns, rows, columns]` in -1..1.

    Returns:
        uint8 `[height, width, 3]`.
    """
    rows, columns = similarity.shape[:2]
    shown = [
        np.unique(np.linspace(0, n - 1, min(n, MOST_TILES)).round().astype(int))
        for n in (rows, columns)
    ]
    chosen = similarity[np.ix_(*shown)].reshape(-1, rows, columns)
    return tiles(coloured((chosen + 1) / 2), len(shown[1]), 48)


def draw_distances(distances: np.ndarray) -> np.ndarray:
    """Draws one point per head over the depth of its block.

    Args:
        distances: float `[depth, heads]` in pixels.

    Returns:
        uint8 `[height, width, 3]`.
    """
    # Not pyplot, whose figures and backend are global.
    figure = matplotlib.figure.Figure(figsize=(6, 4), dpi=100, layout="constrained")
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for head in range(distances.shape[1]):
        axes.plot(range(len(distances)), distances[:, head], "o", markersize=4)
    axes.set_xlabel("block")
    axes.set_ylabel("mean attention distance (pixels)")
    # A tenth of room, or points at the top are cut in halves.
    axes.set_ylim(0, max(1.1 * float(distances.max()), 1.0))
    axes.xaxis.get_major_locator().set_params(integer=True)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def draw_rollout(image: np.ndarray, rollout: np.ndarray) -> np.ndarray:
    """Draws a picture beside itself, dark where nothing is attended to.

    Args:
        image: uint8 `[height, width, 3]`.
        rollout: float `[rows, columns]`, the larger the brighter.

    Returns:
        uint8 `[height, 2 * width + GAP, 3]`.
    """
    height, width = image.shape[:2]
    heat = cv2.resize(
        (rollout / max(float(rollout.max()), 1e-12)).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    shaded = np.round(image * heat[..., None]).astype(np.uint8)
    between = np.full((height, GAP, 3), WHITE, np.uint8)
    return np.concatenate([image, between, shaded], axis=1)


def coloured(values: np.ndarray) -> np.ndarray:
    """Colours numbers from dark blue over green to yellow.

    Args:
        values: float `[...]` in 0..1.

    Returns:
        uint8 `[..., 3]` RGB.
    """
    levels = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    table = cv2.applyColorMap(
        np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS
    )
    return np.ascontiguousarray(table[:, 0, ::-1][levels])
