"""Checkpoints that a killed training continues from, bit for bit.

What Keras's own callbacks leave out makes the difference: the states of random layers,
of metrics and of other callbacks, the step within the epoch, the length of the logs,
and what the arithmetic depended on. One file holds all of it as plain arrays and JSON.
It is replaced whole, so that a kill or a full disk at any moment leaves the one before.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable

import keras
import numpy as np

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError

FILE = "checkpoint.npz"
# Of what is in the file; another version's is refused.
FORMAT = 2


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of a training, and puts it back into a new process.

    Args:
        folder: where `checkpoint.npz` is.
        steps_per_epoch: batches of a whole epoch.
        identity: dict of JSON values that tells this training from others.
        every_minutes: saves after so many minutes; besides, after every epoch.
        every_steps: saves after every so many steps too; 0: not by steps.
        dataset: what is trained on; it ends when a signal asks the training to.
        agree: maps (finished steps, whether to stop, whether to save) to whether all
            workers stop, and whether they save; for `agreement.Agreement.ask`.
        logs: names of files in the folder that grow with the training, cut back to
            the checkpoint when it is restored.
        stateful: other callbacks by name; `state()` gives a dict of arrays, and
            `restore(state)` gets it back at once.
        arithmetic: dict of JSON values that the bits of a result depend on, from
            `environment.arithmetic`. Where they differ from those of the checkpoint,
            a line on stderr says so; a deterministic training is not gone on with.

    Attributes:
        done: steps that the training has behind it.
        seconds: what they took when the checkpoint in the folder was written.

    Raises:
        InputError: the checkpoint is damaged, of another training or version, or the
            arithmetic of a deterministic training differs.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        steps_per_epoch: int,
        identity: dict,
        every_minutes: float = 5.0,
        every_steps: int = 0,
        dataset: EndlessBatches | None = None,
        logs: tuple = (),
        stateful: dict | None = None,
        arithmetic: dict | None = None,
        agree: Callable[[int, bool, bool], tuple[bool, bool]] | None = None,
    ):
        super().__init__()
        self.path = pathlib.Path(folder) / FILE
        self.logs = {name: self.path.with_name(name) for name in logs}
        self._steps, self._dataset = steps_per_epoch, dataset
        self._identity = json.loads(json.dumps(identity))
        self._every, self._every_steps = 60 * every_minutes, every_steps
        self._stateful, self._arithmetic = stateful or {}, arithmetic or {}
        self._stored = _read(self.path, self._identity)
        self.done, self.seconds, lengths = 0, 0.0, {}
        if self._stored:
            self._go_on(self._stored)
            lengths = self._stored["meta"]["logs"]
        # Without a checkpoint they are of a run that was killed before its first one.
        for name, path in self.logs.items():
            if path.is_file():
                os.truncate(path, lengths.get(name, 0))
        self._start = time.monotonic() - self.seconds
        self._saved = time.monotonic()
        self._stop = None
        self._agree = agree or (lambda done, stop, save: (stop, save))

    def _go_on(self, stored):
        """Takes over all but the variables, which there are none of yet."""
        meta = stored["meta"]
        _compare_arithmetic(self.path, meta["arithmetic"], self._arithmetic)
        self.done, self.seconds = meta["done"], meta["seconds"]
        for name, callback in self._stateful.items():
            prefix = f"callback {name}/"
            callback.restore(
                {
                    key.removeprefix(prefix): value
                    for key, value in stored.items()
                    if key.startswith(prefix)
                }
            )

    def on_epoch_begin(self, epoch, logs=None):
        # Keras has just reset the metrics, and from here on changes nothing itself.
        if self._stored is not None:
            self.restore(self.model)
        self._first = max(self.done, epoch * self._steps)

    def on_train_batch_end(self, batch, logs=None):
        # The first epoch after a resume counts its batches from where it goes on.
        self.done = self._first + batch + 1
        if self.done % self._steps == 0:
            # The epoch's log and validation come first: `on_epoch_end` saves.
            return
        stop, save = self._ask()
        if stop or save or (self._every_steps and self.done % self._every_steps == 0):
            self.save()
        if stop:
            self._end()

    def on_epoch_end(self, epoch, logs=None):
        self.save()
        stop, _ = self._ask()
        if stop:
            self._end()

    def _ask(self):
        """Says whether to stop, and whether it is time to save."""
        late = time.monotonic() - self._saved > self._every
        return self._agree(self.done, self._stop is not None, late)

    def _end(self):
        """Leaves the training, whose checkpoint is written."""
        if self._dataset is not None:
            self._dataset.end()
        by = self._stop or "a signal to another worker"
        raise KeyboardInterrupt(
            f"stopped by {by} after step {self.done}, with a checkpoint"
        )

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
            "format": FORMAT,
            "logs": {n: p.stat().st_size for n, p in self.logs.items() if p.is_file()},
            "identity": self._identity,
            "arithmetic": self._arithmetic,
            "kinds": {part: kinds for part, (kinds, _) in state.items()},
        }
        arrays = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
        for part, (_, variables) in state.items():
            for number, variable in enumerate(variables):
                # A view of the device's memory would go on changing.
                arrays[f"{part}/{number}"] = _bits(variable)
        for name, callback in self._stateful.items():
            for key, value in callback.state().items():
                arrays[f"callback {name}/{key}"] = value
        _write(self.path, arrays)
        self._saved, self.seconds = now, now - self._start

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

    Yields:
        The optimizer's own `finalize_variable_values`.
    """
    finalize = optimizer.finalize_variable_values
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield finalize
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
    """Copies a variable's value; NumPy files have no bfloat16, so as plain integers.

    With several devices a metric has a variable on each, which `copy` sums; all
    workers do it together.
    """
    value = np.array(keras.ops.convert_to_numpy(keras.ops.copy(variable.value)))
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
    if stored["meta"].get("format") != FORMAT:
        raise InputError(
            f"a checkpoint is gone on with by the version that wrote it, {path} is of "
            "another: finish the training with that, or delete it to start anew"
        )
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


def _compare_arithmetic(path, theirs, ours):
    """Refuses, or tells of, a computer whose results differ in their last bits."""
    differ = sorted(k for k in theirs.keys() & ours.keys() if theirs[k] != ours[k])
    if not differ:
        return
    key = differ[0]
    received = f"{key} = {theirs[key]} in {path.parent}, now {ours[key]}"
    if theirs.get("deterministic"):
        raise InputError(
            "a deterministic training goes on with --deterministic and as many threads "
            f"as it began with (--threads); received {received}"
        )
    print(
        "going on with other arithmetic: the weights will differ from those of an "
        f"undisturbed training by rounding ({received})",
        file=sys.stderr,
    )
