"""What happens at the end of every epoch besides the checkpoint."""

import csv
import json
import pathlib
import sys
import time

import keras
import numpy as np

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError

REPLACED = "replaced.json"


class EpochLog(keras.callbacks.Callback):
    """Appends a line per epoch to `log.jsonl` and a row to `log.csv`.

    Both hold the epoch (from 0), the seconds since the start, the metrics, and the
    learning rate of the next step.

    Args:
        folder: of the two files.
        seconds: that the training took before this process.
    """

    def __init__(self, folder: pathlib.Path, seconds: float = 0.0):
        super().__init__()
        self.lines, self.table = folder / "log.jsonl", folder / "log.csv"
        self._start = time.monotonic() - seconds

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch, "seconds": round(time.monotonic() - self._start, 1)}
        line |= {key: six_digits(value) for key, value in (logs or {}).items()}
        line["learning_rate"] = learning_rate(self.model)
        with open(self.lines, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        with open(self.table, "a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, line)
            if not file.tell():
                writer.writeheader()
            writer.writerow(line)


def six_digits(value) -> float:
    """Rounds a number to six significant digits."""
    return float(f"{float(value):.6g}")


def learning_rate(model: keras.Model) -> float:
    """Returns the learning rate of a model's next step, the highest of several."""
    rates = [part.learning_rate for part in _parts(model.optimizer)]
    return six_digits(max(float(keras.ops.convert_to_numpy(rate)) for rate in rates))


def has_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Says whether an optimizer averages weights, inside loss scaling too."""
    return any(part.use_ema for part in _parts(optimizer))


def _parts(optimizer):
    """Lists the optimizers inside of loss scaling and of a `MultiOptimizer`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(inner, "optimizers", [inner])


class Snapshots(keras.callbacks.Callback):
    """Keeps the weights after every so many epochs, for curves."""

    def __init__(self, folder: pathlib.Path, every: int):
        super().__init__()
        self.folder, self.every = folder, every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.model.save_weights(self.folder / f"epoch_{epoch + 1:03d}.weights.h5")


class Replaced(keras.callbacks.Callback):
    """Lists pictures that were replaced by others in `replaced.json`.

    The file, which is there where any were, has the reason by the picture's name. After
    an epoch with new ones a line on stderr says how many there are.

    Args:
        folder: of the file.
        streams: data sets with `replaced`; others have none.
    """

    def __init__(self, folder: pathlib.Path, *streams):
        super().__init__()
        self.path = folder / REPLACED
        self._streams = [stream for stream in streams if hasattr(stream, "replaced")]
        self._known = read_replaced(folder)

    def on_epoch_end(self, epoch, logs=None):
        known = dict(self._known)
        for stream in self._streams:
            known |= stream.replaced
        if known.keys() == self._known.keys():
            return
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        partial.replace(self.path)
        new = next(name for name in known if name not in self._known)
        self._known = known
        count = "1 picture was" if len(known) == 1 else f"{len(known)} pictures were"
        print(
            f"{count} replaced by another, {self.path} lists the reasons: {known[new]}",
            file=sys.stderr,
        )


def read_replaced(folder: pathlib.Path) -> dict[str, str]:
    """Reads what `Replaced` wrote; nothing where there is no file."""
    path = folder / REPLACED
    return json.loads(path.read_text()) if path.is_file() else {}


class AveragedValidation(keras.callbacks.Callback):
    """Has validation see the moving averages of the weights, where there are any.

    They are what the model ends with, so they are what is measured and stopped by.

    Args:
        average: puts the averages in place of the trainable weights.
    """

    def __init__(self, average):
        super().__init__()
        self._average = average
        self._trained = None

    def on_test_begin(self, logs=None):
        self._trained = [_copy(v) for v in self.model.trainable_variables]
        self._average()

    def on_test_end(self, logs=None):
        for variable, value in zip(
            self.model.trainable_variables, self._trained, strict=True
        ):
            variable.assign(value)
        self._trained = None


class EarlyStopping(keras.callbacks.Callback):
    """Stops after `patience` epochs without a better value, and keeps the best weights.

    Unlike Keras's own its state is saved with a checkpoint, and the weights that it
    keeps are those that the model would end with: averaged ones where there are
    moving averages.

    Args:
        config: with the keys of `options.RUN`: `early_stopping` names the metric, for
            instance "val_loss", or is "": then this does nothing.
        average: puts the averages in place of the trainable weights; does nothing
            where there are none.
        dataset: what is trained on; it ends before an error is raised, so that `fit`
            can.

    Attributes:
        stopped: whether the training is over.
        epoch: of the best value, from 0; -1 before the first.

    Raises:
        InputError: there is no such metric after an epoch.
    """

    def __init__(self, config, average, dataset: EndlessBatches):
        super().__init__()
        self.monitor, self.patience = config.early_stopping, config.patience
        self._sign = 1.0 if config.early_stopping_mode == "min" else -1.0
        self._average, self._dataset = average, dataset
        self.best, self.epoch, self.waited, self.stopped = np.inf, -1, 0, False
        self._weights = []

    def on_epoch_end(self, epoch, logs=None):
        if not self.monitor:
            return
        if self.monitor not in (logs or {}):
            self._dataset.end()
            raise InputError(
                f"early_stopping is one of {', '.join(sorted(logs or {}))}; received "
                f"{self.monitor}"
            )
        value = self._sign * float(logs[self.monitor])
        self.waited += 1
        # The first epoch is kept whatever it is, NaN too: there must be weights.
        if value < self.best or self.epoch < 0:
            self.best, self.epoch, self.waited = value, epoch, 0
            trained = [_copy(v) for v in self.model.trainable_variables]
            self._average()
            self._weights = [_copy(v) for v in self.model.variables]
            for variable, before in zip(
                self.model.trainable_variables, trained, strict=True
            ):
                variable.assign(before)
        elif self.waited >= self.patience:
            self.stopped = self.model.stop_training = True

    def finish(self, model: keras.Model) -> None:
        """Puts the best weights into the model, where any were kept."""
        for variable, value in zip(model.variables, self._weights, strict=False):
            variable.assign(value)

    def sentence(self) -> str:
        """Says for the report what was kept; "" where nothing was."""
        if self.epoch < 0:
            return ""
        return (
            f"The weights are those after epoch {self.epoch + 1}, where {self.monitor} "
            f"was best, {six_digits(self._sign * self.best):g}"
            + (
                f"; {self.patience} epochs without a better one ended the training."
                if self.stopped
                else "."
            )
        )

    def state(self) -> dict:
        """Returns what a later process goes on with, as arrays by name."""
        numbers = [self.best, self.epoch, self.waited, self.stopped]
        return {"numbers": np.array(numbers, np.float64)} | {
            f"weights {i}": value for i, value in enumerate(self._weights)
        }

    def restore(self, state: dict) -> None:
        """Undoes `state`."""
        best, epoch, waited, stopped = state["numbers"]
        self.best, self.epoch, self.waited = float(best), int(epoch), int(waited)
        self.stopped = bool(stopped)
        self._weights = [state[f"weights {i}"] for i in range(len(state) - 1)]


def _copy(variable):
    """Copies a variable's value out of the memory that goes on changing."""
    value = np.array(keras.ops.convert_to_numpy(variable.value))
    # NumPy files have no bfloat16; float32 holds its values.
    return value.astype(np.float32) if str(variable.dtype) == "bfloat16" else value
