"""What several workers agree on, in threads that exchange numbers."""

import threading
import time

import numpy as np
import pytest

from mlcvtf.training.agreement import Agreement

STEPS = 40


def run(wishes, pauses=(0.0, 0.0), seconds=0.02):
    """Lets workers take steps until they agree to stop.

    Args:
        wishes: per worker {step: (stop, save)}; a wish to stop stays, as a signal does.
        pauses: seconds per step of each worker.
        seconds: between two exchanges.

    Returns:
        Per worker the steps of its exchanges, after which it saved, and its last one.
    """
    count = len(wishes)
    barrier, board = threading.Barrier(count, timeout=20), [None] * count
    found = [None] * count

    def work(index):
        exchanges, saved, stopping = [], [], False

        def gather(numbers):
            exchanges.append(step)
            board[index] = (step, *numbers)
            barrier.wait()
            rows = np.array(board)
            barrier.wait()
            assert (rows[:, 0] == step).all(), "an exchange at different steps"
            return rows[:, 1:]

        agreement = Agreement(gather, seconds)
        for step in range(1, STEPS + 1):  # noqa: B007 (gather reads it)
            time.sleep(pauses[index])
            stop, save = wishes[index].get(step, (False, False))
            stopping = stopping or stop
            stop, save = agreement.ask(step, stopping, save)
            if save:
                saved.append(step)
            if stop:
                break
        found[index] = exchanges, saved, step

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in found
    return found


def test_all_stop_after_one_step_although_one_was_asked():
    (first, _, end), (second, _, other) = run([{}, {7: (True, False)}])
    assert end == other and 7 <= end < STEPS
    assert first == second


def test_all_save_after_one_step_although_it_was_time_for_one():
    wish = {step: (False, True) for step in range(5, 12)}
    (_, saved, end), (_, others, other) = run([wish, {}])
    assert saved == others and saved
    assert end == other == STEPS


def test_the_slowest_says_how_often_they_exchange():
    (exchanges, _, _), _ = run([{}, {}], (0.0, 0.012), seconds=0.03)
    gaps = np.diff(exchanges)
    # 30 ms are two steps of the slower one; without exchanges between, hundreds of the
    # other's.
    assert gaps.max() <= 4 and len(exchanges) >= STEPS / 5


def test_one_fast_step_does_not_put_off_the_next_exchange():
    (exchanges, _, _), _ = run([{}, {}], seconds=1000.0)
    assert exchanges[:5] == [1, 3, 7, 15, 31]


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_every_step_where_a_step_takes_longer(seconds):
    (exchanges, _, _), _ = run([{}, {}], seconds=seconds)
    assert exchanges == list(range(1, STEPS + 1))
