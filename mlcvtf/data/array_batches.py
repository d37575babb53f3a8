"""Batches of a set as NumPy arrays, for every backend; TensorFlow is not needed."""

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.data.examples import Examples, stack
from mlcvtf.data.order import Order


class ArrayBatches(EndlessBatches):
    """Gives the batches that `datasets.batches` gives, as NumPy arrays.

    A batch is (images, targets), and weights where the order pads: float32
    `[batch, height, width, 3]` in 0..255; `{"boxes", "labels"}`, `[batch]` classes,
    `[batch, height, width]` masks or `[batch, height, width, 3]` pictures; float32
    `[batch]`.

    Args:
        examples: what each record becomes.
        order: which record comes when, on this worker.
        **kwargs: of `keras.utils.PyDataset`: `workers`, `max_queue_size`.
    """

    def __init__(self, examples: Examples, order: Order, **kwargs):
        super().__init__(**kwargs)
        self.examples = examples
        self.order = order
        self.replaced = examples.replaced

    def __len__(self):
        return self.order.steps

    def batch(self, epoch: int, index: int) -> tuple:
        """Makes the batch of a step.

        Args:
            epoch: from 0.
            index: step of the epoch, from 0.

        Raises:
            InputError: names a picture that cannot be used.
        """
        positions = self.order.positions(index)
        made = stack(
            [self.examples.at(self.order, epoch, p) for p in positions],
            [self.order.weight(p) for p in positions])
        return made if self.order.remainder == "pad" else made[:2]
