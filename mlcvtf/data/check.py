"""Looks for what is wrong with a data set before a model learns from it."""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.data.places import read_bytes
from mlcvtf.data.records import (
    Record,
    RecordSet,
    describe_box,
    out_of_range,
    read_mask,
    without_area,
)
from mlcvtf.errors import InputError
from mlcvtf.video.pictures import decode_picture

# What a finding of each kind means; problems first, then what may be as it should.
PROBLEMS = {
    "unreadable": "pictures that cannot be read",
    "size": "pictures of another size than annotated",
    "empty_box": "boxes without area",
    "out_of_range_box": "boxes that reach out of their picture",
    "mask": "masks that are missing or cannot be read",
    "mask_size": "masks of another size than their picture",
    "duplicate": "pictures that are there more than once",
}
NOTES = {
    "empty": "pictures without any box",
    "near_duplicate": "pictures that look nearly alike",
}
SIDE = 16
# Of 256 signs of neighbouring differences in a thumbnail, and of its 272 grey values
# on average: re-encoded and resized copies stay below both, other pictures do not.
MOST_SIGNS, MOST_LEVELS = 20, 6.0
# A flat picture has no signs to compare.
LEAST_CONTRAST = 8.0
ROWS = 1024


class Findings(NamedTuple):
    """What `check` found.

    Attributes:
        parts: figures of each part by its name, ready for JSON.
        problems: kind (`PROBLEMS`) to one line each.
        notes: kind (`NOTES`) to one line each.
    """

    parts: dict
    problems: dict
    notes: dict


class _Seen(NamedTuple):
    """A picture that was read: where, its hash, its thumbnail."""

    name: str
    digest: bytes
    thumbnail: np.ndarray


def check(parts: dict[str, RecordSet],
          over: Callable[[list], Iterable] = iter) -> Findings:
    """Reads every picture and mask once and looks at everything.

    Args:
        parts: record sets by name, which belong to one data set: a picture of one
            that is in another as well is a finding.
        over: iterates over the list of records, perhaps showing progress.

    Returns:
        The findings, in the order of the records.
    """
    findings = Findings({}, {kind: [] for kind in PROBLEMS},
                        {kind: [] for kind in NOTES})
    everything = [(part, record) for part, record_set in parts.items()
                  for record in record_set.records]
    sizes = {part: [] for part in parts}
    values = {part: {} for part in parts}
    seen = []
    for part, record in over(everything):
        size = _look_at_picture(record, findings.problems, seen)
        if size is not None:
            sizes[part].append(size)
        _look_at_boxes(record, size, findings.problems)
        if parts[part].kind == "boxes" and not len(record.boxes):
            findings.notes["empty"].append(str(record.image))
        if parts[part].kind == "mask":
            _look_at_mask(record, size, findings.problems, values[part])
    for part, record_set in parts.items():
        findings.parts[part] = figures(record_set, sizes[part], values[part])
    findings.problems["duplicate"] += duplicates(seen)
    findings.notes["near_duplicate"] += near_duplicates(seen)
    return findings


def figures(record_set: RecordSet, sizes: list, values: dict) -> dict:
    """Counts what a part has.

    Args:
        record_set: the part.
        sizes: width and height in pixels of each picture that was read.
        values: mask value to number of pixels.
    """
    records = record_set.records
    result = {"pictures": len(records)}
    if sizes:
        for name, numbers in zip(("width", "height"), zip(*sizes, strict=True),
                                 strict=True):
            result[name] = _range(numbers)
    counts = np.zeros(len(record_set.names), int)
    if record_set.kind == "boxes":
        boxes = np.concatenate([np.zeros((0, 4)), *(r.boxes for r in records)])
        for record in records:
            np.add.at(counts, record.labels, 1)
        result |= {
            "boxes": len(boxes),
            "crowd": int(sum(record.crowd.sum() for record in records)),
            "difficult": int(sum(record.difficult.sum() for record in records)),
            "empty_pictures": sum(not len(record.boxes) for record in records),
            "most_boxes": max((len(record.boxes) for record in records), default=0),
        }
        if len(boxes):
            result["box_width"] = _range(boxes[:, 2] - boxes[:, 0])
            result["box_height"] = _range(boxes[:, 3] - boxes[:, 1])
    if record_set.kind == "label":
        np.add.at(counts, [record.label for record in records], 1)
    if record_set.kind == "mask":
        total = sum(values.values())
        result["mask_values"] = {str(value): count / total
                                 for value, count in sorted(values.items())}
    else:
        result["classes"] = dict(zip(record_set.names, counts.tolist(), strict=True))
    return result


