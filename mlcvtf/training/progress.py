"""Where a training is, how fast it goes and how long it still takes."""

import sys
import time

import keras
import tqdm

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.training.callbacks import six_digits

# Seconds between two lines within an epoch, where the output is no terminal.
LINE_SECONDS = 30.0


class Progress(keras.callbacks.Callback):
    """Prints a line per epoch, and in between a bar, or a line every 30 seconds.

    A terminal shows the bar of the whole training; a file or a pipe gets lines. Both
    have the rate of this process, without its first step, which TensorFlow compiles
    in, and the time left at that rate.

    Args:
        epochs: of the whole training.
        dataset: what is trained on, whose `sizes` it takes out.
        done: steps that the training had behind it when this process began.
        stream: where to print; stdout by default.
    """

    def __init__(
        self, epochs: int, dataset: EndlessBatches, done: int = 0, stream=None
    ):
        super().__init__()
        self._stream = sys.stdout if stream is None else stream
        self._epochs, self._steps = epochs, len(dataset)
        self._dataset, self._done = dataset, done
        self._first, self._epoch = done, 0
        self._start = None
        self._counted = self._images = 0
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm.tqdm(
                total=epochs * self._steps,
                initial=done,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} steps{postfix}",
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._first, self._epoch = max(self._done, epoch * self._steps), epoch

    def on_train_batch_end(self, batch, logs=None):
        self._done = self._first + batch + 1
        size = self._dataset.sizes.pop(self._done - 1, None)
        now = time.monotonic()
        if self._start is None:
            self._start = self._printed = now
            return
        self._counted += 1
        self._images += size or 0
        if self._bar is not None:
            self._bar.set_postfix_str(self._rate(now), refresh=False)
            self._bar.update(self._done - self._bar.n)
        elif now - self._printed > LINE_SECONDS and self._done % self._steps:
            self._printed = now
            self._print(self._line(logs, now))

    def on_epoch_end(self, epoch, logs=None):
        self._printed = time.monotonic()
        self._print(self._line(logs, self._printed))

    def close(self) -> None:
        """Ends the bar's line."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, logs, now):
        values = (f"{k} {six_digits(v):g}" for k, v in (logs or {}).items())
        step = self._done - self._epoch * self._steps
        return (
            f"epoch {self._epoch + 1}/{self._epochs}, step {step}/{self._steps}: "
            f"{', '.join([*values, self._rate(now)])}"
        )

    def _rate(self, now):
        """Says how fast this process is and how long it takes to the end."""
        seconds = now - (now if self._start is None else self._start)
        if not self._counted or seconds <= 0:
            return "rate unknown yet"
        if self._images:
            rate = f"{self._images / seconds:.4g} images/s"
        else:
            rate = f"{self._counted / seconds:.4g} steps/s"
        steps = self._epochs * self._steps - self._done
        left = round(steps * seconds / self._counted)
        return f"{rate}, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"

    def _print(self, line):
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)
