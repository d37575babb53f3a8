"""Batches that depend on their number alone, so that a resumed run repeats nothing."""

import keras


class EndlessBatches(keras.utils.PyDataset):
    """A stream of batches without end, cut into epochs by `fit(steps_per_epoch=...)`.

    Keras fetches the first batches of an epoch before any callback can tell a data
    set that it began. So the stream is endless, and the number of a batch says which
    epoch it belongs to.

    Subclasses define `__len__` (batches per epoch) and `batch(epoch, index)`, a pure
    function of both.

    Attributes:
        start: the epoch of the first batch; `training.fit` sets it after a resume.
    """

    start = 0

    @property
    def num_batches(self):
        """None: no end."""
        return None

    def __getitem__(self, number):
        epoch, index = divmod(number, len(self))
        return self.batch(self.start + epoch, index)
