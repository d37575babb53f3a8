"""Recipes: smoke runs, resume, and what a wrong one says."""

import json
import pathlib
import types

import keras
import numpy as np
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError
from mlcvtf.training import fit
from mlcvtf.training import recipe as recipes

RECIPES = sorted(
    p.stem
    for p in (pathlib.Path(fit.__file__).parents[1] / "configs").glob("[a-z]*.py")
)


class Points(EndlessBatches):
    """A line with noise that depends on the epoch."""

    def __len__(self):
        return 3

    def batch(self, epoch, index):
        x = np.random.default_rng((epoch, index)).normal(size=(8, 2))
        return x.astype(np.float32), (x @ [[2.0], [-1.0]]).astype(np.float32)


def recipe():
    """A linear recipe."""

    def build(config):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.AdamW(0.1), loss="mse")
        return model

    return types.SimpleNamespace(
        __name__="line",
        build=build,
        data=lambda config: Points(),
        finish=lambda config, model, workdir: {
            "weights": model.get_weights()[0].tolist()
        },
    )


CONFIG = config_dict.ConfigDict({"seed": 1, "epochs": 5, "snapshot_epochs": 2})


def test_figures_and_snapshots_are_written(tmp_path):
    figures = fit.run(recipe(), CONFIG, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert [p.name for p in sorted(tmp_path.glob("epoch_*"))] == [
        "epoch_002.weights.h5",
        "epoch_004.weights.h5",
    ]


def test_other_backends_train_on_one_device(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    assert fit.make_strategy("auto") is None is fit.make_strategy("one_device")
    with pytest.raises(InputError, match="received mirrored with the backend torch"):
        fit.make_strategy("mirrored")


# They build the same classifier on the same backbone as clothing10_classifier.
TWINS = {"cifar10_classifier", "clothing10_pretext", "folder_classifier"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in TWINS)) for n in RECIPES],
)
def test_smoke_form_of_every_recipe(name, tmp_path):
    module = recipes.load(name)
    config = recipes.configure(module, ["--config.smoke=True"])
    figures = fit.run(module, config, tmp_path)
    assert figures and (tmp_path / "model.keras").is_file()
    loss = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert np.isfinite(loss)
