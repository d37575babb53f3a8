"""Logs, progress and the report of a training, undisturbed and killed."""

import csv
import io
import types

import cv2
import keras
import numpy as np
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.data.batches import FirstEpoch, rows
from mlcvtf.errors import InputError
from mlcvtf.training import callbacks, fit, options, progress, report, tensorboard_log
from mlcvtf.training import recipe as recipes
from tests.training import small_recipe

EPOCHS, STEPS = 4, 6


class Broken(small_recipe.Pictures):
    """Fails at one batch, as a killed process would."""

    def __init__(self, config, at=None):
        super().__init__(config)
        self.at = at

    def batch(self, epoch, index):
        if (epoch, index) == self.at:
            raise OSError("killed")
        return super().batch(epoch, index)


def recipe(at=None):
    names = ("build", "validation", "finish", "get_config", "smoke")
    functions = {name: getattr(small_recipe, name) for name in names}
    return types.SimpleNamespace(
        __name__="small", data=lambda config: Broken(config, at), **functions
    )


def train(folder, at=None, resume=None, tensorboard=True, **keys):
    """Trains on one device, with a checkpoint after every second step."""
    flags = [f"--config.{k}={v}" for k, v in ({"checkpoint_steps": 2} | keys).items()]
    made = recipe(at)
    return fit.run(
        made,
        recipes.configure(made, flags),
        folder,
        resume=resume,
        tensorboard=tensorboard,
        command="apps/train --config=small",
    )


def killed(folder, *moments, **keys):
    for at in moments:
        with pytest.raises(Exception, match="killed"):
            train(folder, at, **keys)
    return train(folder, **keys)


def lines(folder):
    """Reads the log without its seconds."""
    log = report.read_log(folder / "log.jsonl")
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resumed")
    return folder, killed(folder, (1, 5), (3, 3))


def test_a_killed_run_ends_with_the_same_figures_and_log(whole, resumed):
    assert resumed[1] == whole[1]
    assert lines(resumed[0]) == lines(whole[0])
    assert len(lines(whole[0])) == EPOCHS


