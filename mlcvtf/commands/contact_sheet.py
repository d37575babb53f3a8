"""A contact sheet of a data set: pictures with their boxes, masks and classes."""

import colorsys
import io
import os
import pathlib

import cv2
import numpy as np
from PIL import Image

from mlcvtf.data.places import read_bytes
from mlcvtf.data.records import Record, RecordSet, read_mask
from mlcvtf.errors import InputError
from mlcvtf.video import draw
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import decode_picture

# A picture's place, and the strip below with its name, in pixels.
WIDTH, HEIGHT, STRIP = 320, 256, 20
COLUMNS = 4
PICTURES = 24
GAP = 8
# More than so many labels on one picture hide it; the legend has them all.
MOST_LABELS = 6
LEGEND_ROW = 24
LEGEND_COLUMN = 200
BACKGROUND = 245
# The golden ratio spreads any number of hues.
STEP = 0.618034


def choose(parts: dict[str, RecordSet], count: int = PICTURES) -> list:
    """Chooses pictures, evenly spaced over all parts.

    Args:
        parts: record sets by name.
        count: at most how many.

    Returns:
        (record, names of its classes) of each.
    """
    everything = [(record, record_set.names) for record_set in parts.values()
                  for record in record_set.records]
    count = min(count, len(everything))
    return [everything[i * len(everything) // count] for i in range(count)]


def contact_sheet(chosen: list) -> np.ndarray:
    """Draws a contact sheet.

    Args:
        chosen: (record, names) of each picture; one that cannot be read says so.

    Returns:
        uint8 `[height, width, 3]` RGB.
    """
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    across, down = WIDTH + GAP, HEIGHT + STRIP + GAP
    width = columns * across + GAP
    sheet = np.full((rows * down + GAP, width, 3), BACKGROUND, np.uint8)
    for i, (record, names) in enumerate(chosen):
        row, column = divmod(i, columns)
        top, left = GAP + row * down, GAP + column * across
        sheet[top:top + HEIGHT + STRIP, left:left + WIDTH] = tile(record, names)
    return np.concatenate([sheet, _legend(chosen, width)])


def tile(record: Record, names) -> np.ndarray:
    """Draws one picture, what is annotated and its name.

    Returns:
        uint8 `[HEIGHT + STRIP, WIDTH, 3]` RGB.
    """
    canvas = np.full((HEIGHT + STRIP, WIDTH, 3), BACKGROUND - 20, np.uint8)
    name = printable(os.path.basename(record.image.member or record.image.path))
    strip = canvas[HEIGHT:]
    strip[:] = draw.NEUTRAL
    draw.corner(strip, name if len(name) < 46 else f"{name[:43]}...")
    try:
        image = decode_picture(read_bytes(record.image), str(record.image))
        image = _with_mask(image, record)
    except InputError:
        draw.label(canvas, "cannot be read", (8, HEIGHT // 2, 8, 8), (190, 40, 40))
        return canvas
    height, width = image.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    inner = np.ascontiguousarray(cv2.resize(image, size, interpolation=way))
    _annotate(inner, record, names, scale)
    canvas[top:top + size[1], left:left + size[0]] = inner
    return canvas


def _annotate(inner, record, names, scale):
    """Draws the boxes of a picture that was scaled, and its classes, in place."""
    boxes = record.boxes * scale
    for box, label in zip(boxes, record.labels, strict=True):
        # Two lines of one pixel: a single one is lost on a busy picture.
        for inset in (0, 1):
            draw.box(inner, box + np.multiply(inset, (1, 1, -1, -1)), colour(label))
    if len(boxes) <= MOST_LABELS:
        for box, label in zip(boxes, record.labels, strict=True):
            draw.label(inner, names[label], box, colour(label))
    if record.label >= 0:
        draw.label(inner, names[record.label], (0, 0, 0, 0), colour(record.label))


def colour(label: int) -> tuple[int, int, int]:
    """Returns the RGB of a class, dark enough for white text."""
    shade = 0.75 if label % 2 else 0.55
    rgb = colorsys.hsv_to_rgb(label * STEP % 1, 0.9, shade)
    return tuple(round(255 * value) for value in rgb)


def write_png(
    path: str | os.PathLike, image: np.ndarray, what: str = "a contact sheet"
) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        path: the file.
        image: uint8 `[height, width, 3]` RGB.
        what: what it is, for the message.

    Raises:
        InputError: the file cannot be written.
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    partial = f"{os.fspath(path)}.{os.getpid()}.partial"
    try:
        pathlib.Path(partial).write_bytes(file.getvalue())
        os.replace(partial, path)
    except OSError as error:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise InputError(f"{what} must be writable, {printable(path)}: "
                         f"{error.strerror}") from None


def _with_mask(image, record):
    """Tints what has a mask value other than 0."""
    if record.mask is None:
        return image
    mask = read_mask(record.mask)
    if mask.shape != image.shape[:2]:
        return image
    image = image.copy()
    for value in np.unique(mask[mask > 0]):
        where = mask == value
        image[where] = (image[where] * 0.45
                        + np.multiply(colour(int(value)), 0.55)).astype(np.uint8)
    return image


def _legend(chosen, width):
    """Draws the classes that occur, each on its colour, as many as fit in 8 rows."""
    names = {}
    for record, known in chosen:
        for label in (*record.labels.tolist(), record.label):
            if label >= 0:
                names[label] = known[label]
    columns = max(1, (width - GAP) // LEGEND_COLUMN)
    shown = sorted(names)[:8 * columns]
    rows = -(-len(shown) // columns)
    legend = np.full((rows * LEGEND_ROW + GAP, width, 3), BACKGROUND, np.uint8)
    for i, label in enumerate(shown):
        row, column = divmod(i, columns)
        left, bottom = GAP + column * LEGEND_COLUMN, (row + 1) * LEGEND_ROW - 2
        cell = legend[bottom - LEGEND_ROW + 4:bottom, left:left + LEGEND_COLUMN - GAP]
        draw.label(cell, names[label], (0, 0, 0, 0), colour(label))
    return legend
