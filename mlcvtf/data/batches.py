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
        first: the number of the first batch; `training.fit` sets it after a resume.
        ended: set to True, batches raise EOFError. A `fit` that is left in the middle
            by other ways waits for ever in TensorFlow for the thread that makes them.
    """

    first = 0
    ended = False

    @property
    def num_batches(self):
        """None: no end."""
        return None

    def __getitem__(self, number):
        if self.ended:
            raise EOFError("the training has been asked to end")
        return self.batch(*divmod(self.first + number, len(self)))