@pytest.mark.parametrize("name", ["whole", "resumed"])
def test_the_table_holds_what_the_lines_do(name, request):
    folder, _ = request.getfixturevalue(name)
    with open(folder / "log.csv", newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows == report.read_log(folder / "log.jsonl")


@pytest.mark.parametrize("name", ["whole", "resumed"])
def test_tensorboard_reads_every_step_once(name, request):
    pytest.importorskip("tensorboard", reason="needs tensorboard (the extra train)")
    from tensorboard.backend.event_processing import event_accumulator

    folder, _ = request.getfixturevalue(name)
    files = sorted((folder / "tensorboard").iterdir())
    assert len(files) == {"whole": 1, "resumed": 3}[name]
    read = event_accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert set(read.Tags()["scalars"]) == {
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
        "learning_rate",
    }
    for tag in read.Tags()["scalars"]:
        events = read.Scalars(tag)
        assert [event.step for event in events] == [6, 12, 18, 24]
        expected = [line[tag] for line in lines(folder)]
        np.testing.assert_allclose([e.value for e in events], expected, rtol=1e-5)


def test_what_was_logged_after_the_checkpoint_is_dropped(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard (the extra train)")
    from tensorboard.backend.event_processing import event_accumulator

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    def log(done, values):
        written = tensorboard_log.TensorBoardLog(tmp_path, 6, done)
        written.set_model(model)
        for epoch, value in values:
            written.on_epoch_end(epoch, {"loss": value})
        written.close()

    log(0, [(0, 1.0), (1, 2.0), (2, 3.0)])
    # Its last checkpoint was in the second epoch.
    log(9, [(1, 2.5)])
    read = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    events = read.Scalars("loss")
    assert [(e.step, e.value) for e in events] == [(6, 1.0), (12, 2.5)]


def test_without_tensorboard(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard_log.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mlcvtf\[train\]'"):
        train(tmp_path / "asked", tensorboard=True, epochs=1)
    train(tmp_path / "where installed", tensorboard=None, epochs=1)
    told = [s for s in capsys.readouterr().err.splitlines() if "TensorBoard" in s]
    assert told == [f"no log for TensorBoard: {tensorboard_log.MISSING}"]
    train(tmp_path / "not", tensorboard=False, epochs=1)
    assert "TensorBoard" not in capsys.readouterr().err
    assert not (tmp_path / "not/tensorboard").exists()


def steps_of(stream, seconds, monkeypatch, epochs=2):
    """Calls the callback as `fit` does, on a clock of its own."""
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    dataset = small_recipe.Pictures(recipes.configure(small_recipe))
    dataset.sizes = dict.fromkeys(range(epochs * STEPS), 8)
    shown = progress.Progress(epochs, dataset, stream=stream)
    for epoch in range(epochs):
        shown.on_epoch_begin(epoch)
        for batch in range(STEPS):
            clock.now += seconds
            shown.on_train_batch_end(batch, {"loss": np.float32(0.5)})
        shown.on_epoch_end(epoch, {"loss": np.float32(0.5)})
    shown.close()


def test_progress_in_a_file_is_lines(monkeypatch):
    stream = io.StringIO()
    steps_of(stream, 20.0, monkeypatch)
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    # 8 images in 20 s; a line every 40 s and one per epoch.
    assert text.splitlines() == [
        "epoch 1/2, step 3/6: loss 0.5, 0.4 images/s, 0:03:00 left",
        "epoch 1/2, step 5/6: loss 0.5, 0.4 images/s, 0:02:20 left",
        "epoch 1/2, step 6/6: loss 0.5, 0.4 images/s, 0:02:00 left",
        "epoch 2/2, step 2/6: loss 0.5, 0.4 images/s, 0:01:20 left",
        "epoch 2/2, step 4/6: loss 0.5, 0.4 images/s, 0:00:40 left",
        "epoch 2/2, step 6/6: loss 0.5, 0.4 images/s, 0:00:00 left",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    steps_of(stream, 20.0, monkeypatch)
    text = stream.getvalue()
    assert "\r" in text and "12/12 steps" in text
    assert "epoch 2/2, step 6/6: loss 0.5, 0.4 images/s, 0:00:00 left" in text


def test_the_report_says_what_was_done(resumed):
    folder, figures = resumed
    text = (folder / "report.md").read_text()
    assert text.startswith("# small\n\n    apps/train --config=small\n")
    assert f"| weights | {figures['weights']} |" in text
    assert f"| Keras | {keras.__version__} on {keras.backend.backend()} |" in text
    assert "| learning_rate | 0.02 |" in text and "| seconds | " in text
    last = lines(folder)[-1]
    row = next(s for s in text.splitlines() if s.startswith("| val_loss |"))
    assert row.endswith(f" {last['val_loss']:g} |")
    assert row.split("|")[2].strip() == f"{lines(folder)[0]['val_loss']:g}"
    # A drawing: three panels side by side with coloured curves on white.
    picture = cv2.imread(str(folder / "curves.png"))
    assert picture.shape[1] > 3 * 300
    coloured = np.ptp(picture.astype(int), axis=2) > 60
    for part in np.array_split(coloured, 3, axis=1):
        assert 50 < part.sum() < part.size / 10


def test_a_training_of_no_epochs_has_a_report(tmp_path):
    report.write(tmp_path, "none", {"part": {"sizes": (1, 2)}}, {"a|b": 1}, {})
    text = (tmp_path / "report.md").read_text()
    assert "| part.sizes | (1, 2) |" in text and "| a\\|b | 1 |" in text
    assert not (tmp_path / "curves.png").exists()


STOPPING = {
    "early_stopping": "val_accuracy",
    "early_stopping_mode": "max",
    "patience": 1,
    "epochs": 12,
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    return folder, train(folder, **STOPPING)


def test_early_stopping_keeps_the_best_epoch(stopped):
    folder, figures = stopped
    values = [line["val_accuracy"] for line in lines(folder)]
    assert 2 <= len(values) < 12
    # The last is the first that is not better; validation saw the averaged weights
    # that the model ends with.
    assert values == sorted(set(values)) + values[-1:] or values[-1] < values[-2]
    assert figures["accuracy"] == pytest.approx(max(values))
    text = (folder / "report.md").read_text()
    assert f"after epoch {len(values) - 1}, where val_accuracy was best" in text


def test_early_stopping_goes_on_as_if_undisturbed(tmp_path, stopped):
    epochs = len(lines(stopped[0]))
    # In the epoch after the best one, which alone knows that it waits.
    figures = killed(tmp_path, (epochs - 2, 4), (epochs - 1, 5), **STOPPING)
    assert figures == stopped[1]
    assert lines(tmp_path) == lines(stopped[0])
    # It is over: run again, it trains no step more.
    assert train(tmp_path, (0, 0), **STOPPING) == figures
    assert lines(tmp_path) == lines(stopped[0])


def test_an_endless_stream_validates_with_its_first_epoch():
    stream = small_recipe.Pictures(recipes.configure(small_recipe))
    first = FirstEpoch(stream)
    assert len(first) == first.num_batches == STEPS
    for index in (0, STEPS - 1, 0):
        np.testing.assert_array_equal(first[index][0], stream.batch(0, index)[0])
    assert rows(first[0]) == rows({"a": [np.zeros((8, 2))]}) == 8


def test_a_metric_that_there_is_not(tmp_path):
    with pytest.raises(InputError, match="is one of accuracy, loss, .*received top5"):
        train(tmp_path, early_stopping="top5", epochs=1)


def test_early_stopping_counts():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    keys = config_dict.ConfigDict(
        options.RUN | {"early_stopping": "loss", "patience": 2}
    )
    stopping = callbacks.EarlyStopping(keys, lambda: None, None)
    stopping.set_model(model)
    model.stop_training = False
    for epoch, loss in enumerate([3.0, 2.0, np.nan, 2.0]):
        assert not stopping.stopped
        model.set_weights([np.full((1, 1), epoch), np.zeros(1)])
        stopping.on_epoch_end(epoch, {"loss": loss})
    assert stopping.stopped and model.stop_training and stopping.epoch == 1
    stopping.finish(model)
    assert model.get_weights()[0] == 1.0
    again = callbacks.EarlyStopping(keys, lambda: None, None)
    again.restore(stopping.state())
    assert (again.best, again.epoch, again.waited, again.stopped) == (2.0, 1, 2, True)
    assert again.sentence() == stopping.sentence()


def test_the_rate_of_several_optimizers_is_the_highest():
    optimizers = keras.optimizers
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    rates = optimizers.OptimizerMap(
        optimizers.SGD(0.1, use_ema=True), {".*bias": optimizers.SGD(0.3)}
    )
    model.compile(optimizers.MultiOptimizer(rates), loss="mse")
    model.optimizer.build(model.trainable_variables)
    assert callbacks.learning_rate(model) == 0.3
    assert callbacks.has_averages(model.optimizer)
    assert callbacks.has_averages(optimizers.LossScaleOptimizer(model.optimizer))
    assert not callbacks.has_averages(optimizers.Adam())


@pytest.mark.parametrize(
    "keys",
    [
        {"policy": "mixed_float16"},
        {"policy": "mixed_bfloat16", "early_stopping": "val_loss"},
        {"accumulate": 2, "clip_norm": 0.1, "optimizer": "sgd", "schedule": "step"},
    ],
)
def test_every_option_goes_on_after_a_kill(tmp_path, keys):
    expected = train(tmp_path / "whole", tensorboard=False, **keys)
    # Within an update of two batches.
    found = killed(
        tmp_path / "killed", (2, 4), tensorboard=False, checkpoint_steps=1, **keys
    )
    assert found == expected
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_resume_must_or_must_not_find_a_checkpoint(tmp_path, whole):
    with pytest.raises(InputError, match="--resume goes on from .* where there is no"):
        train(tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="--noresume begins .* where there is check"):
        train(whole[0], resume=False)
    assert train(whole[0], resume=True) == whole[1]


def test_how_often_to_save_may_change(tmp_path, whole):
    with pytest.raises(Exception, match="killed"):
        train(tmp_path, (1, 5))
    found = train(tmp_path, checkpoint_steps=5, checkpoint_minutes=0.0)
    assert found == whole[1]
