"""Short trainings on made-up pictures, and their log."""

import json

import keras
import numpy as np
import pytest

from mlcvtf.classification.cell_network import cell_network
from mlcvtf.classification.trials import Pictures, Schedule, TrialLog, split, train
from mlcvtf.errors import InputError


def made_up(count=60, held=30):
    """Pictures whose class is the channel that is bright."""
    generator = np.random.default_rng(0)
    labels = np.arange(count + held, dtype=np.int32) % 3
    images = generator.integers(0, 120, (len(labels), 8, 8, 3), np.uint8)
    images[np.arange(len(labels)), :, :, labels] += 120
    return Pictures(images[:count], labels[:count], images[count:], labels[count:], 3)


def test_a_split_shares_nothing_and_holds_out_the_same_pictures():
    images = np.arange(20, dtype=np.uint8)[:, None, None, None]
    one, other = (split(images, np.arange(20), 20, n, 5) for n in (10, 15))
    np.testing.assert_array_equal(one.held_images, other.held_images)
    np.testing.assert_array_equal(one.held_images.ravel(), one.held_labels)
    assert not set(other.labels) & set(other.held_labels)
    assert len(set(other.labels)) == 15 and len(set(one.labels)) == 10
    with pytest.raises(ValueError, match="16 pictures to train on and 5 held out"):
        split(images, np.arange(20), 20, 16, 5)


def test_a_training_learns_and_repeats_itself():
    def result():
        keras.utils.set_random_seed(0)
        network = cell_network((1, 1, 2, 0), 4, 1, 1, (8, 8, 3))
        return train(network, made_up(), Schedule(4, 10, 0.1))

    one = result()
    assert one["accuracy"] >= 0.9 and one["seconds"] > 0
    again = result()
    assert (again["accuracy"], again["loss"]) == (one["accuracy"], one["loss"])
    # Stem 3x3x3x4, two 1x1 adjustments (one unused), 3x3 of 4 to 4 with the pass-by, 3
    # normalisations of 4, and the head.
    assert one["parameters"] == 108 + 16 + 144 + 3 * 8 + 15


def test_a_log_goes_on_after_a_kill(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    log = TrialLog(path)
    assert log.trials == [] and not path.exists()
    log.add({"a": 1})
    log.add({"a": 2})
    assert TrialLog(path).trials == [{"a": 1}, {"a": 2}]
    path.write_bytes(path.read_bytes() + b'{"a": 3, "b')
    log = TrialLog(path)
    assert log.trials == [{"a": 1}, {"a": 2}]
    assert path.read_text().endswith('"b'), "a reader changed another one's log"
    log.add({"a": 3})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_damaged_log_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\nnone\n{"a": 2}\n')
    with pytest.raises(InputError, match="log.jsonl line 2: none"):
        TrialLog(path)
    assert path.read_text() == '{"a": 1}\nnone\n{"a": 2}\n'
