"""COCO JSON: instances with boxes, segmentations and key points.

Convention: `bbox` is (x, y, width, height) in pixels, 0-based, sub-pixel values
allowed; it becomes (x, y, x + width, y + height). Category numbers may have gaps; the
labels are their positions in ascending order. `iscrowd` marks regions of many objects;
`difficult`, which some sets took over from VOC, objects that do not count.
`keypoints` holds the number of a pixel from 0 in each direction and a visibility; with
0.5 added, for its middle, they become landmarks, and NaN where the visibility is 0.
"""

import json
import math
import os
import pathlib

import numpy as np

from mlcvtf.data.places import Root
from mlcvtf.data.records import RecordSet, with_boxes
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

# COCO's own largest file has 0.45 GB.
MAX_BYTES = 2_000_000_000


def read_coco(annotations: str | os.PathLike,
              images: str | os.PathLike | None = None,
              with_segments: bool = False) -> RecordSet:
    """Reads a file of COCO instances.

    Args:
        annotations: the JSON file.
        images: folder or ZIP archive with the pictures; by default, beside the file
            or beside its folder, the archive or folder that is called as it is (without
            a leading `instances_`), then `images` beside it, or its own folder.
        with_segments: whether records keep the segmentations, as they are in the
            file; in memory those of COCO itself are far larger than all boxes.

    Returns:
        Records with boxes in the order of the file's `images`; pictures without
        annotation among them.

    Raises:
        InputError: there is no such file, it is no JSON, or not of this form.
    """
    path = pathlib.Path(annotations)
    return parse_coco(read_json(path), path, images, with_segments)


def parse_coco(content, path: pathlib.Path,
               images: str | os.PathLike | None = None,
               with_segments: bool = False) -> RecordSet:
    """Does what `read_coco` does with JSON that is parsed already.

    Args:
        content: the parsed file.
        path: where it was.
        images: as in `read_coco`.
        with_segments: as in `read_coco`.

    Raises:
        InputError: it is not of this form.
    """
    shown = printable(path)
    if not is_coco(content):
        raise InputError("a COCO file has the lists images, annotations (each with a "
                         f"bbox) and categories, {shown} has not")
    root = Root(images if images is not None else _beside(path))
    categories = _by_id(content["categories"], "category", shown)
    ids = tuple(sorted(categories))
    label = {number: i for i, number in enumerate(ids)}
    pictures = _by_id(content["images"], "image", shown)
    boxes = {number: [] for number in pictures}
    for position, annotation in enumerate(content["annotations"]):
        try:
            boxes[annotation["image_id"]].append(_box(annotation, label))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = (f"lacks or has an unknown {error}" if isinstance(error, KeyError)
                      else " ".join(str(error).split()))
            raise InputError(
                "an annotation has a known image_id and category_id and a bbox of four "
                f"numbers, number {position} (from 0) of {shown}: {reason}") from None
    return RecordSet(
        [_record(root, picture, boxes[number], shown, with_segments)
         for number, picture in pictures.items()],
        _names(categories, ids), "boxes", ids)


def read_json(path: str | os.PathLike):
    """Reads a JSON file.

    Raises:
        InputError: it cannot be read, has over `MAX_BYTES` bytes or is no JSON.
    """
    shown = printable(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"annotations have at most {MAX_BYTES} bytes, {shown} has "
                             "more")
        return json.loads(data)
    except OSError as error:
        raise InputError(f"annotations come from a readable file, {shown}: "
                         f"{error.strerror}") from None
    except (ValueError, RecursionError) as error:
        # Also what is no UTF-8, and numbers of too many digits.
        raise InputError(f"annotations must be whole JSON, {shown} is not: "
                         f"{' '.join(str(error).split())[:200]}") from None


def is_coco(content) -> bool:
    """Says whether parsed JSON has the lists of COCO instances.

    Captions, key points without boxes and panoptic segments have not.
    """
    return (
        isinstance(content, dict)
        and all(isinstance(content.get(key), list)
                for key in ("images", "annotations", "categories"))
        and all(isinstance(one, dict) and "bbox" in one
                for one in content["annotations"][:1])
    )


def _beside(path):
    """Finds the pictures of a file of annotations."""
    name = path.stem.removeprefix("instances_")
    for folder in (path.parent, path.parent.parent):
        for place in (folder / f"{name}.zip", folder / name):
            if place.exists():
                return place
    images = path.parent / "images"
    return images if images.is_dir() else path.parent


def _names(categories, ids):
    """Names the classes; some tools write one name twice, once as a parent."""
    names = [str(categories[number].get("name", number)) for number in ids]
    return tuple(name if names.count(name) == 1 else f"{name} ({number})"
                 for name, number in zip(names, ids, strict=True))


def _by_id(entries, what, shown):
    result = {}
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(number, int | str) or number in result:
            raise InputError(f"every {what} has an id of its own, {shown} has one with "
                             f"{printable(str(number))[:50]}")
        result[number] = entry
    if len({type(number) for number in result}) > 1:
        raise InputError(f"every {what} id is a number, or every one a text, {shown} "
                         "has both")
    return result


def _box(annotation, label):
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError(f"bbox {[x, y, width, height]}")
    return ((x, y, x + width, y + height), label[annotation["category_id"]],
            bool(annotation.get("iscrowd", 0)), bool(annotation.get("difficult", 0)),
            annotation.get("segmentation"), _points(annotation.get("keypoints")))


def _points(values):
    """Returns float32 `[k, 2]`, or None where there are no key points."""
    if not values:
        return None
    points = np.array(values, np.float32).reshape(-1, 3)
    return np.where(points[:, 2:] > 0, points[:, :2] + 0.5, np.float32(np.nan))


def _record(root, picture, boxes, shown, with_segments):
    name = picture.get("file_name")
    size = picture.get("width"), picture.get("height")
    if not isinstance(name, str):
        raise InputError(f"every image has a file_name, {shown} has one without")
    if size == (None, None):
        size = None
    elif not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(f"width and height are whole numbers over 0, {shown} has "
                         f"{printable(str(size))[:50]} for {printable(name)}")
    *columns, segments, points = (zip(*boxes, strict=True) if boxes else ((),) * 6)
    record = with_boxes(root.place(name), size, *columns)
    counts = {len(one) for one in points if one is not None}
    if len(counts) > 1:
        raise InputError("every object has the same number of key points, "
                         f"{printable(name)} in {shown} has {sorted(counts)}")
    if counts:
        unknown = np.full((*counts, 2), np.nan, np.float32)
        record = record._replace(landmarks=np.stack(
            [unknown if one is None else one for one in points]))
    return record._replace(segments=segments) if with_segments else record
