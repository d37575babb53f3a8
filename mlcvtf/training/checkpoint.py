"""Checkpoints that a killed training continues from, bit for bit.

What Keras's own callbacks leave out makes the difference: the states of random layers
and of metrics, the step within the epoch, and the length of the log. One file holds all
of it as plain arrays and JSON, and is replaced whole, so that a kill or a full disk at
any moment leaves the one before.
"""

import contextlib
import json
import os
import pathlib
import signal
import threading
import time
import zipfile

import keras
import numpy as np

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError

FILE = "checkpoint.npz"


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of a training, and puts it back into a new process.

    Args:
        folder: where `checkpoint.npz` is.
        steps_per_epoch: batches of a whole epoch.
        identity: dict of JSON values that tells this training from others.
        every_minutes: saves after so many minutes; besides, after every epoch.
        dataset: what is trained on; it ends when a signal asks the training to.
        log: a file of lines that grows with the training, cut back to the checkpoint
            when it is restored.

    Attributes:
        done: steps that the training has behind it.
        seconds: what they took when the checkpoint in the folder was written.

    Raises:
        InputError: the checkpoint is damaged or of another training.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        steps_per_epoch: int,
        identity: dict,
        every_minutes: float = 5.0,
        dataset: EndlessBatches | None = None,
        log: str | os.PathLike | None = None,
    ):
        super().__init__()
        self.path = pathlib.Path(folder) / FILE
        self.log = pathlib.Path(log) if log else None
        self._steps, self._dataset = steps_per_epoch, dataset
        self._identity = json.loads(json.dumps(identity))
        self._every = 60 * every_minutes
        self._stored = _read(self.path, self._identity)
        meta = self._stored["meta"] if self._stored else {"done": 0, "seconds": 0.0}
        self.done, self.seconds = meta["done"], meta["seconds"]
        self._start = time.monotonic() - self.seconds
        self._saved = time.monotonic()
        self._stop = None
        if self._stored and self.log and self.log.is_file():
            os.truncate(self.log, self._stored["meta"]["log"])

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just reset the metrics, and from here on changes nothing itself.
        if self._stored is not None:
            self.restore(self.model)
        self._first = max(self.done, epoch * self._steps)

    def on_train_batch_end(self, batch, logs=None):
        if self._ending():
            return  # The steps of batches that were made already; nobody keeps them.
        # The first epoch after a resume counts its batches from where it goes on.
        self.done = self._first + batch + 1
        if self._stop is not None:
            self.save()
            self._dataset.ended = True
        elif time.monotonic() - self._saved > self._every:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        if not self._ending():
            self.save()

    def _ending(self):
        return self._dataset is not None and self._dataset.ended

    def raise_if_stopped(self) -> None:
        """Ends the training where a signal has asked for it; for after `fit`.

        Raises:
            KeyboardInterrupt: it has, and the checkpoint is written.
        """
        if self._ending():
            raise KeyboardInterrupt(f"stopped by {self._stop} after step {self.done}")

    def save(self) -> None:
        """Replaces the checkpoint by the state of now.

        Raises:
            InputError: it cannot be written; the one before stays.
        """
        now = time.monotonic()
        if keras.backend.backend() == "jax":
            # Within an epoch the variables are empty: a step is a pure function.
            self.model.jax_state_sync()
        state = _state(self.model, within_epoch=self.done % self._steps)
        meta = {
            "done": self.done,
            "seconds": now - self._start,
            "log": self.log.stat().st_size if self.log and self.log.is_file() else 0,
            "identity": self._identity,
            "kinds": {part: kinds for part, (kinds, _) in state.items()},
        }
        arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
        for part, (_, variables) in state.items():
            for number, variable in enumerate(variables):
                # A view of the device's memory would go on changing.
                arrays[f"{part}/{number}"] = _bits(variable)
        _write(self.path, arrays)
        self._saved = now

    def restore(self, model: keras.Model) -> None:
        """Puts the stored state into a built and compiled model, once."""
        stored, self._stored = self._stored, None
        model.optimizer.build(model.trainable_variables)
        state = _state(model, within_epoch=self.done % self._steps)
        for part, (kinds, variables) in state.items():
            if kinds != stored["meta"]["kinds"][part]:
                raise InputError(
                    f"{self.path} must fit the model, its {part} variables do not"
                )
            for number, variable in enumerate(variables):
                variable.assign(_values(stored[f"{part}/{number}"], variable))

    @contextlib.contextmanager
    def signals(self):
        """Has SIGTERM and Ctrl-C wait for the end of the step and a checkpoint."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number, frame):
            if self._stop is not None:
                raise KeyboardInterrupt  # Asked twice: do not wait.
            self._stop = signal.Signals(number).name

        kinds = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(kind, ask) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)


@contextlib.contextmanager
def averages_wait(optimizer: keras.optimizers.Optimizer):
    """Keeps `fit` from putting averaged weights in place at its end.

    A training of several `fit` calls does so once, when all of them are done.
    """
    finalize = optimizer.finalize_variable_values
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        optimizer.finalize_variable_values = finalize


def _state(model, within_epoch):
    """Lists the variables of a training by part: types with shapes, and variables.

    Metrics begin anew with every epoch, so they belong to it within an epoch alone.
    """
    parts = {"model": model.variables, "optimizer": model.optimizer.variables}
    if within_epoch:
        parts["metrics"] = model.metrics_variables
    return {
        # Not by name: the numbers in it depend on what the process made before.
        part: ([f"{v.dtype} {list(v.shape)}" for v in variables], variables)
        for part, variables in parts.items()
    }


def _bits(variable):
    """Copies a variable's value; NumPy files have no bfloat16, so as plain integers."""
    value = np.array(keras.ops.convert_to_numpy(variable.value))
    return value.view(np.uint16) if str(variable.dtype) == "bfloat16" else value


def _values(stored, variable):
    """Undoes `_bits`."""
    if str(variable.dtype) == "bfloat16":
        import ml_dtypes

        return stored.view(ml_dtypes.bfloat16)
    return stored


def _write(path, arrays):
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"a checkpoint must be writable, {path}: {error.strerror}; the one before "
            "is kept"
        ) from None


def _read(path, identity):
    """Reads a checkpoint into a dict of arrays and "meta", or None without one."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        stored["meta"] = json.loads(stored["meta"].tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"a checkpoint must be whole, {path} is damaged: delete it to start anew"
        ) from None
    theirs = stored["meta"]["identity"]
    differ = sorted(
        k for k in identity.keys() | theirs.keys() if identity.get(k) != theirs.get(k)
    )
    if differ:
        key = differ[0]
        raise InputError(
            f"a work folder belongs to one training, that in {path.parent} has "
            f"{key} = {theirs.get(key)!r}, received {identity.get(key)!r}"
        )
    return stored
