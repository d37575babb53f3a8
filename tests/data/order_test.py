"""The order is a pure function, and shards together are the whole."""

import numpy as np
import pytest

from mlcvtf.data.order import Order
from mlcvtf.errors import InputError


def epoch_of(order, epoch=0):
    return [[order.record(epoch, p) for p in order.positions(step)]
            for step in range(order.steps)]


def test_an_epoch_is_a_permutation_of_its_own():
    order = Order(12, 4, seed=5)
    first, second = epoch_of(order), epoch_of(order, 1)
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(12))
    assert first != second
    # The same in any order of asking, and in another object.
    again = Order(12, 4, seed=5)
    assert [epoch_of(again, e) for e in (7, 1, 0)][1:] == [second, first]
    assert epoch_of(Order(12, 4, seed=6)) != first
    assert epoch_of(Order(12, 4, shuffle=False), 3) == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize("count", [12, 17, 23])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_are_the_batch_of_one_worker(count, shards):
    whole = Order(count, 6, seed=1)
    parts = [Order(count, 6 // shards, seed=1, shard_index=i, shard_count=shards)
             for i in range(shards)]
    assert {part.steps for part in parts} == {count // 6}
    for step in range(whole.steps):
        together = [part.record(2, p) for part in parts for p in part.positions(step)]
        assert together == epoch_of(whole, 2)[step]


def test_the_remainder_is_dropped_or_padded():
    dropped = Order(10, 4, seed=2)
    assert dropped.steps == 2
    left_out = {frozenset(range(10)) - set(sum(epoch_of(dropped, e), []))
                for e in range(5)}
    assert len(left_out) > 1 and {len(s) for s in left_out} == {2}
    padded = Order(10, 4, seed=2, remainder="pad")
    assert padded.steps == 3
    weights = [padded.weight(p) for s in range(3) for p in padded.positions(s)]
    assert weights == [1.0] * 10 + [0.0] * 2
    records = np.array(sum(epoch_of(padded), []))
    assert sorted(records[:10]) == list(range(10))
    np.testing.assert_array_equal(records[10:], records[:2])
    # Few records and many workers: padding may go round more than once.
    tiny = Order(2, 2, shard_index=2, shard_count=3, remainder="pad", shuffle=False)
    assert epoch_of(tiny) == [[0, 1]] and tiny.weight(4) == 0.0


@pytest.mark.parametrize("arguments, message", [
    (dict(count=3, batch_size=4), "a batch of 4 for each of 1"),
    (dict(count=7, batch_size=4, shard_count=2), "received 7"),
    (dict(count=0, batch_size=4, remainder="pad"), "received 0"),
    (dict(count=9, batch_size=0), "one record or more"),
    (dict(count=9, batch_size=1, seed=-1), "not negative"),
    (dict(count=9, batch_size=1, shard_index=2, shard_count=2), "2 of 2"),
    (dict(count=9, batch_size=1, remainder="keep"), "drop, pad"),
])
def test_numbers_that_do_not_go_together(arguments, message):
    with pytest.raises(InputError, match=message):
        Order(**arguments)
