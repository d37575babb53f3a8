"""From records to arrays of one fixed shape: decoded, fitted, augmented, padded.

The same function feeds `tf.data` and a `PyDataset`, so that both give equal arrays.
NumPy, OpenCV and Pillow; their decoding and resizing let other threads run meanwhile.
"""

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np

from mlcvtf.data import samples, segments
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
from mlcvtf.data.sample_cache import SampleCache
from mlcvtf.data.samples import Draw, Sample
from mlcvtf.errors import InputError
from mlcvtf.video.pictures import decode_picture

FITS = ("letterbox", "stretch")
ON_BAD_IMAGE = ("fail", "skip")
ON_BAD_BOX = ("fail", "clip")
MASKS = ("none", "augment", "target")
PADDING = {"boxes": -1, "labels": -1, "crowd": False, "landmarks": np.nan, "masks": 0}


class Examples:
    """Makes the example of a record.

    Args:
        record_set: what a reader gave; its `kind` decides on the target.
        size: height and width in pixels of every picture.
        fit: "letterbox" keeps the shape, in the upper left corner on black, as the
            exported detectors do; "stretch" fills the size.
        max_boxes: rows of the boxes; by default the most that a record has, times
            the pictures that `augment` joins. Of more after augmentation, the largest
            stay.
        with_crowd: whether crowd regions and difficult objects are among the boxes,
            marked in `crowd`, for evaluation; left out for training.
        on_bad_image: "fail" stops at a picture that cannot be used, "skip" takes the
            next one of the order in its place.
        on_bad_box: "fail" stops at a box that reaches out of its picture or is
            empty; "clip" cuts it to the picture and drops it when nothing is left.
        cache: whether fitted pictures stay in memory, `height * width * 3` bytes each
            (twice that with a pair, and a third of it for each object's mask); or a
            folder, in which they stay on disk (`mlcvtf.data.sample_cache`).
        augment: what is done to each example in turn: objects of
            `mlcvtf.data.augment_geometry`, `augment_mixing` and `samples.OnPicture`,
            or any `augmentation(sample, draw)`. All of it is a function of the
            order's seed, the epoch and the position.
        masks: whether the segmentations of objects are drawn: "none", for "augment"
            alone, or as the "target" "masks" too.
        detail: resolution that pictures of a class keep for `augment`, relative to
            `size`: a part that is cut out is then less enlarged.

    Attributes:
        replaced: name of each picture that had to be replaced, to the reason.
        replacements: how many times a picture stood in for another.

    Raises:
        InputError: a setting or a record that cannot be used.
    """

    def __init__(self, record_set: RecordSet, size: tuple[int, int],
                 fit: str = "letterbox", max_boxes: int | None = None,
                 with_crowd: bool = False, on_bad_image: str = "fail",
                 on_bad_box: str = "fail", cache: bool | str | os.PathLike = False,
                 augment: Sequence[Callable[[Sample, Draw], Sample]] = (),
                 masks: str = "none", detail: float = 1.0):
        for value, known, what in ((fit, FITS, "fit"),
                                   (on_bad_image, ON_BAD_IMAGE, "on_bad_image"),
                                   (on_bad_box, ON_BAD_BOX, "on_bad_box"),
                                   (masks, MASKS, "masks")):
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
        self.augment = tuple(augment)
        self.masks = masks
        self.replaced = {}
        self.replacements = 0
        self.detail = detail
        if detail < 1 or (detail > 1 and self.kind != "label"):
            raise InputError("detail is 1 or, with pictures of a class, more; received "
                             f"{detail} with {self.kind}")
        self._lock = threading.Lock()
        most = max((len(record.boxes) for record in record_set.records), default=0)
        if max_boxes is not None and self.kind == "boxes" and most > max_boxes:
            raise InputError(f"a picture has at most max_boxes={max_boxes} boxes, "
                             f"received {most}")
        others = sum(getattr(one, "others", 0) for one in self.augment)
        if others and self.kind == "label":
            raise InputError("pictures of a class are not joined, received "
                             f"{', '.join(type(one).__name__ for one in self.augment)}")
        self.max_boxes = max(1, most * (1 + others)) if max_boxes is None else max_boxes
        self._landmarks = self._count_landmarks()
        self._memory = {} if cache is True else None
        self._disk = None if isinstance(cache, bool) else SampleCache(cache, {
            "size": self.size, "kind": self.kind, "fit": fit, "detail": detail,
            "crowd": with_crowd, "bad box": on_bad_box, "masks": masks != "none",
            "landmarks": self._landmarks})
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
        if self._landmarks:
            targets["landmarks"] = ((self.max_boxes, self._landmarks, 2), np.float32)
        if self.kind == "boxes" and self.masks == "target":
            targets["masks"] = ((self.max_boxes, *self.size), np.uint8)
        return ((*self.size, 3), np.uint8), targets

    def at(self, order: Order, epoch: int, position: int) -> tuple[np.ndarray, dict]:
        """Makes the augmented example at a position of an order.

        With `on_bad_image="skip"` it is the next one of the order that can be used,
        which is a function of the position alone, as is the order.

        Raises:
            InputError: names the picture that cannot be used, or says that none can.
        """
        sample, offset = self._usable(order, epoch, position)
        if offset:
            with self._lock:
                self.replacements += 1
        if self.augment:
            # A spawn key, for NumPy pads a seed with zeros: (1, 0) would be (1,).
            generator = np.random.default_rng(np.random.SeedSequence(
                (order.seed, epoch), spawn_key=(position,)))
            draw = Draw(generator, self.size, lambda: self._usable(
                order, epoch, int(generator.integers(order.count)))[0])
            for augmentation in self.augment:
                sample = augmentation(sample, draw)
        return self._finish(sample)

    def example(self, index: int) -> tuple[np.ndarray, dict]:
        """Makes the example of a record, without augmentation.

        Returns:
            uint8 `[height, width, 3]` RGB, and a dict as `specification` says:
            "boxes" float32 `[max_boxes, 4]` xyxy in pixels of the fitted picture, -1
            where there is none, and "labels" int32 `[max_boxes]`, -1 there; where
            records have landmarks, "landmarks" float32 `[max_boxes, k, 2]`, NaN there;
            with `masks="target"`, "masks" uint8 `[max_boxes, height, width]`; "label"
            int32; "mask" int32 `[height, width]`, -1 beside the picture; or "pair"
            uint8 `[height, width, 3]`.

        Raises:
            InputError: the picture or what belongs to it cannot be used.
        """
        return self._finish(self.sample(index))

    def sample(self, index: int) -> Sample:
        """Makes the sample of a record: of the fitted size, without margin or padding.

        Raises:
            InputError: the picture or what belongs to it cannot be used.
        """
        if self._memory is not None and index in self._memory:
            return self._memory[index]
        record = self.record_set.records[index]
        sample = self._disk.get(index, record) if self._disk else None
        if sample is None:
            image = read_image(record)
            height, width = image.shape[:2]
            sample = Sample(image, **self._targets(record, width, height))
            sample = samples.resize(sample, self._kept(width, height))
            if self._disk:
                self._disk.put(index, sample)
        for values in sample:
            # An augmentation that changed a cached picture would change all epochs.
            if isinstance(values, np.ndarray):
                values.flags.writeable = False
        if self._memory is not None:
            self._memory[index] = sample
        return sample

    def _usable(self, order, epoch, position):
        """Returns the sample at a position or the next usable one, and how far on."""
        for offset in range(order.count):
            index = order.record(epoch, position + offset)
            try:
                return self.sample(index), offset
            except InputError as error:
                if self.on_bad_image == "fail":
                    raise
                with self._lock:
                    name = str(self.record_set.records[index].image)
                    self.replaced[name] = str(error)
        raise InputError(f"a set has pictures that can be used, of {order.count} here "
                         f"none can: {next(iter(self.replaced.values()))}")

    def _finish(self, sample):
        """Fits a sample that may have any size, and pads its objects."""
        # What a resized sample already is stays as it is.
        sample = samples.resize(sample, self._inner(*sample.size[::-1]))
        sample = samples.place(sample, self.size)
        if self.kind != "boxes":
            value = getattr(sample, self.kind)
            return sample.image, {self.kind: np.int32(value) if self.kind == "label"
                                  else value}
        if len(sample.boxes) > self.max_boxes:
            sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
            largest = np.argsort(-sides.prod(axis=1), kind="stable")[:self.max_boxes]
            sample = samples.select(sample, np.sort(largest))
        targets = {}
        for name, (shape, dtype) in self.specification()[1].items():
            targets[name] = np.full(shape, PADDING[name], dtype)
            targets[name][:len(sample.boxes)] = getattr(sample, name)
        return sample.image, targets

    def _targets(self, record: Record, width: int, height: int) -> dict:
        """Reads what belongs to a picture, in its own pixels."""
        if self.kind == "boxes":
            return self._objects(record, width, height)
        if self.kind == "label":
            return {"label": record.label}
        if self.kind == "mask":
            found = read_mask(_required(record.mask, record, "mask"))
        else:
            found = _decode(_required(record.pair, record, "partner"))
        if found.shape[:2] != (height, width):
            raise InputError(
                f"a {self.kind} has the size of its picture, {width}x{height} pixels "
                f"of {record.image}, received {found.shape[1]}x{found.shape[0]}")
        return {self.kind: found}

    def _objects(self, record, width, height):
        """Returns the record's objects that count."""
        if self.on_bad_box == "fail":
            check_boxes(record, width, height)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(record.boxes, 0, limits)
        ignored = record.crowd | record.difficult
        # Clipping may leave nothing of a box that reaches out a little, too.
        keep = ~without_area(boxes)
        if not self.with_crowd:
            keep &= ~ignored
        objects = {"boxes": boxes[keep], "labels": record.labels[keep],
                   "crowd": ignored[keep]}
        if self._landmarks:
            objects["landmarks"] = self._points(record)[keep]
        if self.masks != "none":
            wanted = [one for one, kept in zip(record.segments, keep, strict=False)
                      if kept]
            try:
                objects["masks"] = segments.read_masks(wanted, int(keep.sum()), height,
                                                       width)
            except ValueError as error:
                raise InputError(f"{error} for {record.image}") from None
        return objects

    def _points(self, record):
        if record.landmarks is not None:
            return record.landmarks
        return np.full((len(record.boxes), self._landmarks, 2), np.nan, np.float32)

    def _count_landmarks(self):
        """Returns how many landmarks every object has, which is one number."""
        counts = {record.landmarks.shape[1] for record in self.record_set.records
                  if record.landmarks is not None}
        if len(counts) > 1:
            raise InputError("every object has the same number of landmarks, received "
                             f"{sorted(counts)}")
        return counts.pop() if counts else 0

    def _kept(self, width, height):
        """Returns height and width of the picture that augmentation is given."""
        inner = np.array(self._inner(width, height))
        # Enlarging it would add nothing.
        most = np.maximum(inner, (height, width))
        return tuple(np.minimum((inner * self.detail).round().astype(int), most)
                     .tolist())

    def _inner(self, width, height):
        """Returns height and width of the fitted picture without its margin."""
        rows, columns = self.size
        if self.fit == "stretch":
            return rows, columns
        scale = min(columns / width, rows / height)
        return (min(rows, max(1, round(height * scale))),
                min(columns, max(1, round(width * scale))))


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
