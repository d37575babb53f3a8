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


def recipe(stop_after=None):
    """A linear recipe; with `stop_after` it is killed in the middle of an epoch."""

    class Dataset(Points):
        def batch(self, epoch, index):
            if epoch == stop_after and index == 1:
                raise OSError("killed")
            return super().batch(epoch, index)

    def build(config):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.AdamW(0.1), loss="mse")
        return model

    return types.SimpleNamespace(
        build=build,
        data=lambda config: Dataset(),
        finish=lambda config, model, workdir: {
            "weights": model.get_weights()[0].tolist()
        },
    )


CONFIG = config_dict.ConfigDict({"seed": 1, "epochs": 5, "snapshot_epochs": 2})


def test_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path):
    whole = fit.run(recipe(), CONFIG, tmp_path / "whole")
    with pytest.raises(Exception, match="killed"):
        fit.run(recipe(stop_after=3), CONFIG, tmp_path / "killed")
    lines = (tmp_path / "killed/log.jsonl").read_text().splitlines()
    assert len(lines) == 3 and not (tmp_path / "killed/model.keras").exists()
    resumed = fit.run(recipe(), CONFIG, tmp_path / "killed")
    np.testing.assert_allclose(whole["weights"], resumed["weights"], atol=1e-6)
    log = [
        json.loads(line)
        for line in (tmp_path / "killed/log.jsonl").read_text().splitlines()
    ]
    assert [line["epoch"] for line in log] == [0, 1, 2, 3, 4]


def test_figures_and_snapshots_are_written(tmp_path):
    figures = fit.run(recipe(), CONFIG, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert [p.name for p in sorted(tmp_path.glob("epoch_*"))] == [
        "epoch_002.weights.h5",
        "epoch_004.weights.h5",
    ]


def test_other_backends_train_on_one_device(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert fit.make_strategy("auto") is None is fit.make_strategy("one_device")
    with pytest.raises(InputError, match="received mirrored with the backend jax"):
        fit.make_strategy("mirrored")


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(InputError, match="one of .*face_detector.*received face_x"):
        fit.load_recipe("face_x")


def test_recipe_without_its_functions(tmp_path):
    (tmp_path / "half.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(InputError, match="lacks build, data, finish"):
        fit.load_recipe(str(tmp_path / "half.py"))


@pytest.mark.parametrize("name", RECIPES)
def test_smoke_form_of_every_recipe(name, tmp_path):
    module = fit.load_recipe(name)
    config = config_dict.ConfigDict(module.get_config())
    module.smoke(config)
    figures = fit.run(module, config, tmp_path)
    assert figures and (tmp_path / "model.keras").is_file()
    loss = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert np.isfinite(loss)
