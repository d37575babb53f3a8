"""Pictures that cannot be used, in the middle of a training."""

import json
import types

import keras
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.errors import InputError
from mlcvtf.training import fit, options, report
from tests.data.datasets_test import made


def recipe(bad, held_out=()):
    """Seven pictures, of which some cannot be decoded."""

    def batches(config, bad):
        examples = Examples(made("label", bad=bad), (8, 8),
                            on_bad_image=config.on_bad_image)
        return ArrayBatches(examples, Order(7, 2, config.seed))

    def build(config):
        model = keras.Sequential([
            keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(7)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        return model

    return types.SimpleNamespace(
        __name__="seven", build=build, data=lambda config: batches(config, bad),
        validation=lambda config: batches(config, held_out),
        finish=lambda config, model, workdir: {
            "steps": int(model.optimizer.iterations)})


def run(folder, bad, held_out=(), **changes):
    config = config_dict.ConfigDict(options.PICTURES | {
        "seed": 1, "epochs": 3, "snapshot_epochs": 9} | changes)
    return fit.run(recipe(bad, held_out), config, folder)


def test_fail_is_the_one_line_of_the_data_set(tmp_path):
    with pytest.raises(InputError, match=r"3\.png \(10 bytes\) is not$") as caught:
        run(tmp_path, bad=(3,))
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "model.keras").exists()


def test_skip_keeps_epochs_whole_and_lists_what_was_replaced(tmp_path, capsys):
    figures = run(tmp_path, bad=(1, 3), held_out=(3, 5), on_bad_image="skip")
    assert figures == {"steps": 9}
    found = json.loads((tmp_path / "replaced.json").read_text())
    assert set(found) <= {"1.png", "3.png", "5.png"} and len(found) >= 2
    assert all(name in reason for name, reason in found.items())
    text = (tmp_path / "report.md").read_text()
    assert f"## Replaced pictures\n\n{len(found)} could not be used" in text
    assert all(f"| {name} |" in text for name in found)
    lines = [s for s in capsys.readouterr().err.splitlines() if "replaced" in s]
    assert f"{len(found)} pictures were replaced by another" in lines[-1]
    assert len(report.read_log(tmp_path / "log.jsonl")) == 3


def test_a_training_that_failed_goes_on_with_skip(tmp_path):
    whole = run(tmp_path / "whole", bad=(3,), on_bad_image="skip")
    with pytest.raises(InputError, match="3.png"):
        run(tmp_path / "other", bad=(3,), checkpoint_minutes=0.0)
    assert run(tmp_path / "other", bad=(3,), on_bad_image="skip") == whole
    logs = [[{k: v for k, v in line.items() if k != "seconds"}
             for line in report.read_log(tmp_path / name / "log.jsonl")]
            for name in ("whole", "other")]
    assert logs[0] == logs[1]


def test_nothing_is_written_where_all_can_be_used(tmp_path):
    run(tmp_path, bad=(), on_bad_image="skip")
    assert not (tmp_path / "replaced.json").exists()
    assert "Replaced" not in (tmp_path / "report.md").read_text()
