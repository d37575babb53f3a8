"""Draws results on frames: boxes, landmarks, labels, frames per second.

Text is drawn by Pillow, because OpenCV knows ASCII alone (and is crashed by what is
not UTF-8); each text is rendered once and then only blended.
"""

import functools
import importlib.util
import os
import pathlib

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mlcvtf.video.paths import printable

KNOWN = (40, 160, 60)
UNKNOWN = (215, 90, 30)
NEUTRAL = (40, 40, 40)
WHITE = (255, 255, 255)
MATPLOTLIB_FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"


def box(image: np.ndarray, corners, colour: tuple[int, int, int]) -> None:
    """Draws the outline of a box.

    Args:
        image: uint8 `[height, width, 3]`, changed in place.
        corners: x1, y1, x2, y2 in pixels, anywhere.
        colour: three numbers in the image's order of channels.
    """
    x1, y1, x2, y2 = _pixels(corners)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, _thickness(image))


def points(image: np.ndarray, positions, colour: tuple[int, int, int]) -> None:
    """Draws `[n, 2]` positions in pixels as dots, in place."""
    for x, y in _pixels(positions):
        cv2.circle(image, (x, y), _thickness(image), colour, -1, cv2.LINE_AA)


def label(
    image: np.ndarray, text: str, corners, colour: tuple[int, int, int]
) -> None:
    """Writes text on a plate above a box, or inside where there is no room above.

    Args:
        image: uint8 `[height, width, 3]`, changed in place.
        text: any text; what no font has is shown as a box by the font.
        corners: x1, y1, x2, y2 of the box in pixels.
        colour: of the plate; the text is white.
    """
    x1, y1, _, _ = _pixels(corners)
    plate = _render(printable(text), _text_height(image))
    height, width = plate.shape
    top = y1 - height if y1 >= height else y1
    left = min(x1, image.shape[1] - width)
    _blend(image, plate, max(0, left), max(0, top), colour)


def corner(image: np.ndarray, text: str) -> None:
    """Writes text on a dark plate in the upper left corner, in place; "" is nothing."""
    if text:
        _blend(image, _render(printable(text), _text_height(image)), 0, 0, NEUTRAL)


def _blend(image, plate, left, top, colour):
    """Lays a plate of a colour with white text on the image; both may overlap it."""
    target = image[top : top + plate.shape[0], left : left + plate.shape[1]]
    if target.size == 0:
        return
    opacity = plate[: target.shape[0], : target.shape[1], None]
    target[:] = colour + (np.subtract(WHITE, colour) * opacity).astype(np.int16)


def _pixels(values):
    """Rounds coordinates to integers that OpenCV takes."""
    finite = np.nan_to_num(np.asarray(values, np.float64))
    return np.clip(np.rint(finite), -30000, 30000).astype(int).tolist()


def _thickness(image):
    return max(1, round(min(image.shape[:2]) / 240))


def _text_height(image):
    return int(np.clip(min(image.shape[:2]) / 26, 11, 60))


@functools.lru_cache(maxsize=1024)
def _render(text, height):
    """Returns the coverage `[h, w]` in 0..1 of a text with a margin around it."""
    font = _font(height)
    ascent, descent = font.getmetrics()
    margin = max(2, height // 5)
    width = max(1, int(np.ceil(font.getlength(text))))
    size = (width + 2 * margin, ascent + descent + margin)
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((margin, margin // 2), text, fill=255, font=font)
    return np.asarray(mask, np.float32) / 255


@functools.lru_cache(maxsize=8)
def _font(height):
    """Returns matplotlib's DejaVu Sans, or Pillow's own font without it."""
    package = importlib.util.find_spec("matplotlib")
    if package is not None and package.origin:
        path = pathlib.Path(package.origin).parent / MATPLOTLIB_FONT
        if path.is_file():
            return ImageFont.truetype(os.fspath(path), height)
    return ImageFont.load_default(height)
