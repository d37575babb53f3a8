"""YOLO text: one line per object, one text file per picture.

Convention: a line is `class cx cy width height`, centre and size as fractions of the
picture's width and height; it becomes xyxy in pixels. A line with more coordinates is a
polygon (`class x1 y1 x2 y2 ...`), of which the bounding box is taken. A picture without
a text file has no objects. The picture's size comes from its own header.
"""

import math
import os
import pathlib
import re
from collections.abc import Sequence

from mlcvtf.data.places import Place, Root, picture_size
from mlcvtf.data.records import RecordSet, with_boxes
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

NAME_LISTS = ("classes.txt", "obj.names", "names.txt")
NAME_TABLES = ("data.yaml", "dataset.yaml", "data.yml")
MAX_BYTES = 10_000_000
# Where no names say how many there are; a damaged line must not make a list of names.
MOST_CLASSES = 100_000


def read_yolo(root: str | os.PathLike, names: Sequence[str] | None = None,
              split: str | None = None) -> RecordSet:
    """Reads a folder in the form of YOLO.

    Args:
        root: has `images/` and `labels/` of the same structure, or a text file beside
            each picture.
        names: all classes in order; by default those of `classes.txt`, `obj.names`,
            `names.txt`, or of `names:` in `data.yaml`; without one, the numbers.
        split: folder under `images/` and `labels/` (or one that has both), or None
            for everything.

    Returns:
        Records with boxes, sorted by name. Of a picture whose header cannot be read
        the boxes are left out, since their pixels are unknown.

    Raises:
        InputError: no such folder, no pictures, a line that is not of this form, or a
            class that has no name.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise InputError(f"a YOLO set is a folder, {printable(root)} is none")
    names = _names(root) if names is None else tuple(names)
    pictures = {
        name: place for name, place in Root(root).pictures().items()
        if split is None or split in pathlib.PurePosixPath(name).parts[:-1]
    }
    if not pictures:
        raise InputError(f"a YOLO set has pictures, {printable(root)} has none"
                         + (f" in {printable(split)}" if split else ""))
    records, highest = [], -1
    for name, place in pictures.items():
        objects = parse_lines(root / labels_name(name), len(names) if names else None)
        record = _record(place, objects)
        highest = max([highest, *(label for label, _ in objects)])
        records.append(record)
    return RecordSet(records, names or tuple(str(i) for i in range(highest + 1)),
                     "boxes")


def labels_name(picture: str) -> str:
    """Names the text file of a picture.

    >>> labels_name("images/train/one.jpg"), labels_name("one.jpg")
    ('labels/train/one.txt', 'one.txt')
    """
    path = pathlib.PurePosixPath(picture)
    parts = list(path.parts)
    if "images" in parts[:-1]:
        # The last such folder, as in images/images/one.jpg.
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return pathlib.PurePosixPath(*parts).with_suffix(".txt").as_posix()


def parse_lines(path: pathlib.Path, classes: int | None) -> list[tuple[int, list]]:
    """Reads one text file.

    Args:
        path: need not be there.
        classes: how many classes there are, or None for any number.

    Returns:
        A class and the box, xyxy as fractions of the picture, per object.

    Raises:
        InputError: a line is not of this form; it is named.
    """
    result = []
    for number, line in enumerate(_text(path, "").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            label, *values = (float(word) for word in line.split())
            box = _box(values)
            if label != int(label) or not 0 <= label < MOST_CLASSES:
                raise ValueError
        except (ValueError, OverflowError):
            raise InputError(
                "a line is a class number and four fractions (or a polygon of six or "
                f"more), line {number} of {printable(path)} is not: "
                f"{printable(line)[:80]}") from None
        if classes is not None and label >= classes:
            raise InputError(f"class numbers are below {classes}, the number of names, "
                             f"line {number} of {printable(path)} has {int(label)}")
        result.append((int(label), box))
    return result


def _box(values):
    if not all(map(math.isfinite, values)):
        raise ValueError
    if len(values) == 4:
        x, y, width, height = values
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if len(values) < 6 or len(values) % 2:
        raise ValueError
    return [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]


def _record(place: Place, objects):
    size = picture_size(place)
    if size is None:
        return with_boxes(place, None, [], [])
    width, height = size
    boxes = [[box[0] * width, box[1] * height, box[2] * width, box[3] * height]
             for _, box in objects]
    return with_boxes(place, size, boxes, [label for label, _ in objects])


def _names(root):
    """Finds the names of the classes; None where no file has them."""
    for name in NAME_LISTS:
        if (root / name).is_file():
            lines = _text(root / name).splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    for name in NAME_TABLES:
        if (root / name).is_file():
            return names_of_yaml(_text(root / name), printable(root / name))
    return None


def names_of_yaml(text: str, shown: str) -> tuple[str, ...]:
    r"""Reads `names:` of a YAML file, in the three forms that are in use.

    A YAML parser would be one more dependency, for one list.

    Raises:
        InputError: there is no such list, or its numbers are not 0, 1, 2 ...

    >>> names_of_yaml("nc: 2\nnames: ['a', b]", "data.yaml")
    ('a', 'b')
    >>> names_of_yaml("names:\n  0: a\n  1: b\nnc: 2", "data.yaml")
    ('a', 'b')
    """
    inline = re.search(r"^names:\s*\[([^\]]*)\]", text, re.MULTILINE)
    line = r"[ \t]*(?:-|[ \t]\d+:)[^\n]*(?:\n|\Z)"
    block = re.search(rf"^names:[ \t]*(?:#.*)?\n((?:{line})+)", text, re.MULTILINE)
    if inline:
        entries = [word for word in inline[1].split(",") if word.strip()]
    elif block:
        entries = []
        for position, line in enumerate(block[1].splitlines()):
            key, value = re.match(r"\s*(?:-|(\d+):)(.*)", line).groups()
            if key is not None and int(key) != position:
                raise InputError(f"names are numbered 0, 1, 2 ..., {shown} has {key} "
                                 f"in place {position}")
            entries.append(value)
    else:
        raise InputError("class names are a list `names:` as [a, b], as lines `- a`, "
                         f"or as lines `0: a`, {shown} has none")
    return tuple(entry.split(" #")[0].strip().strip("'\"") for entry in entries)


def _text(path, absent=None):
    """Reads a small text file; gives `absent` where there is none, unless None."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if absent is not None:
            return absent
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError("annotations come from a readable text file, "
                         f"{printable(path)}: {reason}") from None
    if len(text) > MAX_BYTES:
        raise InputError(f"annotations have at most {MAX_BYTES} characters, "
                         f"{printable(path)} has more")
    return text
