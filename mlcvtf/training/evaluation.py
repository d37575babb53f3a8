"""Measures a model on a data set: one measure, whatever runs the model.

The same code gives the figure of a Keras model in training (`from_keras`) and of an
exported file (`apps/evaluate`), before and after quantisation. Pictures go through
"serving_default" one by one at their own size, and boxes are measured there.

NumPy only, except for `from_keras`: with a `.tflite` file TensorFlow is not imported.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mlcvtf.data.examples import ON_BAD_IMAGE
from mlcvtf.data.records import RecordSet, read_image
from mlcvtf.errors import InputError
from mlcvtf.training import measures

# Task to what its data sets know about a picture.
KINDS = {
    "face_detection": "boxes",
    "detection": "boxes",
    "classification": "label",
    "segmentation": "mask",
}
# Names of classes that a message lists.
MOST_NAMES = 20


class Evaluation(NamedTuple):
    """What was measured.

    Attributes:
        figures: name to number; see `evaluate`.
        classes: name of a class to its own figures, of the classes that occur.
        confusion: rows of counts by truth, columns by prediction in the order of the
            model's labels; None for a detector.
        pictures: how many pictures the figures are over.
        skipped: name of each picture that could not be used, to the reason.
    """

    figures: dict[str, float]
    classes: dict[str, dict]
    confusion: list[list[int]] | None
    pictures: int
    skipped: dict[str, str]


def evaluate(
    predict: Callable[[np.ndarray], dict],
    record_set: RecordSet,
    task: str,
    labels: Sequence[str],
    renames: Mapping[str, str] | None = None,
    on_bad_image: str = "fail",
    over: Callable[[Sequence], Iterable] = iter,
    smallest: float = 0.0,
    overlaps: Sequence[float] = (0.5,),
) -> Evaluation:
    """Measures a model on the pictures of a set.

    - Detectors: COCO's twelve figures (see `coco_average_precision`) and, as `VOC_AP50`
      for an overlap of 0.5, the mean over classes of VOC's all-point average precision.
      Boxes are clipped to their picture. Crowd regions, difficult objects and boxes
      that are too small are ignored: a detection that lies in one is neither right nor
      wrong.
    - Classifiers: `top_1`, and `top_5` where there are more than five classes.
    - Segmenters: `mean_iou` over the classes that occur in truth or prediction, and
      `pixel_accuracy`. Value i of a mask is class i; values beyond the last class
      (VOC's 255) do not count.

    Args:
        predict: from uint8 `[height, width, 3]` RGB to the outputs of the task's
            "serving_default": a `Predictor`, or what `from_keras` gives.
        record_set: the pictures and what is known about them.
        task: a key of `KINDS`.
        labels: the model's classes in order, as in its card.
        renames: name of a class in the data set to that of the model.
        on_bad_image: "fail" stops at a picture or annotation that cannot be used,
            "skip" leaves it out.
        over: iterates over the records, perhaps showing progress.
        smallest: pixels; boxes with a shorter side below are ignored.
        overlaps: smallest intersections over union of right detections, in 0..1, that
            VOC's average precision is measured at.

    Returns:
        The figures, as plain numbers in 0..1; -1 where COCO has nothing to measure.

    Raises:
        InputError: the set is of another kind, is empty, has classes that the model
            lacks or a picture that cannot be used, or the model's outputs are not
            those of its task.
    """
    if task not in KINDS:
        raise InputError(
            f"a task to evaluate is one of {', '.join(KINDS)}, received {task}"
        )
    if record_set.kind != KINDS[task]:
        raise InputError(
            f"a model for {task} is evaluated on a set with "
            f"{KINDS[task]}, received one with {record_set.kind}"
        )
    if on_bad_image not in ON_BAD_IMAGE:
        raise InputError(
            f"on_bad_image is one of {', '.join(ON_BAD_IMAGE)}, received {on_bad_image}"
        )
    if not labels:
        raise InputError(
            f"the card of a model for {task} lists its labels, received none"
        )
    numbers = match_labels(record_set.names, labels, renames or {})
    measure = {
        "boxes": lambda: measures.Boxes(labels, numbers, smallest, overlaps),
        "label": lambda: measures.Classes(labels, numbers),
        "mask": lambda: measures.Masks(labels),
    }[record_set.kind]()
    skipped = {}
    for record in over(record_set.records):
        try:
            image = read_image(record)
            truth = measure.truth(record, image)
        except InputError as error:
            if on_bad_image == "fail":
                raise
            skipped[str(record.image)] = str(error)
            continue
        measure.add(record, truth, predict(image))
    pictures = len(record_set.records) - len(skipped)
    if not pictures:
        reason = f": {next(iter(skipped.values()))}" if skipped else ""
        raise InputError(
            "an evaluation needs pictures that can be used, of "
            f"{len(skipped)} there are none{reason}"
        )
    return Evaluation(*measure.result(), pictures, skipped)


def from_keras(model, task: str, **options) -> Callable[[np.ndarray], dict]:
    """Wraps a Keras model as the exported one answers: with the same graph around it.

    The weights are those that the model has when it is called, so that a model in
    training can be measured again and again.

    Args:
        model: a built model.
        task: one of `mlcvtf.export.signatures.TASKS`.
        **options: more for `signatures.endpoints`, such as `longest_side`.

    Returns:
        A function from a uint8 picture to a dict of arrays.
    """
    import tensorflow as tf

    from mlcvtf.export import signatures

    endpoint, specification = signatures.endpoints(model, task, **options)[
        "serving_default"
    ]
    compiled = tf.function(endpoint, specification, autograph=False)
    return lambda image: {key: value.numpy() for key, value in compiled(image).items()}


def match_labels(
    names: Sequence[str], labels: Sequence[str], renames: Mapping[str, str]
) -> np.ndarray:
    """Finds the classes of a data set among those of a model, by name.

    Args:
        names: the set's; none where it has numbers alone.
        labels: the model's.
        renames: name in the set to name in the model; several may become one.

    Returns:
        int64 `[len(names)]`: class i of the set is that class of the model.

    Raises:
        InputError: a name is not there.

    >>> match_labels(["car", "cat"], ["cat", "vehicle"], {"car": "vehicle"}).tolist()
    [1, 0]
    """
    strange = [name for name in renames if name not in names]
    if strange:
        raise InputError(
            f"a class that is renamed is one of the data set "
            f"({_some(names)}), received {strange[0]}"
        )
    number = {label: i for i, label in enumerate(labels)}
    wanted = [renames.get(name, name) for name in names]
    strange = [name for name in wanted if name not in number]
    if strange:
        raise InputError(
            f"the classes of a data set are among the model's "
            f"({_some(labels)}), or renamed to one; received "
            f"{_some(strange)}"
        )
    return np.array([number[name] for name in wanted], np.int64)


def spread(items: Sequence, limit: int | None) -> list:
    """Picks at most `limit` items, evenly from the first to the last.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if limit is None or limit >= len(items):
        return list(items)
    chosen = np.linspace(0, len(items) - 1, limit).round().astype(int)
    return [items[i] for i in chosen]


def _some(names):
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
