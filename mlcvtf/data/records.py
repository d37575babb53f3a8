"""What every reader gives: one plain record per picture, no pixels read.

Boxes are float32 xyxy in pixels of the upright picture with the origin in its upper
left corner, so that a box that covers a whole picture is (0, 0, width, height).
"""

import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from mlcvtf.data.places import Place, read_bytes
from mlcvtf.errors import InputError
from mlcvtf.video.pictures import MAX_PIXELS, decode_picture

# Annotations are rounded, and tools disagree on whether the last pixel counts.
TOLERANCE = 1.0


class Record(NamedTuple):
    """A picture and what is known about it.

    Attributes:
        image: where the picture is.
        width: in pixels, or None where the annotations do not say.
        height: in pixels, or None.
        boxes: float32 `[n, 4]` xyxy in pixels.
        labels: int32 `[n]`, positions in the names of the set.
        crowd: bool `[n]`, regions of many objects, never a target (COCO).
        difficult: bool `[n]`, objects that do not count in evaluation (VOC).
        label: class of the whole picture, or -1.
        mask: where its mask is, or None.
        pair: where the picture is that belongs to it, or None.
        landmarks: float32 `[n, k, 2]` xy in pixels of each object, NaN where unknown
            (continuous, as boxes: a pixel's middle is at + 0.5), or None.
        segments: n segmentations as `mlcvtf.data.segments` reads them, or nothing.
    """

    image: Place
    width: int | None = None
    height: int | None = None
    boxes: np.ndarray = np.zeros((0, 4), np.float32)
    labels: np.ndarray = np.zeros(0, np.int32)
    crowd: np.ndarray = np.zeros(0, bool)
    difficult: np.ndarray = np.zeros(0, bool)
    label: int = -1
    mask: Place | None = None
    pair: Place | None = None
    landmarks: np.ndarray | None = None
    segments: Sequence = ()


class RecordSet(NamedTuple):
    """The records of one set.

    Attributes:
        records: one per picture.
        names: name of class i at position i.
        kind: what the records know: "boxes", "label", "mask" or "pair".
        category_ids: the file's own number of class i (COCO), or empty.
    """

    records: Sequence[Record]
    names: tuple[str, ...]
    kind: str
    category_ids: tuple[int, ...] = ()


def with_boxes(image: Place, size, boxes: Sequence, labels: Sequence[int],
               crowd: Sequence[bool] = (), difficult: Sequence[bool] = ()) -> Record:
    """Makes a record with boxes.

    Args:
        image: where the picture is.
        size: width and height in pixels, or None.
        boxes: n boxes, xyxy in pixels.
        labels: n classes.
        crowd: n flags, or nothing for none.
        difficult: n flags, or nothing for none.
    """
    count = len(boxes)
    none = np.zeros(count, bool)
    return Record(
        image, *(size or (None, None)),
        boxes=np.array(boxes, np.float32).reshape(count, 4),
        labels=np.array(labels, np.int32).reshape(count),
        crowd=np.array(crowd, bool) if len(crowd) else none,
        difficult=np.array(difficult, bool) if len(difficult) else none,
    )


def out_of_range(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Says which boxes reach out of a picture by over `TOLERANCE` pixels.

    Args:
        boxes: float `[n, 4]` xyxy in pixels.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Returns:
        bool `[n]`.

    >>> out_of_range(np.array([[0, 0, 10.5, 5], [-2, 0, 5, 5.0]]), 10, 5).tolist()
    [False, True]
    """
    limit = np.array([width, height, width, height], np.float32) + TOLERANCE
    return ((boxes < -TOLERANCE) | (boxes > limit)).any(axis=-1)


def without_area(boxes: np.ndarray) -> np.ndarray:
    """Says which boxes have no width or no height.

    Args:
        boxes: float `[n, 4]` xyxy in pixels.

    Returns:
        bool `[n]`.

    >>> without_area(np.array([[3, 3, 3, 9], [0, 0, 1, 1.0]])).tolist()
    [True, False]
    """
    return ((boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1]))


def check_boxes(record: Record, width: int, height: int) -> None:
    """Makes sure that every box is a box inside its picture.

    Args:
        record: whose boxes.
        width: of the picture in pixels.
        height: of the picture in pixels.

    Raises:
        InputError: names the picture and the first box that is not.
    """
    for wrong, rule in (
        (out_of_range(record.boxes, width, height),
         f"a box lies inside its picture, of {width}x{height} pixels here"),
        (without_area(record.boxes), "a box has a width and a height"),
    ):
        if wrong.any():
            box = describe_box(record.boxes[wrong.argmax()])
            raise InputError(f"{rule}, received {box} in {record.image}")


def describe_box(box: np.ndarray) -> str:
    """Writes a box for a message.

    >>> describe_box(np.float32([0, 0.5, 10, 1 / 3]))
    '(0, 0.5, 10, 0.33)'
    """
    return "(" + ", ".join(f"{round(float(v), 2):.10g}" for v in box) + ")"


def dense_labels(found: Sequence[str], names: Sequence[str] | None, what: str):
    """Numbers class names.

    Args:
        found: the names that occur, in any order and any number.
        names: all classes in the order wanted, or None for the found ones, sorted.
        what: where they were found, for the message.

    Returns:
        Names of the classes, and a dict from name to number.

    Raises:
        InputError: a name occurs that is not among `names`, or names repeat.
    """
    chosen = tuple(sorted(set(found)) if names is None else names)
    number = {name: i for i, name in enumerate(chosen)}
    if len(number) != len(chosen):
        raise InputError(f"every class has a name of its own, {what} has some twice")
    strange = sorted(set(found) - set(number))
    if strange:
        raise InputError(f"the classes are {', '.join(chosen)}, received "
                         f"{strange[0]} in {what}")
    return chosen, number


def read_image(record: Record) -> np.ndarray:
    """Decodes the picture of a record.

    Returns:
        uint8 `[height, width, 3]` RGB, upright.

    Raises:
        InputError: it cannot be read, or has another size than its annotation says.
    """
    image = decode_picture(read_bytes(record.image), str(record.image))
    height, width = image.shape[:2]
    if record.width is not None and (record.width, record.height) != (width, height):
        raise InputError(
            f"a picture has the size of its annotation, {record.image} has "
            f"{width}x{height} pixels, not {record.width}x{record.height}")
    return image


def read_mask(place: Place) -> np.ndarray:
    """Reads a mask: the numbers in the file, never colours.

    Args:
        place: a picture of one channel of 1, 8 or 16 bits, or with a palette, of
            which the indices count (as in VOC); of three equal channels also.

    Returns:
        int32 `[height, width]`.

    Raises:
        InputError: it cannot be read or has colours.
    """
    data = read_bytes(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"over {MAX_PIXELS} pixels")
            # Pillow gives the indices of a palette, and bool for one bit.
            values = np.asarray(image).astype(np.int32)
        except Exception as error:
            # Decoders raise whatever broken bytes lead them to.
            raise InputError(f"a mask must be a whole picture, {place} is not "
                             f"({' '.join(str(error).split())})") from None
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(f"a mask has one number per pixel, {place} has colours")
    return values
