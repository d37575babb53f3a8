"""From records to arrays of one fixed shape: decoded, fitted, padded.

The same function feeds `tf.data` and a `PyDataset`, so that both give equal arrays.
NumPy, OpenCV and Pillow; their decoding and resizing let other threads run meanwhile.
"""

import threading
from collections.abc import Callable

import cv2
import numpy as np

from mlcvtf.data.order import Order
from mlcvtf.data.places import Place, read_bytes
from mlcvtf.data.records import (
    Record,
    RecordSet,
    check_boxes,
    read_image,
    read_mask,
    without_area,
)
from mlcvtf.errors import InputError
from mlcvtf.video.pictures import decode_picture

FITS = ("letterbox", "stretch")
ON_BAD_IMAGE = ("fail", "skip")
ON_BAD_BOX = ("fail", "clip")
# What a mask says where there is no picture; as labels, it is never a class.
NOTHING = -1


class Examples:
    """Makes the example of a record.

    Args:
        record_set: what a reader gave; its `kind` decides on the target.
        size: height and width in pixels of every picture.
        fit: "letterbox" keeps the shape, in the upper left corner on black, as the
            exported detectors do; "stretch" fills the size.
        max_boxes: rows of the boxes; the most that a record has by default.
        with_crowd: whether crowd regions and difficult objects are among the boxes,
            marked in `crowd`, for evaluation; left out for training.
        on_bad_image: "fail" stops at a picture that cannot be used, "skip" takes the
            next one of the order in its place.
        on_bad_box: "fail" stops at a box that reaches out of its picture or is
            empty; "clip" cuts it to the picture and drops it when nothing is left.
        cache: whether fitted pictures stay in memory, `height * width * 3` bytes each
            (twice that with a pair).

    Attributes:
        replaced: name of each picture that had to be replaced, to the reason.
        replacements: how many times a picture stood in for another.

    Raises:
        InputError: a setting or a record that cannot be used.
    """

    def __init__(self, record_set: RecordSet, size: tuple[int, int],
                 fit: str = "letterbox", max_boxes: int | None = None,
                 with_crowd: bool = False, on_bad_image: str = "fail",
                 on_bad_box: str = "fail", cache: bool = False):
        for value, known, what in ((fit, FITS, "fit"),
                                   (on_bad_image, ON_BAD_IMAGE, "on_bad_image"),
                                   (on_bad_box, ON_BAD_BOX, "on_bad_box")):
            if value not in known:
                raise InputError(f"{what} is one of {', '.join(known)}, received "
                                 f"{value}")
        self.record_set = record_set
        self.kind = record_set.kind
        self.size = tuple(size)
        self.fit = fit
        self.with_crowd = with_crowd
        self.on_bad_image = on_bad_image
        self.on_bad_box = on_bad_box
        self.replaced = {}
        self.replacements = 0
        self._cache = {} if cache else None
        self._lock = threading.Lock()
        most = max((len(record.boxes) for record in record_set.records), default=0)
        self.max_boxes = max(1, most) if max_boxes is None else max_boxes
        if self.kind == "boxes" and most > self.max_boxes:
            raise InputError(f"a picture has at most max_boxes={self.max_boxes} boxes, "
                             f"received {most}")
        for record in record_set.records:
            if on_bad_box == "fail" and record.width is not None:
                check_boxes(record, record.width, record.height)

    def __len__(self):
        return len(self.record_set.records)

    def specification(self) -> tuple[tuple, dict[str, tuple]]:
        """Says what `example` gives.

        Returns:
            Shape and dtype of the picture, and of each target by name.
        """
        targets = {
            "boxes": {"boxes": ((self.max_boxes, 4), np.float32),
                      "labels": ((self.max_boxes,), np.int32)},
            "label": {"label": ((), np.int32)},
            "mask": {"mask": (self.size, np.int32)},
            "pair": {"pair": ((*self.size, 3), np.uint8)},
        }[self.kind]
        if self.kind == "boxes" and self.with_crowd:
            targets["crowd"] = ((self.max_boxes,), np.bool_)
        return ((*self.size, 3), np.uint8), targets

    def at(self, order: Order, epoch: int, position: int) -> tuple[np.ndarray, dict]:
        """Makes the example at a position of an order.

        With `on_bad_image="skip"` it is the next one of the order that can be used,
        which is a function of the position alone, as is the order.

        Raises:
            InputError: names the picture that cannot be used, or says that none can.
        """
        for offset in range(order.count):
            index = order.record(epoch, position + offset)
            try:
                example = self.example(index)
            except InputError as error:
                if self.on_bad_image == "fail":
                    raise
                with self._lock:
                    name = str(self.record_set.records[index].image)
                    self.replaced[name] = str(error)
                continue
            if offset:
                with self._lock:
                    self.replacements += 1
            return example
        raise InputError(f"a set has pictures that can be used, of {order.count} here "
                         f"none can: {next(iter(self.replaced.values()))}")

    def example(self, index: int) -> tuple[np.ndarray, dict]:
        """Makes the example of a record.

        Returns:
            uint8 `[height, width, 3]` RGB, and a dict as `specification` says:
            "boxes" float32 `[max_boxes, 4]` xyxy in pixels of the fitted picture, -1
            where there is none, and "labels" int32 `[max_boxes]`, -1 there; "label"
            int32; "mask" int32 `[height, width]`, -1 beside the picture; or "pair"
            uint8 `[height, width, 3]`.

        Raises:
            InputError: the picture or what belongs to it cannot be used.
        """
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        record = self.record_set.records[index]
        image = read_image(record)
        height, width = image.shape[:2]
        made = self._fit(image), self._targets(record, width, height)
        if self._cache is not None:
            self._cache[index] = made
        return made

    def _targets(self, record: Record, width: int, height: int) -> dict:
        if self.kind == "boxes":
            return self._boxes(record, width, height)
        if self.kind == "label":
            return {"label": np.int32(record.label)}
        if self.kind == "mask":
            mask = read_mask(_required(record.mask, record, "mask"))
        else:
            mask = _decode(_required(record.pair, record, "partner"))
        if mask.shape[:2] != (height, width):
            raise InputError(
                f"a {self.kind} has the size of its picture, {width}x{height} pixels "
                f"of {record.image}, received {mask.shape[1]}x{mask.shape[0]}")
        if self.kind == "pair":
            return {"pair": self._fit(mask)}
        return {"mask": self._fit_mask(mask)}

    def _boxes(self, record, width, height):
        """Returns the record's boxes in the fitted picture, padded."""
        if self.on_bad_box == "fail":
            check_boxes(record, width, height)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(record.boxes, 0, limits)
        ignored = record.crowd | record.difficult
        # Clipping may leave nothing of a box that reaches out a little, too.
        keep = ~without_area(boxes)
        if not self.with_crowd:
            keep &= ~ignored
        boxes, count = boxes[keep], int(keep.sum())
        columns, rows = self._inner(width, height)
        scale = np.array([columns / width, rows / height] * 2, np.float32)
        targets = {
            "boxes": np.full((self.max_boxes, 4), -1, np.float32),
            "labels": np.full(self.max_boxes, -1, np.int32),
        }
        targets["boxes"][:count] = boxes * scale
        targets["labels"][:count] = record.labels[keep]
        if self.with_crowd:
            targets["crowd"] = np.zeros(self.max_boxes, bool)
            targets["crowd"][:count] = ignored[keep]
        return targets

    def _inner(self, width, height):
        """Returns width and height of the fitted picture without its margin."""
        rows, columns = self.size
        if self.fit == "stretch":
            return columns, rows
        scale = min(columns / width, rows / height)
        return (min(columns, max(1, round(width * scale))),
                min(rows, max(1, round(height * scale))))

    def _fit(self, image):
        size = self._inner(image.shape[1], image.shape[0])
        smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        inner = cv2.resize(image, size, interpolation=way)
        if inner.shape[:2] == self.size:
            return inner
        canvas = np.zeros((*self.size, 3), np.uint8)
        canvas[:size[1], :size[0]] = inner
        return canvas

    def _fit_mask(self, mask):
        """Resizes by the nearest pixel's value, which alone is one that occurs."""
        columns, rows = self._inner(mask.shape[1], mask.shape[0])
        down = ((np.arange(rows) + 0.5) * mask.shape[0] / rows).astype(int)
        across = ((np.arange(columns) + 0.5) * mask.shape[1] / columns).astype(int)
        canvas = np.full(self.size, NOTHING, np.int32)
        canvas[:rows, :columns] = mask[down[:, None], across]
        return canvas


def stack(examples: list, weights: list[float]) -> tuple:
    """Joins examples to a batch.

    Returns:
        float32 `[batch, height, width, 3]` in 0..255; the targets with a first axis,
        pairs as float32, a class as the array itself; and float32 `[batch]` weights.
    """
    images = np.stack([image for image, _ in examples]).astype(np.float32)
    targets = {key: np.stack([target[key] for _, target in examples])
               for key in examples[0][1]}
    target = simplified(targets, lambda values: values.astype(np.float32))
    return images, target, np.array(weights, np.float32)


def simplified(targets: dict, to_float: Callable):
    """Gives boxes as a dict and every other target as the array itself.

    Args:
        targets: by name.
        to_float: makes float32 of the pixels of a partner.
    """
    if "boxes" in targets:
        return targets
    (name, values), = targets.items()
    return to_float(values) if name == "pair" else values


def _decode(place: Place):
    return decode_picture(read_bytes(place), str(place))


def _required(place, record, what):
    if place is None:
        raise InputError(f"every picture has a {what}, {record.image} has none")
    return place
