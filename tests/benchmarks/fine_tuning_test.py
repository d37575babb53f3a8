"""The table of what fine-tuning gains, from made-up figures."""

import json
import sys

import pytest

from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT

PROGRAM = "fine_tuning"


def store(work, init, fraction, seed, accuracy):
    folder = work / "fine_tuning" / f"{init}_{fraction}_{seed}"
    folder.mkdir(parents=True)
    figures = {
        "parameters": 1000,
        "training pictures": round(3068 * float(fraction)),
        "accuracy, val": accuracy,
        "share of the most frequent class, val": 0.25,
    }
    (folder / "figures.json").write_text(json.dumps(figures))


def test_gains_are_over_random_weights_by_share(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / PROGRAM)])
    module = program(PROGRAM)
    for seed, accuracy in enumerate((0.30, 0.40)):
        store(tmp_path, "scratch", "0.1", seed, accuracy)
        store(tmp_path, "cifar10", "0.1", seed, accuracy + 0.1)
    store(tmp_path, "pretext", "0.3", 0, 0.5)
    code = module.command.run(
        module.main, module.FLAGS, module.__doc__, [PROGRAM, f"--work={tmp_path}"])
    assert code == 0
    text = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in text.splitlines() if line.startswith("| 1") or "30 %" in line]
    assert rows == [
        ["10 %", "307", "random weights", "0.350", "0.300 to 0.400", "2", ""],
        ["10 %", "307", "CIFAR-10's labels", "0.450", "0.400 to 0.500", "2", "+10.0"],
        ["30 %", "920", "clothing, no labels", "0.500", "0.500 to 0.500", "1", ""],
    ]
    assert "gives 0.250" in text


def test_nothing_trained_is_one_line(tmp_path, capsys):
    module = program(PROGRAM)
    code = module.command.run(
        module.main, module.FLAGS, module.__doc__, [PROGRAM, f"--work={tmp_path}"])
    assert code == 1
    assert "there are none: --run" in capsys.readouterr().err


def test_the_plot_is_drawn(tmp_path):
    module = program(PROGRAM)
    figure = {"training pictures": 307, "accuracy, val": 0.5,
              "share of the most frequent class, val": 0.25}
    cells = {("scratch", 0.1): [figure], ("pretext", 0.1): [figure, figure]}
    module.draw(cells, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


@pytest.mark.parametrize("flag", ["--run", "--write"])
def test_help_names_its_flags(flag, capsys):
    module = program(PROGRAM)
    module.command.run(module.main, module.FLAGS, module.__doc__, [PROGRAM, "--help"])
    assert flag in capsys.readouterr().out
