"""Has several workers save and stop after the same step."""

import time
from collections.abc import Callable, Sequence

import numpy as np

# Workers ask each other about so often; a machine that is taken away leaves 30 s or so.
SECONDS = 1.0


class Agreement:
    """Asks all workers from time to time whether one of them has to save or to stop.

    A worker cannot act alone: a checkpoint, like a step, is computed by all together.
    So each tells the others what it wishes, in an exchange that all take part in after
    the same step, and what one wishes all do. They also agree on how many steps later
    the next exchange is: about `SECONDS` later by the slowest clock, at most twice as
    many steps as before, so that one fast step does not put it off for long.

    Args:
        gather: maps n integers of this worker to int64 `[replicas, n]` of all, equal on
            all of them; it is called after the same steps everywhere.
        seconds: between two exchanges, about.
    """

    def __init__(
        self, gather: Callable[[Sequence[int]], np.ndarray], seconds: float = SECONDS
    ):
        self._gather, self._seconds = gather, seconds
        # Steps between two exchanges, and the finished steps at the next one.
        self._steps, self._next = 1, None
        self._asked = time.monotonic()

    def ask(self, done: int, stop: bool, save: bool) -> tuple[bool, bool]:
        """Tells the others what this worker wishes, if it is time to.

        Args:
            done: finished steps of the training, the same on all workers.
            stop: whether this worker has to stop.
            save: whether it is time for a checkpoint here.

        Returns:
            Whether all stop, and whether all save; False between two exchanges.
        """
        if self._next is not None and done < self._next:
            return False, False
        seconds = max(time.monotonic() - self._asked, 1e-6)
        possible = int(self._steps * min(self._seconds / seconds, 2.0))
        found = self._gather([int(stop), int(save), max(1, possible)])
        self._steps = int(found[:, 2].min())
        self._next = done + self._steps
        # After the exchange, which waits for the slowest.
        self._asked = time.monotonic()
        return bool(found[:, 0].any()), bool(found[:, 1].any())
