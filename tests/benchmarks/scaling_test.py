"""The arithmetic of the scaling plan, and a short measurement."""

import re

import pytest

from tests.benchmarks.face_benchmarks_test import program
from tests.case import child


@pytest.fixture(scope="module")
def scaling():
    return program("scaling")


def test_a_ring_by_hand(scaling):
    # 8 devices send 14 / 8 of 800 bytes at 100 bytes a second.
    assert scaling.all_reduce_seconds(800, 8, 100) == pytest.approx(14)
    assert scaling.all_reduce_seconds(800, 1, 100) == 0


def test_efficiency_by_hand(scaling):
    assert scaling.efficiency(3.0, 1.0, overlap=False) == pytest.approx(0.75)
    # The backward pass of 2 s hides 2 of 3 s, and all of 1 s.
    assert scaling.efficiency(3.0, 3.0, overlap=True) == pytest.approx(0.75)
    assert scaling.efficiency(3.0, 1.0, overlap=True) == 1


@pytest.mark.parametrize("overlap", [False, True])
def test_the_shortest_step_is_as_efficient_as_said(scaling, overlap):
    step = scaling.shortest_step(0.5, overlap)
    assert scaling.efficiency(step, 0.5, overlap) == pytest.approx(scaling.GOOD)


def test_medians_and_ratios(scaling):
    runs = {
        (1, 1): {"rows": 4, "seconds": [0.5, 0.4, 9.0, 0.5]},
        (2, 2): {"rows": 8, "seconds": [0.5, 0.5, 0.5, 0.5]},
    }
    first, second = scaling.measured_rows(runs)
    assert first[3] == "500.0" and first[5:] == ["8.0", "1.00"]
    assert second[:3] == [2, 2, 8] and second[5:] == ["16.0", "2.00"]


def test_help_and_bad_input(scaling, capsys):
    run = scaling.command.run
    assert run(scaling.main, scaling.FLAGS, scaling.__doc__, ["scaling", "--help"]) == 0
    assert "--write" in capsys.readouterr().out
    result = child(["benchmarks/scaling", "--models=classifier,tree"])
    assert result.returncode == 1
    assert result.stderr == (
        "scaling: models are of classifier, detector; received tree\n"
    )


@pytest.mark.slow
def test_a_short_measurement(tmp_path):
    result = child(["benchmarks/scaling", "--steps=3", "--models=classifier"], 600)
    assert result.returncode == 0, result.stderr[-2000:]
    # MobileNetV2 0.5 without its last convolution, and ten classes: 4 bytes each.
    size = int(re.search(r"Gradients: (\d+) bytes", result.stdout)[1])
    assert size % 4 == 0 and 1e6 < size < 4e6
    rows = re.findall(r"^\| (\d) +\| (\d) +\| (\d+) ", result.stdout, re.M)
    assert rows == [("1", "1", "16"), ("1", "2", "16"), ("2", "2", "32")]
