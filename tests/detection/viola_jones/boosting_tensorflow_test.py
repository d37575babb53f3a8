"""TensorFlow's search finds the processor's splits under every strategy."""

import json

import numpy as np
import pytest

from tests.case import child
from tests.training.cluster import run_workers


def run(name):
    result = child(
        ["-m", "tests.detection.viola_jones.boosting_child", name],
        300,
        CUDA_VISIBLE_DEVICES="",
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def expected():
    return run("numba")["numba"]


@pytest.mark.parametrize("strategy", ["one_device", "mirrored"])
def test_split_for_split(strategy, expected):
    found = run(strategy)
    assert len(found) == 3
    for kind, rounds in found.items():
        # Features, bins, children, leaves and errors, to the last bit.
        assert rounds == expected, kind


@pytest.mark.slow
def test_two_workers_split_for_split(tmp_path, expected):
    module = "tests.detection.viola_jones.boosting_child"
    ends = run_workers(
        tmp_path, lambda i: ["-m", module, "multi_worker", tmp_path / f"{i}.json"], 280
    )
    assert [code for code, _, _ in ends] == [0, 0], ends[0][1][-3000:]
    for worker in range(2):
        found = json.loads((tmp_path / f"{worker}.json").read_text())
        assert len(found) == 3
        for kind, rounds in found.items():
            assert rounds == expected, kind


def test_the_cases_say_something(expected):
    stumps, _, trees, _ = expected
    assert len({tuple(tree[1]) for tree in stumps}) > 3
    assert any(len(tree[1]) == 3 for tree in trees)
    # Of the equal features 4 and 40 the first wins.
    chosen = {feature for tree in stumps + trees for feature in tree[1]}
    assert 4 in chosen and 40 not in chosen


def test_an_unknown_share_is_refused():
    from mlcvtf.detection.viola_jones.boosting_tensorflow import TensorSearch

    with pytest.raises(ValueError, match="received 'both'"):
        TensorSearch(np.zeros((1, 8), np.uint8), 8, shard="both")
