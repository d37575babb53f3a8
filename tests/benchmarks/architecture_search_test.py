"""The comparison of searches: a few children on made-up pictures, and its table."""

import json
import re

import numpy as np
import pytest

from mlcvtf.configs import cifar10_classifier
from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT, child

NAME = "architecture_search"


def run(module, *arguments):
    return module.command.run(
        module.main, module.FLAGS, module.__doc__, [NAME, *arguments])


def rows(text):
    return {cells[0]: cells[1:] for cells in (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines() if line.startswith("|"))}


def made_up(*arguments):
    generator = np.random.default_rng(0)
    labels = np.arange(48, dtype=np.int32) % 3
    images = generator.integers(0, 256, (48, 8, 8, 3), np.uint8)
    return images, labels, ["a", "b", "c"]


@pytest.mark.slow
def test_children_are_trained_once_and_only_what_is_missing(
    tmp_path, capsys, monkeypatch
):
    module = program(NAME)
    monkeypatch.setattr(cifar10_classifier, "pictures", made_up)
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / NAME)])
    small = [f"--work={tmp_path}", "--seeds=0", "--epochs=1", "--channels=4",
             "--pictures=32", "--held=16"]
    assert run(module, *small, "--children=1", "--methods=random") == 0
    assert len(re.findall("accuracy 0", capsys.readouterr().err)) == 1
    first = (tmp_path / "random_0.jsonl").read_text()
    small.append("--methods=random,REINFORCE")
    assert run(module, *small, "--children=2") == 0
    printed = capsys.readouterr()
    assert (tmp_path / "random_0.jsonl").read_text().startswith(first)
    for method in ("random", "REINFORCE"):
        lines = (tmp_path / f"{method}_0.jsonl").read_text().splitlines()
        trials = [json.loads(line) for line in lines]
        assert [trial["child"] for trial in trials] == [0, 1]
        assert all(len(trial["cell"]) == 16 and 0 <= trial["accuracy"] <= 1
                   and trial["parameters"] > 100 for trial in trials)
    table = rows(printed.out)
    assert table["random"][0] == table["REINFORCE"][0] == "1"
    assert "- block 3 = " in printed.out
    # All is there: nothing is trained, and no pictures are read.
    monkeypatch.delattr(cifar10_classifier, "pictures")
    assert run(module, *small, "--children=2", "--norun") == 0
    assert capsys.readouterr().out.splitlines()[:9] == printed.out.splitlines()[:9]


def store(folder, method, seed, accuracies, **more):
    lines = [{"child": i, "cell": [0, 1, 2, i % 6], "accuracy": a, "seconds": 30.0,
              "cached": False} | more for i, a in enumerate(accuracies)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{method}_{seed}.jsonl").write_text(text)


def test_the_table_and_the_plot_of_made_up_searches(tmp_path, capsys, monkeypatch):
    module = program(NAME)
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / NAME)])
    store(tmp_path, "random", 0, [0.1, 0.3] + [0.2] * 10)
    store(tmp_path, "random", 1, [0.1] * 10 + [0.5] + [0.1] * 10)
    store(tmp_path, "REINFORCE", 0, [0.4] * 12, cached=True)
    assert run(module, f"--work={tmp_path}", "--norun") == 0
    table = rows(capsys.readouterr().out)
    assert table["random"][:3] == ["2", "0.200 (0.100 to 0.300)", ""]
    # Twelve children of both seeds, since one search has no more.
    assert table["random"][-4:] == ["0.150", "0.200", "0", "16"]
    assert table["REINFORCE"][-2:] == ["12", "0"]
    assert module.known()[(0, 1, 2, 0)].keys() == {"accuracy", "seconds"}
    searches = {("random", "0"): [{"accuracy": 0.1}, {"accuracy": 0.4}]}
    module.draw(searches, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_bad_input_is_one_line(tmp_path):
    for argument, part in (("--methods=grid", "methods are of"),
                           ("--seeds=x", "seeds whole numbers")):
        result = child([f"benchmarks/{NAME}", argument, f"--work={tmp_path}"])
        assert result.returncode == 1 and part in result.stderr
        assert len(result.stderr.splitlines()) == 1
    result = child([f"benchmarks/{NAME}", "--norun", f"--work={tmp_path}"])
    assert result.returncode == 1 and "there are none: --run" in result.stderr
