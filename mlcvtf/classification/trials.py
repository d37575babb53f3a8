"""Many short trainings: pictures in memory, one `fit`, a log that survives a kill."""

import json
import math
import os
import pathlib
import time
from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError


class Pictures(NamedTuple):
    """What networks are trained on and compared by.

    Attributes:
        images: uint8 `[n, height, width, 3]`, those to train on.
        labels: int `[n]`.
        held_images: uint8 `[m, height, width, 3]`, training pictures held out.
        held_labels: int `[m]`.
        classes: number of classes.
    """

    images: np.ndarray
    labels: np.ndarray
    held_images: np.ndarray
    held_labels: np.ndarray
    classes: int


class Schedule(NamedTuple):
    """A short training: SGD with Nesterov's momentum of 0.9 and half a cosine.

    Attributes:
        epochs: passes over the pictures.
        batch_size: pictures per step.
        learning_rate: the highest; the first tenth of the steps rises to it.
        weight_decay: of the weights, times the learning rate.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 0.1
    weight_decay: float = 5e-4


def split(images, labels, classes: int, train: int, held_out: int) -> Pictures:
    """Divides training pictures into some to train on and some to compare by.

    Args:
        images: uint8 `[n, height, width, 3]`.
        labels: int `[n]`.
        classes: number of classes.
        train: pictures to train on.
        held_out: pictures to compare by; the same ones whatever `train` is.

    Raises:
        ValueError: there are not so many pictures.
    """
    if train + held_out > len(images):
        raise ValueError(
            f"{train} pictures to train on and {held_out} held out are needed, "
            f"received {len(images)}"
        )
    order = np.random.default_rng(0).permutation(len(images))
    held, rest = order[:held_out], order[held_out : held_out + train]
    return Pictures(images[rest], labels[rest], images[held], labels[held], classes)


def train(backbone: keras.Model, pictures: Pictures, schedule: Schedule) -> dict:
    """Trains a classifier on a backbone and measures it on the held-out pictures.

    Seeds are the caller's: `keras.utils.set_random_seed` before the backbone is made.

    Args:
        backbone: as `ImageClassifier` takes it.
        pictures: what it learns and is measured on.
        schedule: how it is trained.

    Returns:
        {"accuracy": share of the held-out pictures that are right, "loss": mean
        training loss of the last epoch, "parameters": that are trained, "seconds"}.
    """
    start = time.perf_counter()
    model = ImageClassifier(backbone, pictures.classes)
    steps = -(-len(pictures.images) // schedule.batch_size) * schedule.epochs
    warm_up = max(1, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, steps - warm_up),
        warmup_target=schedule.learning_rate,
        warmup_steps=warm_up,
    )
    model.compile(
        keras.optimizers.SGD(
            rate, 0.9, nesterov=True, weight_decay=schedule.weight_decay
        ),
        jit_compile=False,
    )
    history = model.fit(
        pictures.images,
        pictures.labels,
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        verbose=0,
    )
    measured = model.evaluate(
        pictures.held_images,
        pictures.held_labels,
        batch_size=256,
        verbose=0,
        return_dict=True,
    )
    return {
        "accuracy": round(float(measured["accuracy"]), 6),
        "loss": float(history.history["loss"][-1]),
        "parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "seconds": round(time.perf_counter() - start, 2),
    }


class TrialLog:
    """One JSON line per finished training, so that a study goes on where it stopped.

    Args:
        path: of the file; it is made with the first line.

    Attributes:
        trials: a dict per line.

    Raises:
        InputError: a line is no JSON object.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        self.trials = []
        content = self._path.read_bytes() if self._path.is_file() else b""
        # A line without its end is what a kill leaves. It is cut off by the next line,
        # not here: another process may be writing it.
        self._whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[: self._whole].splitlines(), 1):
            try:
                trial = json.loads(line)
            except ValueError:
                trial = None
            if not isinstance(trial, dict):
                raise InputError(
                    f"a line of a log is one JSON object, {self._path} line {number}: "
                    f"{line[:40].decode(errors='replace')}"
                )
            self.trials.append(trial)

    def add(self, trial: dict) -> None:
        """Appends a line and has it on the disk when it returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.truncate(self._whole)
            file.write(json.dumps(trial).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._whole = file.tell()
        self.trials.append(trial)
