"""Two workers of which one is killed or asked to stop, and that go on together."""

import json

import numpy as np
import pytest

from mlcvtf.training import checkpoint
from tests.training.cluster import run_workers

RECIPE = """
import json, os, pathlib, time
import keras, numpy as np
from mlcvtf.data.batches import EndlessBatches

# Which signal a worker sends itself when it makes which batch.
SIGNAL = pathlib.Path(__file__).with_name("signal")

def get_config():
    return {"seed": 1, "epochs": 3, "snapshot_epochs": 10, "checkpoint_steps": 3}

def smoke(config):
    pass

class Points(EndlessBatches):
    def __len__(self):
        return 20

    def batch(self, epoch, index):
        worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        if SIGNAL.exists():
            number, at = json.loads(SIGNAL.read_text())
            if [worker, epoch, index] == at:
                os.kill(os.getpid(), number)
            time.sleep(0.05)
        x = np.random.default_rng((epoch, index)).normal(size=(8, 4))
        return x.astype("float32"), x[:, :1].astype("float32")

def build(config):
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, use_bias=False),
                              layers.BatchNormalization(), layers.ReLU(),
                              layers.Dropout(0.2, seed=1), layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(0.01, use_ema=True), loss="mse")
    return model

def data(config):
    return Points()

def finish(config, model, workdir):
    model.evaluate(*Points().batch(0, 0), verbose=0)
    return {"weights": [w.tolist() for w in model.get_weights()]}
"""


class Training:
    """A recipe, the two workers that train it, and what they leave."""

    def __init__(self, folder):
        self.folder, self.recipe = folder, folder / "recipe.py"
        self.recipe.write_text(RECIPE)

    def train(self, *workdirs, flags=(), seconds=200):
        """Trains; the second worker in the first one's folder if no other is named."""
        workdirs = [self.folder / name for name in workdirs * 2][:2]
        return run_workers(self.folder, lambda i: [
            "apps/train", f"--config={self.recipe}", f"--workdir={workdirs[i]}", *flags
        ], seconds)

    def stopped(self, workdir, number, at):
        """Trains until a signal; returns how the chief and the other ended.

        Args:
            workdir: name of the folder.
            number: of the signal.
            at: the worker that gets it, and the epoch and index of a batch.
        """
        (self.folder / "signal").write_text(json.dumps([number, at]))
        try:
            return self.train(workdir)
        finally:
            (self.folder / "signal").unlink()

    def done(self, workdir):
        with np.load(self.folder / workdir / checkpoint.FILE) as stored:
            return json.loads(stored["meta"].tobytes())["done"]

    def weights(self, workdir):
        path = self.folder / workdir / "figures.json"
        return json.loads(path.read_text())["weights"]

    def epochs(self, workdir):
        return len((self.folder / workdir / "log.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    made = Training(tmp_path_factory.mktemp("workers"))
    assert [end[0] for end in made.train("whole")] == [0, 0]
    return made


@pytest.mark.slow
def test_a_killed_worker_ends_the_other_and_both_go_on_together(training):
    survivor, dead = training.stopped("killed", 9, [1, 1, 18])
    assert dead[0] == -9
    assert survivor[0] == 3
    assert survivor[2] - dead[2] < 60
    assert "one of them went away" in survivor[1].splitlines()[-1]
    assert "Traceback" not in survivor[1]
    # The batches are made some steps ahead of the training.
    assert training.epochs("killed") == 1
    assert not (training.folder / "killed/model.keras").exists()
    done = training.done("killed")
    assert 20 < done < 40 and done % 3 == 0
    assert [end[0] for end in training.train("killed")] == [0, 0]
    assert training.weights("killed") == training.weights("whole")
    # A workdir that one of them does not see.
    for code, error, _ in training.train("killed", "other", seconds=100):
        assert code == 1
        assert "received finished steps 60, 0" in error.splitlines()[-1]
    assert not (training.folder / "other").exists()


@pytest.mark.slow
@pytest.mark.parametrize("worker", [0, 1])
def test_sigterm_to_one_worker_stops_both_with_a_checkpoint(training, worker):
    name = f"stopped{worker}"
    ends = training.stopped(name, 15, [worker, 1, 12])
    done = training.done(name)
    reasons = ["a signal to another worker"] * 2
    reasons[worker] = "SIGTERM"
    for (code, error, _), reason in zip(ends, reasons, strict=True):
        assert code == 130, error[-2000:]
        assert error.splitlines()[-1] == (
            f"train: stopped by {reason} after step {done}, with a checkpoint"
        )
        assert "Traceback" not in error
    assert abs(ends[0][2] - ends[1][2]) < 10
    # By the batches made ahead it is asked for within the second epoch; then a second
    # passes at most, 20 steps of 0.05 s.
    assert 20 < done < 60 and done % 20 and not (
        training.folder / name / "model.keras").exists()
    assert [end[0] for end in training.train(name, flags=["--resume"])] == [0, 0]
    assert training.weights(name) == training.weights("whole")
