"""The comparison of all networks with their peers, on one that needs no PyTorch."""

import importlib.machinery
import importlib.util

import numpy as np
import pytest

from tests.case import ROOT, child


def program(name):
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "benchmarks" / name))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader)
    )
    loader.exec_module(module)
    return module


def test_statistics_and_gammas_are_random_and_positive():
    parity = program("parity")
    generator = np.random.default_rng(0)
    gamma = parity.draw("layer1.0.bn1.weight", (50,), generator)
    last = parity.draw("layer1.0.bn3.weight", (50,), generator)
    assert gamma.min() > 0.3 and last.max() < 0.4
    assert parity.draw("conv1.weight", (8, 3, 7, 7), generator) is None
    assert parity.draw("heads.head.weight", (10, 16), generator).std() > 0.1
    assert parity.statistics("bn.running_var", (50,), generator).min() >= 0.5
    assert parity.statistics("bn.running_mean", (50,), generator).min() < 0


@pytest.mark.slow
def test_prints_a_row_and_succeeds():
    result = child(["benchmarks/parity", "--sources=keras", "--only=V2_0.35"], 300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "| keras | MobileNetV2_0.35 |" in " ".join(result.stdout.split())
    assert "1 networks; the largest difference is" in result.stdout


def test_an_unknown_name_is_one_line():
    result = child(["benchmarks/parity", "--sources=keras", "--only=nothing"], 120)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].endswith(
        "--only is part of a name, none has 'nothing' in it"
    )
