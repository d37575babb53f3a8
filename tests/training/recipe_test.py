"""Recipes by name and by path, and what flags change in their configs."""

import pathlib
import types

import pytest

from mlcvtf.errors import InputError
from mlcvtf.training import options
from mlcvtf.training import recipe as recipes

RECIPES = sorted(
    p.stem
    for p in (pathlib.Path(recipes.__file__).parents[1] / "configs").glob("[a-z]*.py")
)


def recipe():
    def smoke(config):
        config.epochs, config.part.sizes = 1, (8,)

    return types.SimpleNamespace(
        get_config=lambda: {
            "epochs": 30,
            "rate": 0.1,
            "name": "",
            "part": {"sizes": (64, 96), "deep": True},
        },
        smoke=smoke,
    )


def test_flags_change_values_and_keep_their_types():
    config = recipes.configure(
        recipe(),
        [
            "--config.epochs=2",
            "--config.rate=1",
            "--config.name=a=b",
            "--config.part.sizes=(32, 48, 64)",
            "--config.part.deep=False",
        ],
    )
    assert config.to_dict() == options.RUN | {
        "smoke": False,
        "epochs": 2,
        "rate": 1.0,
        "name": "a=b",
        "part": {"sizes": (32, 48, 64), "deep": False},
    }
    assert isinstance(config.rate, float)


def test_flags_win_over_smoke():
    config = recipes.configure(
        recipe(), ["--config.epochs=3", "--config.smoke=True"]
    )
    assert (config.epochs, config.part.sizes) == (3, (8,))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.epoch=1", "config.epoch names no key .* the nearest is epochs"),
        ("--config.part.size=1", "the nearest is part.sizes"),
        ("--config.part=1", "config.part names no key"),
        ("--config.epochs=few", "config.epochs=few"),
        ("--config.epochs=1.5", "config.epochs=1.5"),
        ("--config.part.deep=maybe", "config.part.deep=maybe"),
        ("--config.epochs", "by --config.key=value, received --config.epochs"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(flag, message):
    with pytest.raises(InputError, match=message) as caught:
        recipes.configure(recipe(), [flag])
    assert len(str(caught.value).splitlines()) == 1


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(InputError, match="one of .*face_detector.*received face_x"):
        recipes.load("face_x")


def test_recipe_without_its_functions(tmp_path):
    (tmp_path / "half.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(InputError, match="lacks smoke, build, data, finish"):
        recipes.load(str(tmp_path / "half.py"))


def sequences(value):
    if isinstance(value, dict):
        return [item for part in value.values() for item in sequences(part)]
    return [value] if isinstance(value, list | tuple) else []


@pytest.mark.parametrize("name", RECIPES)
def test_sequences_are_tuples(name):
    # Flags cannot change a list.
    config = recipes.load(name).get_config()
    assert all(isinstance(value, tuple) for value in sequences(config))
