"""Trains, finds the poses that the forest fails on most, adds them, trains again.

Shotton et al., 2011, section 2.2, and the course: the training set grows around what
the model still gets wrong, instead of by more of what it knows.
"""

import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
from mlcvtf.segmentation.body_parts.forest import Forest
from mlcvtf.segmentation.body_parts.forest_training import Options, train_forest


class Mined(NamedTuple):
    """The outcome of `mine_hard_poses`.

    Attributes:
        forest: of the last round.
        chosen: int64 `[n]`: which pictures it learned from, in the order in which they
            were added.
        errors: for each round but the last, the mean error over the pictures that had
            not been chosen.
    """

    forest: Forest
    chosen: np.ndarray
    errors: list[float]


def picture_error(forest: CompiledForest, depth, labels) -> float:
    """Returns the share of a person's pixels that get another part.

    Args:
        forest: a compiled one.
        depth: float `[height, width]` in metres, 0 where missing.
        labels: uint8 `[height, width]`, 0 for background and parts from 1.

    Returns:
        0..1, the mean over the parts that are in sight, so that hands weigh as much
        as the trunk; 0 where there is no person.

    Raises:
        InputError: depth is not as above.
    """
    labels = np.asarray(labels)
    parts, _ = forest.classify(np.where(labels > 0, depth, 0))
    there = parts > 0
    count = np.bincount(labels[there], minlength=256)
    wrong = np.bincount(labels[there & (parts != labels)], minlength=256)
    seen = count > 0
    return float(np.mean(wrong[seen] / count[seen])) if seen.any() else 0.0


def mine_hard_poses(
    pictures: Sequence,
    classes: int,
    start: int,
    add: int,
    rounds: int,
    options: Options | None = None,
    folder: str | pathlib.Path | None = None,
    threads: int = 2,
    report: Callable[[str], None] | None = None,
    engine: Callable | None = None,
) -> Mined:
    """Trains a forest on the pictures of a set that turn out to be hard.

    Args:
        pictures: to choose from: (depth, labels) by index, as of
            `training_pixels.store_people`; each is read once a round.
        classes: number of parts.
        start: pictures of the first round, the first ones of the set.
        add: pictures that each later round adds, those with the largest errors.
        rounds: trainings.
        options: of each training.
        folder: keeps every round, and a stopped mining goes on from it; None keeps
            nothing.
        threads: of training and of classifying.
        report: called with a line of text after each level and round.
        engine: as of `train_forest`.

    Returns:
        The last forest and what it learned from.

    Raises:
        InputError: the set has too few pictures, or as `train_forest`.
    """
    needed = start + add * (rounds - 1)
    if min(start, add, rounds) < 1 or needed > len(pictures):
        raise InputError(
            f"{rounds} rounds of {start} and {add} more pictures take {needed}, "
            f"received {len(pictures)}"
        )
    chosen, errors = list(range(start)), []
    for number in range(rounds):
        own = None if folder is None else pathlib.Path(folder) / f"round_{number}"
        stream = (pictures[i] for i in chosen)
        forest = train_forest(
            stream, classes, options, own, threads, engine=engine, report=report
        )
        if number == rounds - 1:
            return Mined(forest, np.array(chosen), errors)
        found = _stored(own)
        if found is None:
            found = _hardest(forest, pictures, chosen, add, threads)
            _store(own, found)
        errors.append(found["error"])
        chosen += found["hardest"]
        if report:
            report(f"round {number}: mean error {found['error']:.4f} on the rest")


def _hardest(forest, pictures, chosen, add, threads):
    """Finds the pictures with the largest errors among those not chosen."""
    compiled = CompiledForest(forest, threads)
    rest = sorted(set(range(len(pictures))) - set(chosen))
    errors = np.array([picture_error(compiled, *pictures[i]) for i in rest])
    order = np.argsort(-errors, kind="stable")[:add]
    return {"error": float(errors.mean()), "hardest": [rest[i] for i in order]}


def _stored(folder):
    if folder is None or not (folder / "hardest.json").is_file():
        return None
    return json.loads((folder / "hardest.json").read_text(encoding="utf-8"))


def _store(folder, found):
    if folder is None:
        return
    partial = folder / "hardest.json.partial"
    partial.write_text(json.dumps(found), encoding="utf-8")
    os.replace(partial, folder / "hardest.json")
