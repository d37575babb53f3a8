"""Collects what a model answers and what is true, and measures both, by kind of truth.

Each kind has three verbs: `truth` takes from a record what belongs to a picture, `add`
takes the model's answer to it, and `result` gives the figures, the figures by class and
the confusion matrix or None. NumPy only; `evaluation` drives them.
"""

import numpy as np

from mlcvtf.data.records import Record, check_boxes, read_mask, without_area
from mlcvtf.errors import InputError
from mlcvtf.metrics import confusion
from mlcvtf.metrics.average_precision import average_precision, coco_average_precision

TOP = 5


class Boxes:
    """Detections and boxes: average precision by COCO's and by VOC's rules.

    Args:
        labels: the model's classes.
        numbers: int `[n]`, the model's class of class i of the set.
        smallest: pixels; boxes with a shorter side below are ignored.
        overlaps: at which VOC's average precision is measured.
    """

    OUTPUTS = {"boxes": 2, "scores": 1, "labels": 1}

    def __init__(self, labels, numbers, smallest, overlaps):
        self._labels, self._numbers = labels, numbers
        self._smallest, self._overlaps = smallest, overlaps
        self._detections, self._truths = [], []

    def truth(self, record: Record, image: np.ndarray) -> dict:
        """Clips boxes to the picture and marks the ignored; InputError on bad ones."""
        height, width = image.shape[:2]
        check_boxes(record, width, height)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(record.boxes, 0, limits)
        # Clipping may leave nothing of a box that reaches out a little.
        keep = ~without_area(boxes)
        small = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) < self._smallest
        return {
            "boxes": boxes[keep],
            "labels": self._numbers[record.labels[keep]],
            "crowd": (record.crowd | record.difficult | small)[keep],
        }

    def add(self, record: Record, truth, outputs: dict) -> None:
        """Takes an answer; InputError where it is none of this task."""
        outputs = _checked(outputs, self.OUTPUTS, record)
        counts = {len(outputs[name]) for name in self.OUTPUTS}
        if len(counts) > 1 or outputs["boxes"].shape[1] != 4:
            raise _wrong("boxes [n, 4], scores [n] and labels [n]", outputs, record)
        if outputs["labels"].max(initial=-1) >= len(self._labels):
            raise InputError(
                f"a detector's labels are those of its card, in 0.."
                f"{len(self._labels) - 1}, received "
                f"{outputs['labels'].max()} for {record.image}"
            )
        self._truths.append(truth)
        self._detections.append(outputs)

    def result(self) -> tuple:
        """Measures; InputError where no box counts."""
        crowd = [np.zeros(0, bool), *(truth["crowd"] for truth in self._truths)]
        if np.concatenate(crowd).all():
            raise InputError(
                "a detector is measured on boxes that count, there are "
                f"none in {len(self._truths)} pictures"
            )
        voc = {
            overlap: average_precision(self._detections, self._truths, overlap)
            for overlap in self._overlaps
        }
        figures = coco_average_precision(self._detections, self._truths)
        figures |= {
            _voc_name(overlap): float(np.mean(list(by_label.values())))
            for overlap, by_label in voc.items()
        }
        return figures, self._by_class(voc), None

    def _by_class(self, voc):
        classes = {}
        for number, label in enumerate(self._labels):
            true = [_of_label(truth, number) for truth in self._truths]
            boxes = sum(int(np.sum(~truth["crowd"])) for truth in true)
            if not boxes:
                continue
            found = [_of_label(outputs, number) for outputs in self._detections]
            coco = coco_average_precision(found, true)
            classes[label] = {"boxes": boxes} | {
                name: coco[name] for name in ("AP", "AP50", "AP75", "AR100")
            }
            classes[label] |= {
                _voc_name(overlap): by_label[number]
                for overlap, by_label in voc.items()
            }
        return classes


