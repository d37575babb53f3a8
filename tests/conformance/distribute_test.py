"""Under MirroredStrategy on two virtual CPUs, models compute and train the same."""

import json
import math

import pytest

from tests.case import child
from tests.conformance.descriptors import MODELS

# A layer, a model with a loss of its own and one that holds two parts; tracing the
# step of the others on two replicas takes most of a minute.
QUICK = ["inverted_residual", "centernet_landmarks", "face_embedder"]


def check(names):
    result = child(["-m", "tests.conformance.in_child", "mirrored", *names], 900)
    lines = [json.loads(s) for s in result.stdout.splitlines() if s.startswith("{")]
    assert [line["name"] for line in lines] == names, result.stderr[-2000:]
    for line in lines:
        assert line["replicas"] == 2
        assert line["difference"] < 1e-3, line
        assert line["spread"] == 0, f"the replicas' weights drifted apart: {line}"
        if line["losses"] is not None:
            assert all(math.isfinite(loss) for loss in line["losses"])


def test_two_replicas():
    check(QUICK)


@pytest.mark.slow
def test_two_replicas_of_the_others():
    check([name for name in MODELS if name not in QUICK])
