"""Checkpoints: what a killed training continues from."""

import json
import os
import signal
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError
from mlcvtf.training import checkpoint, fit, options
from tests.case import ROOT

STEPS, EPOCHS = 4, 3
CONFIG = config_dict.ConfigDict({"seed": 1, "epochs": EPOCHS, "snapshot_epochs": 2})
IDENTITY = {"recipe": "line", **options.RUN, **CONFIG.to_dict()}
for key in options.FREE:
    IDENTITY.pop(key, None)


class Points(EndlessBatches):
    """A line with noise that depends on the epoch; killed at one batch, if asked."""

    def __init__(self, killed_at=None):
        super().__init__()
        self.killed_at = killed_at

    def __len__(self):
        return STEPS

    def batch(self, epoch, index):
        if (epoch, index) == self.killed_at:
            raise OSError("killed")
        x = np.random.default_rng((epoch, index)).normal(size=(8, 2))
        return x.astype(np.float32), (x @ [[2.0], [-1.0]]).astype(np.float32)


def recipe(killed_at=None):
    """A recipe with all that is hard to continue: dropout, averages, a schedule."""

    def build(config):
        model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(4),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.3, seed=5),
                keras.layers.Dense(1),
            ]
        )
        rate = keras.optimizers.schedules.CosineDecay(0.1, STEPS * EPOCHS)
        optimizer = keras.optimizers.AdamW(rate, use_ema=True, ema_momentum=0.5)
        model.compile(optimizer, loss="mse", metrics=["mae"])
        return model

    return types.SimpleNamespace(
        __name__="line",
        build=build,
        data=lambda config: Points(killed_at),
        finish=lambda config, model, workdir: {
            "weights": [w.tolist() for w in model.get_weights()]
        },
    )


def read_log(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(s).items() if k != "seconds"} for s in lines]


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setitem(options.RUN, "checkpoint_minutes", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit.run(recipe(), CONFIG, folder), read_log(folder)


@pytest.mark.parametrize("killed_at", [(0, 2), (1, 0), (1, 3), (2, 3)])
def test_killed_anywhere_ends_as_the_undisturbed_one(
    tmp_path, every_step, whole, killed_at
):
    with pytest.raises(Exception, match="killed"):
        fit.run(recipe(killed_at), CONFIG, tmp_path)
    assert not (tmp_path / "model.keras").exists()
    resumed = fit.run(recipe(), CONFIG, tmp_path)
    # Bit for bit, the log too: mean metrics over an epoch that two processes did.
    assert (resumed, read_log(tmp_path)) == whole


def test_killed_before_any_checkpoint_starts_anew(tmp_path, whole):
    with pytest.raises(Exception, match="killed"):
        fit.run(recipe((0, 1)), CONFIG, tmp_path)
    assert fit.run(recipe(), CONFIG, tmp_path) == whole[0]


def test_a_finished_training_gives_the_same_again(tmp_path, whole):
    assert fit.run(recipe(), CONFIG, tmp_path) == whole[0]
    assert fit.run(recipe((0, 0)), CONFIG, tmp_path) == whole[0]
    assert read_log(tmp_path) == whole[1]


def test_lines_after_the_checkpoint_are_cut(tmp_path, every_step, whole):
    with pytest.raises(Exception, match="killed"):
        fit.run(recipe((1, 2)), CONFIG, tmp_path)
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"epoch": 1, "loss"')
    fit.run(recipe(), CONFIG, tmp_path)
    assert read_log(tmp_path) == whole[1]


def test_lines_of_a_run_without_a_checkpoint_are_cut(tmp_path, whole):
    # It was killed at the end of its first epoch, before the checkpoint.
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "loss": 1.0}\n')
    fit.run(recipe(), CONFIG, tmp_path)
    assert read_log(tmp_path) == whole[1]


def test_a_folder_of_another_training_is_refused(tmp_path):
    fit.run(recipe(), CONFIG, tmp_path)
    other = config_dict.ConfigDict(CONFIG.to_dict() | {"epochs": 9})
    with pytest.raises(InputError, match="has epochs = 3, received 9"):
        fit.run(recipe(), other, tmp_path)
    another = recipe()
    another.__name__ = "curve"
    with pytest.raises(InputError, match="has recipe = 'line', received 'curve'"):
        fit.run(another, CONFIG, tmp_path)


