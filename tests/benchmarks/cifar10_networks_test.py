"""The tables of the CIFAR-10 networks, from made-up figures."""

import json
import sys

import pytest

from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT

PROGRAM = "cifar10_networks"


@pytest.fixture
def module():
    return program(PROGRAM)


def store(work, folder, accuracy):
    folder = work / folder
    folder.mkdir()
    (folder / "figures.json").write_text(
        json.dumps(
            {
                "parameters": 1000,
                "accuracy, held out": accuracy + 0.01,
                "accuracy, cifar10_subset test": accuracy,
            }
        )
    )
    rows = [{"seconds": 60 * (e + 1), "loss": 2 - e} for e in range(2)]
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def run(module, *options):
    arguments = [PROGRAM, *options]
    return module.command.run(module.main, module.FLAGS, module.__doc__, arguments)


def test_a_row_per_network_with_the_range_of_its_seeds(
    module, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks" / PROGRAM)])
    store(tmp_path, "resnet20_0", 0.5)
    store(tmp_path, "resnet20_1", 0.7)
    store(tmp_path, "resnet20_adam_0", 0.4)
    store(tmp_path, "wrn16_4_0", 0.8)
    # Of the families only the first seed is looked at.
    store(tmp_path, "wrn16_4_1", 0.9)
    assert run(module, f"--work={tmp_path}") == 0
    text = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ResNet") or line.startswith("| wrn")
    ]
    plain = ["ResNet-20, momentum 0.9", "1,000", "0.600", "0.500 to 0.700", "0.610"]
    assert rows == [
        ["wrn16_4", "1,000", "0.800", "0.800 to 0.800", "0.810", "1", "2"],
        [*plain, "2", "2"],
        [*plain, "2", "2"],
        ["ResNet-20, Adam, no decay", "1,000", "0.400", "0.400 to 0.400", "0.410"]
        + ["1", "2"],
    ]


def test_the_cells_are_networks_and_settings_of_the_recipe(module):
    from mlcvtf.training import recipe as recipes

    recipe = recipes.load(module.RECIPE)
    folders = {}
    for cells in module.STUDIES.values():
        for cell in cells:
            assert cell.network in recipe.NETWORKS
            recipes.configure(recipe, cell.overrides)
            # One folder, one training.
            assert folders.setdefault(cell.folder, cell) == cell


def test_the_picture_is_drawn(module, tmp_path):
    log = [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}]
    figures = {module.TEST: 0.5, "log": log}
    cells = {module.PLAIN: [figures, figures]}
    module.draw(cells, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_bad_input_is_one_line(module, tmp_path, capsys):
    assert run(module, f"--work={tmp_path}") == 1
    assert "there are none: --run" in capsys.readouterr().err
    assert run(module, "--studies=groups,trees") == 1
    assert capsys.readouterr().err == (
        "cifar10_networks: studies are of families, squeeze_excitation, groups, "
        "optimizers; received trees\n"
    )


def test_help_names_its_flags(module, capsys):
    assert run(module, "--help") == 0
    assert "--studies" in capsys.readouterr().out
