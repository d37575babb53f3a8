"""Samples whose boxes frame filled rectangles: what is drawn tells what is right."""

import numpy as np

from mlcvtf.data.samples import Draw, Sample

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)


def drawn(*boxes, size=(96, 160), colour=0, label=1):
    """Draws whole-pixel boxes in one colour on black, a class and a mask for each.

    Landmarks are the corners, clockwise from the upper left one, and the middle.
    """
    image = np.zeros((*size, 3), np.uint8)
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
        image[y1:y2, x1:x2] = COLOURS[colour]
    array = np.array(boxes, np.float32).reshape(-1, 4)
    x1, y1, x2, y2 = array.T
    corners = np.stack([x1, y1, x2, y1, x2, y2, x1, y2, (x1 + x2) / 2, (y1 + y2) / 2])
    return Sample(
        image,
        array,
        np.full(len(boxes), label, np.int32),
        np.zeros(len(boxes), bool),
        corners.T.reshape(-1, 5, 2),
        masks,
        mask=masks.any(axis=0).astype(np.int32),
        pair=image,
    )


def random_box(generator, size=(96, 160), smallest=12):
    """Draws a box of whole pixels inside a picture."""
    sides = [generator.integers(smallest, side // 2) for side in size]
    y, x = (int(generator.integers(0, s - o)) for s, o in zip(size, sides, strict=True))
    return x, y, x + int(sides[1]), y + int(sides[0])


def seen(image, colour=0):
    """Returns the extent of a colour in a picture, xyxy, or None."""
    return extent(((image > 127) == (COLOURS[colour] > 127)).all(-1))


def extent(mask):
    """Returns the extent of what is not 0, by another way than the library's."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def draw_of(seed, *others, size=(96, 160)):
    """Makes a `Draw` whose partners come in turn."""
    partners = iter(others)
    return Draw(np.random.default_rng(seed), size, lambda: next(partners))
