"""Windows of one size around objects, gray, with copies that are moved and mirrored.

Objects are whole pictures (crops), boxes in pictures, or arrays of windows. NumPy and
OpenCV only.
"""

import math
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.data import coco, formats
from mlcvtf.data.places import Place, Root, picture_size
from mlcvtf.data.records import Record, RecordSet, read_image, without_area
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

# Forms of `formats` that hold boxes.
BOXED = ("coco", "voc", "yolo")
# Lines per pixel of the window at most, where a large object is made small.
FINEST = 16


class Object(NamedTuple):
    """An object to be found.

    Attributes:
        image: its picture's place, or uint8 `[height, width]` gray.
        box: xyxy in pixels, or None for the whole picture.
    """

    image: Place | np.ndarray
    box: tuple | None = None


class Jitter(NamedTuple):
    """How far copies are moved at most.

    Attributes:
        copies: of each object, besides the one that is not moved.
        shift: share of the window's sides.
        scale: 0.05 for sizes from 1 / 1.05 to 1.05.
        degrees: of rotation.
    """

    copies: int = 0
    shift: float = 0.04
    scale: float = 0.08
    degrees: float = 5.0


def read_objects(path: str | os.PathLike, category: str | None = None) -> list[Object]:
    """Lists objects.

    Args:
        path: a COCO file, or a folder with boxes as COCO, VOC or YOLO has them; or a
            folder or ZIP archive of pictures of one object each; or FILE.npz:NAME for
            an array uint8 `[n, height, width]`.
        category: of boxes, only those of this class.

    Raises:
        InputError: there is nothing of this kind, or no such class.
    """
    text = os.fspath(path)
    file, _, name = text.rpartition(".npz:")
    if file:
        return [Object(window) for window in _array(f"{file}.npz", name)]
    boxes = _boxed(pathlib.Path(text))
    if boxes is None:
        if category is not None:
            raise InputError(
                f"a class is chosen among boxes, {printable(text)} has none"
            )
        return [Object(place) for place in Root(text).pictures().values()]
    return [
        Object(record.image, tuple(box))
        for part in boxes
        for record in part.records
        for box in record.boxes[_counts(record, part, category, text)]
    ]


def read_backgrounds(
    path: str | os.PathLike, without: Sequence[str] = ()
) -> list[Place]:
    """Lists pictures that do not show an object.

    Args:
        path: a folder or ZIP archive of pictures, or a COCO file.
        without: of a COCO file, pictures that show one of these classes are left out.

    Raises:
        InputError: there is nothing of this kind, or no such class.
    """
    text = os.fspath(path)
    if not text.lower().endswith(".json"):
        return list(Root(text).pictures().values())
    found = coco.read_coco(text)
    numbers = [_number(found, name, text) for name in without]
    return [
        record.image
        for record in found.records
        if not np.isin(record.labels, numbers).any()
    ]


def _boxed(path) -> list[RecordSet] | None:
    """Returns the parts of a set with boxes, or None where there are none."""
    if path.suffix.lower() == ".json":
        return [coco.read_coco(path)]
    if not path.is_dir():
        return None
    try:
        form = formats.recognise(path)
    except InputError:
        return None
    if form not in BOXED:
        return None
    return list(formats.read_folder(path, form).values())


def _counts(record, part, category, path):
    """Says which of a record's boxes are wanted, bool `[n]`."""
    keep = ~(record.crowd | record.difficult | without_area(record.boxes))
    if category is not None:
        keep &= record.labels == _number(part, category, path)
    return keep


def _number(part, category, path):
    if category not in part.names:
        raise InputError(
            f"a class is one of {', '.join(part.names)}, {printable(path)} has no "
            f"{printable(category)}"
        )
    return part.names.index(category)


def _array(path, name):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            array = arrays[name]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(
            f"windows are an array of an .npz file, {printable(path)}: {reason}"
        ) from None
    if array.dtype != np.uint8 or array.ndim != 3:
        raise InputError(
            f"windows are uint8 [n, height, width], {name} of {printable(path)} is "
            f"{array.dtype} {list(array.shape)}"
        )
    return array


def read_gray(image: Place | np.ndarray) -> np.ndarray:
    """Returns a picture as uint8 `[height, width]`."""
    if isinstance(image, np.ndarray):
        return image
    return cv2.cvtColor(read_image(Record(image)), cv2.COLOR_RGB2GRAY)


class Backgrounds(Sequence):
    """Gray pictures that are read when they are looked at.

    Args:
        places: of the pictures.
        window: width and height that a picture must have; smaller ones are left out.
    """

    def __init__(self, places: Iterable[Place], window: tuple[int, int]):
        places = list(places)
        self._places = [place for place in places if self._fits(place, window)]
        self.too_small = len(places) - len(self._places)

    @property
    def names(self) -> str:
        """The places of the pictures, which tell them from others."""
        return "\n".join(map(str, self._places))

    @staticmethod
    def _fits(place, window):
        size = picture_size(place)
        # A picture that is none is an error when it is read.
        return size is None or (size[0] >= window[0] and size[1] >= window[1])

    def __len__(self):
        return len(self._places)

    def __getitem__(self, number):
        return read_gray(self._places[number])


