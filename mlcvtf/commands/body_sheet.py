"""A contact sheet of bodies: parts and depth side by side, with the joints."""

import numpy as np

from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.segmentation.body_parts.drawing import (
    depth_picture,
    draw_skeleton,
    parts_picture,
)
from mlcvtf.segmentation.body_parts.rendering import Picture
from mlcvtf.video import draw

COLUMNS = 4
GAP = 6
STRIP = 16
BACKGROUND = 245


def tile(picture: Picture, title: str) -> np.ndarray:
    """Draws one picture twice, its parts and its depth, and a title.

    Args:
        picture: of 320x240.
        title: short.

    Returns:
        uint8 `[240 + STRIP, 400, 3]` RGB; the sides without the person are cut off.
    """
    height, width = picture.depth.shape
    halves = np.stack([parts_picture(picture.labels), depth_picture(picture.depth)])
    draw_skeleton(halves[1], picture.joints, Camera())
    half = 200
    middle = Camera().project(picture.joints)[:, 0]
    middle = int(np.clip((middle.min() + middle.max()) / 2, half / 2, width - half / 2))
    left = middle - half // 2
    canvas = np.full((height + STRIP, 2 * half, 3), draw.NEUTRAL, np.uint8)
    canvas[:height] = np.concatenate(halves[:, :, left : left + half], axis=1)
    yaw = np.degrees(picture.placement.yaw)
    strip = canvas[height:]
    draw.corner(strip, f"{yaw:+.0f} deg {picture.placement.shift[2]:.1f} m  {title}")
    return canvas


def sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Lays tiles of one size in rows.

    Args:
        tiles: uint8 `[h, w, 3]` each, at least one.

    Returns:
        uint8 `[height, width, 3]` RGB.
    """
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0].shape[:2]
    shape = rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3
    canvas = np.full(shape, BACKGROUND, np.uint8)
    for i, one in enumerate(tiles):
        row, column = divmod(i, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        canvas[top : top + height, left : left + width] = one
    return canvas
