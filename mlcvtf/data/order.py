"""Which record stands at which position of which epoch, on which worker.

A pure function of (seed, epoch, position): nothing is buffered, so a run that starts
in the middle of an epoch sees what the first run would have seen. NumPy only.
"""

import functools

import numpy as np

from mlcvtf.errors import InputError

REMAINDERS = ("drop", "pad")


class Order:
    """Cuts the epochs of a set into batches and the batches among workers.

    At step s all workers together take the s-th group of `batch_size * shard_count`
    positions, each its own `batch_size` of them. So the union of the workers' batches
    is the batch of one worker alone at the same global size, and every worker has the
    same number of steps.

    Args:
        count: records of the set.
        batch_size: records per batch of one worker.
        seed: of the shuffle.
        shuffle: whether each epoch has an order of its own, or the set's.
        shard_index: number of this worker, from 0.
        shard_count: number of workers.
        remainder: "drop" leaves out the records at an epoch's end that do not fill a
            batch for every worker (others each epoch when shuffled); "pad" fills it
            with records from the epoch's beginning, of weight 0.

    Raises:
        InputError: the numbers do not go together, or an epoch would have no batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0,
                 shuffle: bool = True, shard_index: int = 0, shard_count: int = 1,
                 remainder: str = "drop"):
        if not 0 <= shard_index < shard_count:
            raise InputError("a shard is one of 0 to shard_count - 1, received "
                             f"{shard_index} of {shard_count}")
        if remainder not in REMAINDERS:
            raise InputError(f"the remainder is one of {', '.join(REMAINDERS)}, "
                             f"received {remainder}")
        if batch_size < 1 or seed < 0:
            raise InputError("a batch has one record or more and a seed is not "
                             f"negative, received {batch_size} and {seed}")
        group = batch_size * shard_count
        if count < (group if remainder == "drop" else 1):
            raise InputError(f"an epoch has a batch of {batch_size} for each of "
                             f"{shard_count} workers, received {count} records")
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.shard_index = shard_index
        self.shard_count = shard_count
        self.remainder = remainder
        self.steps = count // group if remainder == "drop" else -(-count // group)
        # Per order, not per class: an order may outlive its use as a cache's key.
        self._epoch = functools.lru_cache(maxsize=4)(self._permutation)

    def positions(self, step: int) -> range:
        """Lists the positions of this worker's batch.

        Args:
            step: of an epoch, from 0 to `steps` - 1.

        Returns:
            `batch_size` positions of the epoch; those from `count` on are padding.
        """
        start = (step * self.shard_count + self.shard_index) * self.batch_size
        return range(start, start + self.batch_size)

    def record(self, epoch: int, position: int) -> int:
        """Returns the number of the record at a position, which may wrap around."""
        return int(self._epoch(epoch)[position % self.count])

    def weight(self, position: int) -> float:
        """Returns 1 for a record and 0 for padding."""
        return float(position < self.count)

    def _permutation(self, epoch):
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)