def duplicates(seen: list) -> list[str]:
    """Lists the groups of pictures whose files are equal byte for byte."""
    groups = {}
    for picture in seen:
        groups.setdefault(picture.digest, []).append(picture.name)
    return [" = ".join(names) for names in groups.values() if len(names) > 1]


def near_duplicates(seen: list) -> list[str]:
    """Lists the pairs of pictures that look nearly alike, except equal files.

    A difference hash (Krawetz, 2013): the signs of differences between neighbours of a
    thumbnail; the thumbnails' grey values must agree as well. Every picture is
    compared with every other, which takes seconds for 10,000 and minutes for 100,000.
    """
    seen = list({picture.digest: picture for picture in seen}.values())
    seen = [p for p in seen if p.thumbnail.std() >= LEAST_CONTRAST]
    if len(seen) < 2:
        return []
    grey = np.stack([picture.thumbnail for picture in seen]).astype(np.float32)
    signs = np.where(grey[:, :, 1:] > grey[:, :, :-1], 1.0, -1.0).astype(np.float32)
    signs = signs.reshape(len(seen), -1)
    least = signs.shape[1] - 2 * MOST_SIGNS
    pairs = []
    for start in range(0, len(seen), ROWS):
        alike = signs[start:start + ROWS] @ signs[start:].T >= least
        for i, j in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
            i, j = i + start, j + start
            if np.abs(grey[i] - grey[j]).mean() <= MOST_LEVELS:
                pairs.append(f"{seen[i].name} ~ {seen[j].name}")
    return pairs


def _look_at_picture(record: Record, problems, seen):
    """Returns width and height of the picture, or None if it cannot be read."""
    try:
        data = read_bytes(record.image)
        image = decode_picture(data, str(record.image))
    except InputError as error:
        problems["unreadable"].append(str(error))
        return None
    height, width = image.shape[:2]
    if record.width is not None and (record.width, record.height) != (width, height):
        problems["size"].append(f"{record.image}: {width}x{height}, annotated "
                                f"{record.width}x{record.height}")
    small = cv2.resize(image, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    seen.append(_Seen(str(record.image), hashlib.sha256(data).digest(),
                      cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)))
    return width, height


def _look_at_boxes(record, size, problems):
    for box in record.boxes[without_area(record.boxes)]:
        problems["empty_box"].append(f"{record.image}: {describe_box(box)}")
    if size is None:
        size = record.width, record.height
    if size[0] is None:
        return
    for box in record.boxes[out_of_range(record.boxes, *size)]:
        problems["out_of_range_box"].append(
            f"{record.image}: {describe_box(box)} in {size[0]}x{size[1]}")


def _look_at_mask(record, size, problems, values):
    if record.mask is None:
        problems["mask"].append(f"{record.image} has none")
        return
    try:
        mask = read_mask(record.mask)
    except InputError as error:
        problems["mask"].append(str(error))
        return
    if size is not None and mask.shape[::-1] != tuple(size):
        problems["mask_size"].append(
            f"{record.mask}: {mask.shape[1]}x{mask.shape[0]}, the picture "
            f"{size[0]}x{size[1]}")
    for value, count in zip(*np.unique(mask, return_counts=True), strict=True):
        values[int(value)] = values.get(int(value), 0) + int(count)


def _range(numbers):
    """Returns the least, the median and the largest, rounded for reading."""
    least, middle, most = np.quantile(np.asarray(numbers, np.float64), (0, 0.5, 1))
    return [round(float(number), 2) for number in (least, middle, most)]