class Classes:
    """Scores and classes of whole pictures: shares of right answers.

    Args:
        labels: the model's classes.
        numbers: int `[n]`, the model's class of class i of the set.
    """

    OUTPUTS = {"scores": 1}

    def __init__(self, labels, numbers):
        self._labels, self._numbers = labels, numbers
        self._scores, self._true = [], []

    def truth(self, record: Record, image: np.ndarray) -> int:
        """Returns the model's class of the picture."""
        return int(self._numbers[record.label])

    def add(self, record: Record, truth, outputs: dict) -> None:
        """Takes an answer; InputError where it is none of this task."""
        outputs = _checked(outputs, self.OUTPUTS, record)
        if outputs["scores"].shape != (len(self._labels),):
            raise _wrong(
                f"scores [{len(self._labels)}], one per label", outputs, record
            )
        self._true.append(truth)
        self._scores.append(outputs["scores"])

    def result(self) -> tuple:
        """Measures the pictures added, at least one."""
        scores, true = np.stack(self._scores), np.array(self._true)
        predicted = scores.argmax(axis=1)
        figures = {"top_1": float(np.mean(predicted == true))}
        if len(self._labels) > TOP:
            figures[f"top_{TOP}"] = float(np.mean(confusion.in_top(scores, true, TOP)))
        matrix = confusion.confusion_matrix(true, predicted, len(self._labels))
        recalls = confusion.recall(matrix)
        classes = {
            label: {"pictures": int(matrix[i].sum()), "recall": float(recalls[i])}
            for i, label in enumerate(self._labels)
            if matrix[i].any()
        }
        return figures, classes, matrix.tolist()


class Masks:
    """Masks: intersection over union.

    Args:
        labels: the model's classes; class i has the value i in a mask.
    """

    OUTPUTS = {"mask": 2}

    def __init__(self, labels):
        self._labels = labels
        self._matrix = np.zeros((len(labels), len(labels)), np.int64)

    def truth(self, record: Record, image: np.ndarray) -> np.ndarray:
        """Reads the mask; InputError where it lacks or has another size."""
        if record.mask is None:
            raise InputError(f"every picture has a mask, {record.image} has none")
        mask = read_mask(record.mask)
        if mask.shape != image.shape[:2]:
            raise InputError(
                "a mask has the size of its picture, "
                f"{image.shape[1]}x{image.shape[0]} pixels of {record.image}, received "
                f"{mask.shape[1]}x{mask.shape[0]}"
            )
        return mask

    def add(self, record: Record, truth, outputs: dict) -> None:
        """Takes an answer; InputError where it is none of this task."""
        outputs = _checked(outputs, self.OUTPUTS, record)
        try:
            self._matrix += confusion.confusion_matrix(
                truth, outputs["mask"], len(self._labels)
            )
        except ValueError:
            raise _wrong(
                f"a mask {list(truth.shape)} of classes in 0..{len(self._labels) - 1}",
                outputs,
                record,
            ) from None

    def result(self) -> tuple:
        """Measures; InputError where no pixel counts."""
        if not self._matrix.any():
            raise InputError(
                "a segmentation is measured on pixels of the model's "
                f"{len(self._labels)} classes, the masks have none"
            )
        shares = confusion.intersection_over_union(self._matrix)
        hits = np.trace(self._matrix) / self._matrix.sum()
        figures = {"mean_iou": float(np.nanmean(shares)), "pixel_accuracy": float(hits)}
        classes = {
            label: {"pixels": int(self._matrix[i].sum()), "iou": float(share)}
            for i, (label, share) in enumerate(zip(self._labels, shares, strict=True))
            if not np.isnan(share)
        }
        return figures, classes, self._matrix.tolist()


def _checked(outputs, ranks, record):
    """Makes sure that a model gave what its task has, in finite numbers."""
    arrays = {name: np.asarray(outputs[name]) for name in ranks if name in outputs}
    for name, rank in ranks.items():
        if name not in arrays or arrays[name].ndim != rank:
            raise _wrong(
                f"{' and '.join(ranks)} without a batch dimension", outputs, record
            )
        if not np.all(np.isfinite(arrays[name])):
            raise InputError(
                f"a model's {name} are finite numbers, those for {record.image} are not"
            )
    return arrays


def _wrong(rule, outputs, record):
    shapes = ", ".join(
        f"{name} {list(np.shape(value))}" for name, value in sorted(outputs.items())
    )
    return InputError(
        f"a model of this task gives {rule}; for {record.image} it gave "
        f"{shapes or 'nothing'}"
    )


def _of_label(picture, number):
    keep = np.asarray(picture["labels"]) == number
    return {key: value[keep] for key, value in picture.items()}


def _voc_name(overlap):
    return f"VOC_AP{100 * overlap:g}"
