"""A log for TensorBoard, written by its own package, on every backend.

Each process writes one more file and begins it with a restart at its checkpoint, upon
which TensorBoard drops what an earlier, killed process wrote after that.
"""

import importlib.util
import pathlib
import time

import keras

from mlcvtf.errors import InputError
from mlcvtf.training.callbacks import learning_rate

MISSING = "TensorBoard's log needs its package: pip install 'mlcvtf[train]'"


def is_installed() -> bool:
    """Says whether TensorBoard's package is there."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog(keras.callbacks.Callback):
    """Writes the metrics and the learning rate after every epoch, by finished steps.

    Args:
        folder: for the event files.
        steps_per_epoch: batches of a whole epoch.
        done: steps that the training had behind it when this process began.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: pathlib.Path, steps_per_epoch: int, done: int = 0):
        super().__init__()
        if not is_installed():
            raise InputError(MISSING)
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events, self._summaries = event_pb2, summary_pb2
        self._steps = steps_per_epoch
        # Its name holds the second, the machine and the process, its order the second
        # alone: two processes within one second read in a wrong order.
        self._writer = EventFileWriter(str(folder))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        # Everything from this step on is void.
        self._add(done + 1, session_log=start)

    def on_epoch_end(self, epoch, logs=None):
        values = {key: float(value) for key, value in (logs or {}).items()}
        values["learning_rate"] = learning_rate(self.model)
        values = [
            self._summaries.Summary.Value(tag=tag, simple_value=value)
            for tag, value in values.items()
        ]
        summary = self._summaries.Summary(value=values)
        self._add((epoch + 1) * self._steps, summary=summary)
        # Before the checkpoint is.
        self._writer.flush()

    def close(self) -> None:
        """Ends the file and the thread that writes it."""
        self._writer.close()

    def _add(self, step, **content):
        self._writer.add_event(
            self._events.Event(wall_time=time.time(), step=step, **content)
        )
