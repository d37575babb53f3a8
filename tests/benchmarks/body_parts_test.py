"""The benchmark of the body-part forest, in its smallest form."""

import re

import numpy as np
import pytest

from tests.benchmarks.face_benchmarks_test import program
from tests.case import child


@pytest.fixture(scope="module")
def body_parts():
    return program("body_parts")


def test_figures_have_all_parts_and_noise_where_asked(body_parts):
    depth, labels = body_parts.figure(3)
    assert depth.dtype == np.float32 and labels.dtype == np.uint8
    assert set(np.unique(labels)) == set(range(body_parts.CLASSES + 1))
    assert ((depth > 0) == (labels > 0)).all() and depth.max() < 5
    spoilt = body_parts.figure(3, 0.5)[1]
    assert 0.4 < (spoilt != labels)[labels > 0].mean() < 0.6
    assert (spoilt[labels == 0] == 0).all()


def test_surfaces_have_the_pixels_of_the_goals(body_parts):
    assert 20_000 <= (body_parts.surface(False) > 0).sum() <= 20_100
    assert (body_parts.surface(True) > 0).sum() == 76_800


def test_help_and_bad_input(body_parts, capsys):
    run = body_parts.command.run
    arguments = (body_parts.main, body_parts.FLAGS, body_parts.__doc__)
    assert run(*arguments, ["body_parts", "--help"]) == 0
    assert "--write" in capsys.readouterr().out
    result = child(["benchmarks/body_parts", "--parts=inference,speed"])
    assert result.returncode == 1
    assert result.stderr == (
        "body_parts: parts are of inference, training, trees; received speed\n")


@pytest.mark.slow
def test_all_paths_are_equal(tmp_path):
    result = child(["benchmarks/body_parts", "--pictures=4", "--pixels=60",
                    "--repeats=1", "--parts=inference"], 600)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = re.findall(r"^\| (20051|76800) .* \| (yes|NO) +\|$", result.stdout, re.M)
    assert len(rows) == 8 and {equal for _, equal in rows} == {"yes"}


@pytest.mark.peer
def test_training_beside_scikit_learn():
    pytest.importorskip("sklearn", reason="needs scikit-learn (the extra peers)")
    result = child(["benchmarks/body_parts", "--pictures=10", "--pixels=200",
                    "--repeats=1", "--parts=training"], 600)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = re.findall(r"^\| (\d+) +\| (mlcvtf, 1|scikit).*\| ([.0-9]+) +\|$",
                      result.stdout, re.M)
    accuracy = {row[:2]: float(row[2]) for row in rows}
    for tried in ("20", "100"):
        ours, theirs = accuracy[tried, "mlcvtf, 1"], accuracy[tried, "scikit"]
        assert ours > theirs - 0.04 and theirs > 0.4
