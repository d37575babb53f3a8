"""Batches that depend on their number alone, so that a resumed run repeats nothing."""

import threading
import time

import keras

# Batches whose number of rows is known, more than are ever made ahead.
SIZES = 1000


class EndlessBatches(keras.utils.PyDataset):
    """A stream of batches without end, cut into epochs by `fit(steps_per_epoch=...)`.

    Keras fetches the first batches of an epoch before any callback can tell a data
    set that it began. So the stream is endless, and the number of a batch says which
    epoch it belongs to.

    Subclasses define `__len__` (batches per epoch) and `batch(epoch, index)`, a pure
    function of both.

    Attributes:
        first: the number of the first batch; `training.fit` sets it after a resume.
        ended: whether batches raise EOFError, by `end`.
        replaced: name of each picture that could not be used and was replaced by
            another, to the reason; recipes that read pictures fill it.
        sizes: rows of the last batches that were made, by number, until somebody
            takes them out; nothing where other processes make the batches.
    """

    first = 0
    ended = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {}
        self.replaced = {}
        # Threads that make a batch now; a set, since a lock cannot be sent to others.
        self._making = set()

    @property
    def num_batches(self):
        """None: no end."""
        return None

    def end(self) -> None:
        """Has no more batches made; returns when none is being made.

        It comes before an error that leaves `fit` in the middle: a process that ends
        while a thread of TensorFlow makes a batch waits for that thread for ever.
        """
        self.ended = True
        while self._making:
            time.sleep(0.01)

    def __getitem__(self, number):
        thread = threading.get_ident()
        self._making.add(thread)
        try:
            if self.ended:
                raise EOFError("the training has been asked to end")
            return self._counted(number + self.first)
        finally:
            self._making.discard(thread)

    def _counted(self, number):
        """Makes a batch and notes its size."""
        batch = self.batch(*divmod(number, len(self)))
        self.sizes[number] = rows(batch)
        self.sizes.pop(number - SIZES, None)
        return batch


class FirstEpoch(keras.utils.PyDataset):
    """The batches of an endless stream's first epoch, over and over, for validation.

    Args:
        batches: the stream.
    """

    def __init__(self, batches: EndlessBatches):
        super().__init__(
            workers=batches.workers,
            use_multiprocessing=batches.use_multiprocessing,
            max_queue_size=batches.max_queue_size,
        )
        self.batches = batches

    @property
    def replaced(self):
        """As of the stream."""
        return self.batches.replaced

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches.batch(0, index)


def rows(batch) -> int:
    """Counts the rows of a batch, which may be arrays in dicts, tuples and lists."""
    while isinstance(batch, dict | tuple | list):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return len(batch)