def tiled(pictures: Iterable[np.ndarray], side: int) -> list[np.ndarray]:
    """Lays small pictures of one size side by side.

    A search looks at a large picture many times as fast as at as many pixels in small
    ones.

    Args:
        pictures: uint8 `[height, width]` each.
        side: in pixels, that a tiled picture has at most; a picture of which not even
            two fit in a row and in a column stays as it is.

    Returns:
        Pictures without the small ones, and then the tiled ones. What does not fill
        the last of a size repeats its first pictures.
    """
    large, small = [], {}
    for picture in pictures:
        if 2 * max(picture.shape) > side:
            large.append(picture)
        else:
            small.setdefault(picture.shape, []).append(picture)
    for (height, width), parts in small.items():
        rows, columns = side // height, side // width
        for first in range(0, len(parts), rows * columns):
            some = parts[first : first + rows * columns]
            some = [some[i % len(some)] for i in range(rows * columns)]
            lines = np.array(some).reshape(rows, columns, height, width)
            large.append(
                lines.swapaxes(1, 2).reshape(rows * height, columns * width).copy()
            )
    return large


def cut_windows(
    objects: Sequence[Object],
    window: tuple[int, int],
    margin: float = 0.0,
    jitter: Jitter | None = None,
    mirror: bool = False,
    seed: int = 0,
    progress: Callable = iter,
) -> np.ndarray:
    """Cuts windows around objects.

    A box grows to the window's aspect; of a whole picture it is the largest part in
    the middle. What lies out of a picture repeats its border.

    Args:
        objects: each at least as large as the window.
        window: width and height in pixels.
        margin: around a box, as a share of its sides.
        jitter: how copies are moved; None for no copies.
        mirror: whether every window comes a second time, mirrored.
        seed: of the movements.
        progress: wraps the objects while they are read.

    Returns:
        uint8 `[n, height, width]`, an object's windows one after another.
    """
    jitter = jitter or Jitter()
    random = np.random.default_rng(seed)
    found, last, picture = [], None, None
    for one in progress(objects):
        if last is None or one.image is not last:
            last, picture = one.image, read_gray(one.image)
        center, size = frame(one, picture.shape[::-1], window, margin)
        for copy in range(1 + jitter.copies):
            moved, scale, degrees = np.zeros(2), 1.0, 0.0
            if copy:
                moved = random.uniform(-jitter.shift, jitter.shift, 2) * size
                scale = math.exp(random.uniform(-1, 1) * math.log1p(jitter.scale))
                degrees = random.uniform(-jitter.degrees, jitter.degrees)
            cut = sample(picture, center + moved, size * scale, window, degrees)
            found += [cut, cut[:, ::-1]] if mirror else [cut]
    return np.stack(found) if found else np.zeros((0, *window[::-1]), np.uint8)


def frame(one: Object, size, window, margin: float = 0.0):
    """Returns the middle and the sides of an object's frame in its picture.

    Args:
        one: the object.
        size: width and height of its picture.
        window: width and height, whose aspect the frame has.
        margin: as in `cut_windows`.
    """
    window = np.array(window, float)
    if one.box is None:
        sides = np.array(size, float)
        return sides / 2, window * (sides / window).min()
    low, high = np.array(one.box[:2], float), np.array(one.box[2:], float)
    sides = (high - low) * (1 + 2 * margin)
    return (low + high) / 2, window * (sides / window).max()


def sample(
    picture, center, sides, window, degrees: float = 0.0, finest: int = FINEST
) -> np.ndarray:
    """Cuts a frame out of a picture and makes it as large as a window.

    Args:
        picture: uint8 `[height, width]`.
        center: x, y of the frame's middle in pixels.
        sides: width and height of the frame in pixels.
        window: width and height in pixels.
        degrees: by which the frame is turned.
        finest: lines that a window's pixel is the mean of at most; 1 skips what lies
            between, as a detector's pyramid does.

    Returns:
        uint8 `[height, width]`.
    """
    # Finer than the window, so that a pixel becomes the mean of those that it covers.
    fine = int(np.clip(math.ceil(sides[0] / window[0] - 0.01), 1, finest))
    width, height = window[0] * fine, window[1] * fine
    scale = sides[0] / width
    cosine = scale * math.cos(math.radians(degrees))
    sine = scale * math.sin(math.radians(degrees))
    # From the middles of the fine pixels to those of the picture's.
    turn = np.array([[cosine, -sine], [sine, cosine]])
    offset = center - 0.5 - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
    cut = cv2.warpAffine(
        picture,
        np.column_stack([turn, offset]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(cut, tuple(window), interpolation=cv2.INTER_AREA)