def test_another_model_is_refused(tmp_path, every_step):
    with pytest.raises(Exception, match="killed"):
        fit.run(recipe((1, 2)), CONFIG, tmp_path)
    changed = recipe()

    def build(config):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse")
        return model

    changed.build = build
    with pytest.raises(InputError, match="its model variables do not"):
        fit.run(changed, CONFIG, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    fit.run(recipe(), CONFIG, tmp_path)
    path = tmp_path / checkpoint.FILE
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"nothing")
    with pytest.raises(InputError, match="is damaged: delete it"):
        fit.run(recipe(), CONFIG, tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, every_step, monkeypatch):
    synchronise, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        synchronise(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; the one before"):
        fit.run(recipe(), CONFIG, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        checkpoint.FILE,
        "log.csv",
        "log.jsonl",
    ]
    found = checkpoint.Checkpoints(tmp_path, STEPS, IDENTITY)
    # Every step wrote one, the last of an epoch at its end.
    assert found.done == 5


def test_states_of_half_precision_come_back(tmp_path):
    keras.mixed_precision.set_global_policy("bfloat16")
    try:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.compile("adam", loss="mse")
    model.optimizer.build(model.trainable_variables)
    saved = checkpoint.Checkpoints(tmp_path, 1, {})
    saved.set_model(model)
    saved.save()
    before = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
    for variable in model.variables:
        variable.assign(keras.ops.ones_like(variable))
    checkpoint.Checkpoints(tmp_path, 1, {}).restore(model)
    for variable, value in zip(model.variables, before, strict=True):
        assert str(variable.dtype) == "bfloat16"
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.fixture
def written(tmp_path):
    """Writes a checkpoint with a state of arithmetic; returns what reads it again."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", loss="mse")
    model.optimizer.build(model.trainable_variables)

    def write(**arithmetic):
        made = checkpoint.Checkpoints(tmp_path, 1, {}, arithmetic=arithmetic)
        made.set_model(model)
        made.save()

    def read(**arithmetic):
        return checkpoint.Checkpoints(tmp_path, 1, {}, arithmetic=arithmetic)

    return write, read


def stepped(folder, stream):
    """Returns checkpoints after every step, at the end of the last step but one."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", loss="mse")
    model.fit(*stream.batch(0, 0), verbose=0)
    made = checkpoint.Checkpoints(folder, STEPS, {}, every_steps=1, dataset=stream)
    made.set_model(model)
    made.on_epoch_begin(0)
    for step in range(STEPS - 1):
        made.on_train_batch_end(step)
    return made


def test_the_last_step_of_an_epoch_is_saved_with_the_epoch(tmp_path):
    # Between them are validation, the log's line and early stopping: a checkpoint that
    # had the step without them would lose the epoch.
    made = stepped(tmp_path, Points())
    made.on_train_batch_end(STEPS - 1)
    assert checkpoint.Checkpoints(tmp_path, STEPS, {}).done == STEPS - 1
    made.on_epoch_end(0)
    assert checkpoint.Checkpoints(tmp_path, STEPS, {}).done == STEPS


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_end(tmp_path):
    stream = Points()
    made = stepped(tmp_path, stream)
    with made.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        made.on_train_batch_end(STEPS - 1)
        assert not stream.ended
        with pytest.raises(KeyboardInterrupt, match=f"SIGTERM after step {STEPS}"):
            made.on_epoch_end(0)
    assert stream.ended
    assert checkpoint.Checkpoints(tmp_path, STEPS, {}).done == STEPS


def test_other_threads_are_told(written, capsys):
    write, read = written
    write(deterministic=False, threads=2)
    read(deterministic=False, threads=2)
    assert capsys.readouterr().err == ""
    read(deterministic=True, threads=3)
    told = capsys.readouterr().err
    assert "deterministic = False in " in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("now", "received"),
    [
        ({"deterministic": True, "threads": 3}, "threads = 2 in .*, now 3"),
        ({"deterministic": False, "threads": 2}, "deterministic = True in .*, now Fal"),
    ],
)
def test_other_arithmetic_is_refused_where_bits_were_promised(written, now, received):
    write, read = written
    write(deterministic=True, threads=2)
    with pytest.raises(InputError, match=f"--deterministic and as many.*{received}"):
        read(**now)
    read(deterministic=True, threads=2)


def test_a_checkpoint_of_another_version_is_refused(written, monkeypatch):
    write, read = written
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    write()
    monkeypatch.undo()
    with pytest.raises(InputError, match="by the version that wrote it"):
        read()


CHILD = """
import pathlib, sys, time
sys.path.insert(0, {root!r})
from tests.training import checkpoint_test as case
from mlcvtf.training import checkpoint, fit

class Slow(case.Points):
    def batch(self, epoch, index):
        if (epoch, index) == (1, 2):
            print("ready", flush=True)
        time.sleep(0.2)
        return super().batch(epoch, index)

recipe = case.recipe()
recipe.data = lambda config: Slow()
fit.run(recipe, case.CONFIG, sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_from_outside(tmp_path, whole, number):
    command = [sys.executable, "-c", CHILD.format(root=str(ROOT)), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert any(line == b"ready\n" for line in child.stdout)
        child.send_signal(number)
        assert child.wait(90) != 0
    done = checkpoint.Checkpoints(tmp_path, STEPS, IDENTITY).done
    # A polite kill saves the step; a hard one leaves the epoch before.
    assert done == STEPS if number == signal.SIGKILL else done >= STEPS
    assert fit.run(recipe(), CONFIG, tmp_path) == whole[0]
    assert read_log(tmp_path) == whole[1]
