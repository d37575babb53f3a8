"""Sets of TensorFlow Datasets, where that package is installed.

Convention: a `bbox` of TFDS is (ymin, xmin, ymax, xmax) as fractions of the picture; it
becomes xyxy in pixels. The pictures stay encoded as they are stored, in memory.
"""

import os

from mlcvtf.data.places import Place, picture_size
from mlcvtf.data.records import Record, RecordSet, with_boxes
from mlcvtf.errors import InputError


def read_tfds(name: str, split: str, folder: str | os.PathLike | None = None,
              download: bool = False) -> RecordSet:
    """Reads a split with objects or with a class per picture.

    Args:
        name: of the set, such as "voc/2007".
        split: such as "train" or "train[:10%]".
        folder: where TFDS keeps its sets; its own default if None.
        download: whether a set that is not there may be fetched.

    Returns:
        Records with boxes where the set has `objects`, else with a label.

    Raises:
        InputError: TFDS is not installed, it cannot give this set, or the set has
            neither.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError("sets of TensorFlow Datasets need the package "
                         "tensorflow-datasets, which is not installed") from None
    try:
        rows, info = tfds.load(
            name, split=split, data_dir=folder, download=download, with_info=True,
            decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:
        # Names, splits, places and versions fail in as many ways.
        raise InputError(f"TensorFlow Datasets must give {name} ({split}): "
                         f"{' '.join(str(error).split())[:200]}") from None
    has_objects = "objects" in info.features
    if "image" not in info.features or not (has_objects or "label" in info.features):
        raise InputError(f"a set has an image, and objects or a label; {name} has "
                         f"{', '.join(info.features)}")
    feature = info.features["objects"] if has_objects else info.features
    make = _with_objects if has_objects else _with_label
    return RecordSet(
        [make(Place(f"{name} {split} {number}", data=bytes(row["image"])), row)
         for number, row in enumerate(tfds.as_numpy(rows))],
        tuple(feature["label"].names), "boxes" if has_objects else "label")


def _with_label(place, row):
    return Record(place, label=int(row["label"]))


def _with_objects(place, row):
    size, objects = picture_size(place), row["objects"]
    if size is None:
        return with_boxes(place, None, [], [])
    width, height = size
    boxes = [(x1 * width, y1 * height, x2 * width, y2 * height)
             for y1, x1, y2, x2 in objects["bbox"]]
    return with_boxes(place, size, boxes, objects["label"],
                      objects.get("is_crowd", ()), objects.get("is_difficult", ()))
