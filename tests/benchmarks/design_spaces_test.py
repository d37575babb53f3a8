"""The comparison of design spaces: two models on made-up pictures, and its table."""

import json

import numpy as np
import pytest

from mlcvtf.configs import cifar10_classifier
from tests.benchmarks.architecture_search_test import made_up, rows
from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT, child

NAME = "design_spaces"


def run(module, *arguments):
    return module.command.run(
        module.main, module.FLAGS, module.__doc__, [NAME, *arguments])


@pytest.mark.slow
def test_models_are_trained_once(tmp_path, capsys, monkeypatch):
    module = program(NAME)
    monkeypatch.setattr(cifar10_classifier, "pictures", made_up)
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / NAME)])
    small = [f"--work={tmp_path}", "--spaces=RegNet", "--models=1", "--epochs=1",
             "--pictures=32", "--held=16"]
    assert run(module, *small) == 0
    printed = capsys.readouterr()
    assert printed.err.count("model 1 of this run: error") == 1
    trial = json.loads((tmp_path / "RegNet.jsonl").read_text())
    assert trial["error"] == 1 - trial["accuracy"] and len(trial["stages"]) == 4
    assert rows(printed.out)["RegNet"][0] == "1"
    assert run(module, *small, "--models=2", "--norun") == 0
    again = capsys.readouterr()
    assert again.err == "" and again.out.splitlines()[:7] == printed.out.splitlines()[
        :7]


def test_the_table_and_the_plot_of_made_up_models(tmp_path, capsys, monkeypatch):
    module = program(NAME)
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / NAME)])
    for space, errors in (("AnyNet", [0.5, 0.6, 0.7]), ("RegNet", [0.4, 0.5, 0.9])):
        lines = [json.dumps({"error": e, "multiply_adds": 8e6, "seconds": 60.0})
                 for e in errors]
        (tmp_path / f"{space}.jsonl").write_text("\n".join(lines) + "\n")
    assert run(module, f"--work={tmp_path}", "--norun") == 0
    text = capsys.readouterr().out
    table = rows(text)
    assert table["AnyNet"][:5] == ["3", "8.00", "0.500", "0.600", "0.600"]
    assert table["RegNet"][2:5] == ["0.400", "0.500", "0.600"]
    # The median of all six is 0.55: below it lie one and two of three.
    assert "F(0.550)" in text
    assert [table[s][7].split()[0] for s in ("AnyNet", "RegNet")] == ["0.33", "0.67"]
    assert table["AnyNet"][-1] == "3"
    trials = {"AnyNet": [{"error": e} for e in np.linspace(0.4, 0.8, 30)]}
    module.draw(trials, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_bad_input_is_one_line(tmp_path):
    result = child([f"benchmarks/{NAME}", "--spaces=VGG", f"--work={tmp_path}"])
    assert result.returncode == 1 and "received VGG" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = child([f"benchmarks/{NAME}", "--norun", f"--work={tmp_path}"])
    assert result.returncode == 1 and "there are none: --run" in result.stderr
