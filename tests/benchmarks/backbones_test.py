"""How networks are timed in pairs, and the tables."""

import json
import sys

import pytest

from benchmarks import backbone_timing
from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT, child

PROGRAM = "backbones"


@pytest.fixture
def module():
    return program(PROGRAM)


def run(module, *options):
    arguments = [PROGRAM, *options]
    return module.command.run(module.main, module.FLAGS, module.__doc__, arguments)


def test_a_ratio_is_the_median_of_the_pairs(monkeypatch):
    times = {"ours": iter([3.0, 1.0, 2.0]), "theirs": iter([1.0, 1.0, 1.0])}
    order = []

    def timed(function, repeats):
        order.append(function)
        return next(times[function])

    monkeypatch.setattr(backbone_timing, "calls", lambda function: 1)
    monkeypatch.setattr(backbone_timing, "timed", timed)
    assert backbone_timing.ratios("ours", "theirs", 3) == {
        "ours": 2.0,
        "theirs": 1.0,
        "ratio": 2.0,
        "low": 1.0,
        "high": 3.0,
    }
    # Neither is always the first.
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_function_is_called_as_often_as_it_needs(monkeypatch):
    counted = []
    monkeypatch.setattr(backbone_timing, "timed", lambda function, repeats: 0.1)
    assert backbone_timing.calls(lambda: counted.append(1)) == 5
    assert len(counted) == 2, "it is warmed up twice"


def test_the_peak_grows_with_what_is_held():
    # In a child: this process may have held more before.
    result = child(
        [
            "-c",
            "from benchmarks.backbone_timing import peak_mib; before = peak_mib(); "
            "held = bytearray(64 * 2**20); print(peak_mib() - before)",
        ]
    )
    assert result.returncode == 0, result.stderr
    assert 60 < float(result.stdout) < 80


def test_tables_of_logged_measurements(module, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / PROGRAM)])
    pair = {"ours": 0.0104, "theirs": 0.01, "ratio": 1.04, "low": 1.0, "high": 1.1}
    rows = [
        {"source": "keras", "name": "resnet50", "refused": "killed"},
        {
            **{"source": "keras", "name": "resnet50", "size": 224},
            **dict.fromkeys(module.TASKS, pair),
        },
    ]
    (tmp_path / "keras.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    row = {
        **{"source": "", "name": "resnet18", "size": 224, "parameters": 11689512},
        **{"multiply_adds": 1814073344, "ms": 20.0, "refused": "too large"},
    }
    (tmp_path / "variants.jsonl").write_text(json.dumps(row) + "\n")
    assert run(module, "--norun", f"--work={tmp_path}") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "| keras | resnet50 | 224 | 10.4 | 1.04 (1.00-1.10) |" in text
    assert "above it: resnet50 (forward 1: 1.04), resnet50 (forward 8: 1.04)," in text
    assert "| resnet18 | 224 | 11,689,512 | 1,814 | 20.0 | - | - |" in text
    assert "resnet18: too large" in text and "killed" not in text


def test_bad_input_is_one_line(module, tmp_path, capsys):
    assert run(module, "--parts=keras,trees") == 1
    assert capsys.readouterr().err == (
        "backbones: parts are of keras, torch, variants; received trees\n"
    )
    assert run(module, "--parts=keras", f"--work={tmp_path}", "--only=nothing") == 1
    assert "no name has 'nothing' in it" in capsys.readouterr().err


def test_the_peers_are_known_to_the_importers(module):
    from mlcvtf.classification.networks import NETWORKS
    from mlcvtf.weights import architectures

    for source, name in module.PEERS["keras"] + module.PEERS["torch"]:
        if source == "keras_hub":
            assert name in NETWORKS
        else:
            architectures.find(source, name)


@pytest.mark.slow
def test_measures_one_network(tmp_path):
    result = child(
        [
            "benchmarks/backbones",
            "--parts=keras,variants",
            "--only=obile",
            "--runs=1",
            f"--work={tmp_path}",
        ],
        900,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "| mobilenet_v2 | 224 | 3,504,872 | 301 |" in " ".join(result.stdout.split())
