"""Training on several devices and machines equals training on one.

Children train the cases of `strategy_child.py`: one on one device, one on two virtual
CPUs, and, where it is slow, two on loopback.
"""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.case import ROOT, child

CHILD = "tests.training.strategy_child"
# float32, full batches, no random layer: what equals one device.
EXACT = ["everything", "moving_average", "clipping", "decay", "accumulation",
         "scaled_accumulation", "overflow", "endless", "counted", "saved", "masked"]
CASES = [*EXACT, "half_precision"]


def results(path):
    """Reads {case: {name: array}}."""
    cases = {}
    with np.load(path) as file:
        for key in file:
            case, _, name = key.partition(": ")
            cases.setdefault(case, {})[name] = file[key]
    return cases


def run_child(strategy, path, *cases):
    result = child(["-m", CHILD, strategy, path, *cases], 600)
    assert result.returncode == 0, result.stderr[-3000:]
    return results(path)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "out.npz"
    return run_child("one_device", path, *CASES)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "out.npz"
    return run_child("mirrored", path, *CASES, "refusals")


def check_equal(case, actual, expected, tolerance):
    """Compares what two children computed, relative to the largest value."""
    assert actual[case].keys() == expected[case].keys()
    for name, one in expected[case].items():
        one, other = one.astype("float64"), actual[case][name].astype("float64")
        assert np.isfinite(one).all(), (case, name)
        scale = max(1.0, np.abs(one).max())
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * scale,
                                   err_msg=f"{case}: {name}")


def check_moved(case, expected):
    """An equality of weights that never moved would say nothing."""
    for name in expected[case]:
        if name.endswith("|kernel"):
            assert np.abs(expected[case][name]).max() > 0.1


@pytest.mark.parametrize("case", EXACT)
def test_two_replicas_equal_one_device(case, mirrored, one_device):
    check_equal(case, mirrored, one_device, 1e-5)
    check_moved(case, one_device)
    assert mirrored[case].get("spread", 0) == 0, "the replicas drifted apart"


def check_figures(cases):
    """What the equality with one device leaves open."""
    # 4 steps an epoch, of which one overflows on the last replica only.
    assert cases["overflow"]["iterations"] == 6
    assert cases["overflow"]["scale"] == 64.0 / 4
    # 16 steps, some left out, none of them NaN, on all replicas alike.
    half = cases["half_precision"]
    assert 0 < half["iterations"] < 16
    assert half["scale"] == 2.0**22 / 2 ** (16 - half["iterations"])
    assert all(np.isfinite(values).all() for values in half.values())
    assert half["spread"] == 0
    # 4 steps of 8 rows: no phantom step in the count or in the metric.
    assert cases["counted"]["iterations"] == 4
    np.testing.assert_allclose(
        cases["counted"]["accuracy"], cases["counted"]["right"], atol=1e-6
    )
    assert not cases["saved"]["synchronized"].any()


def test_figures_of_two_replicas(mirrored):
    check_figures(mirrored)


REFUSED = {
    "length": "known length.*received data of unknown length",
    "evaluated length": "known length",
    "validation length": "known length",
    "execution": "received steps_per_execution=2",
    "optimizer": "received the optimizer .*iteration from outside",
    "layer": "received the layer weight .*kernel from outside",
    "model": "received sequential.* built outside",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, mirrored):
    check_line(str(mirrored["refusals"][name]), REFUSED[name])


def check_line(text, pattern):
    import re

    assert re.search(pattern, text), text
    assert len(text.splitlines()) == 1


def test_auto_shard_off_is_fine_on_one_machine(mirrored):
    assert str(mirrored["refusals"]["off"]) == ""
