"""The state of a training on disk: one file of plain arrays, replaced in one step."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import tempfile
import zipfile
from typing import NamedTuple

import numpy as np

from mlcvtf.detection.viola_jones.boosting import Tree
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.errors import InputError

FILE = "state.npz"
# What may differ between a training and the one that goes on with it.
FREE = ("stages",)


class State(NamedTuple):
    """What a training knows.

    Attributes:
        mark: of the training, from `fingerprint`.
        cascade: the stages that are done, or None.
        history: a dict for each of these.
        negatives: uint8 `[n, height, width]` of the stage in work, or None.
        scanned: number of windows in which these were looked for.
        passed: number of windows that the cascade let pass.
        trees: of the stage in work; features are numbered as it draws them.
    """

    mark: str
    cascade: Cascade | None = None
    history: list = []
    negatives: np.ndarray | None = None
    scanned: int = 0
    passed: int = 0
    trees: list = []


def fingerprint(faces, backgrounds: str, settings) -> str:
    """Returns a text that differs where a training would give another cascade.

    Args:
        faces: arrays of windows.
        backgrounds: what tells them from others.
        settings: a `training.Settings`.
    """
    fixed = {k: v for k, v in settings._asdict().items() if k not in FREE}
    digest = hashlib.sha256(json.dumps([backgrounds, fixed], sort_keys=True).encode())
    for part in faces:
        digest.update(str(part.shape).encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def load(folder: pathlib.Path, mark: str) -> State:
    """Reads the state of a training, or begins one where there is none.

    Args:
        folder: of the training.
        mark: from `fingerprint`.

    Raises:
        InputError: the folder holds the state of another training, or none that can
            be read.
    """
    path = folder / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            state = _unpack({name: arrays[name] for name in arrays.files})
    except FileNotFoundError:
        return State(mark)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} must be the state of a training, it is not: {reason}"
        ) from None
    if state.mark != mark:
        raise InputError(
            f"{folder} holds a training with other settings, faces or backgrounds; "
            "choose another folder or delete it"
        )
    return state


def save(folder: pathlib.Path, state: State) -> None:
    """Writes a state; a crash leaves the old one or the new one.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.")
        try:
            with open(handle, "wb") as file:
                np.savez(file, **_pack(state))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, folder / FILE)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}"
        ) from None


def _pack(state):
    arrays = {
        "mark": np.array(state.mark),
        "history": np.array(json.dumps(state.history)),
    }
    arrays["counts"] = np.array([state.scanned, state.passed])
    if state.cascade is not None:
        for field in dataclasses.fields(Cascade):
            value = np.array(getattr(state.cascade, field.name))
            arrays[f"cascade_{field.name}"] = value
    if state.negatives is not None:
        arrays["negatives"] = state.negatives
    for number, tree in enumerate(state.trees):
        arrays |= {f"tree_{number}_{k}": v for k, v in tree._asdict().items()}
    arrays["trees"] = np.array(len(state.trees))
    return arrays


def _unpack(arrays):
    cascade = None
    if "cascade_window" in arrays:
        parts = {
            f.name: arrays[f"cascade_{f.name}"] for f in dataclasses.fields(Cascade)
        }
        parts["window"] = tuple(parts["window"].tolist())
        cascade = Cascade(**parts)
    trees = [
        Tree(*(arrays[f"tree_{number}_{name}"] for name in Tree._fields))
        for number in range(int(arrays["trees"]))
    ]
    return State(
        str(arrays["mark"]),
        cascade,
        json.loads(str(arrays["history"])),
        arrays.get("negatives"),
        *arrays["counts"].tolist(),
        trees,
    )
