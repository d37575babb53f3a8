"""Runs a recipe: build, fit with resume, finish.

A recipe is a Python file with `get_config()` and three functions:

- `build(config)` gives a compiled `keras.Model`,
- `data(config)` gives the training set, a `data.batches.EndlessBatches`,
- `finish(config, model, workdir)` evaluates, exports, and returns a dict of figures.

and, optionally, `smoke(config)`, which shrinks the config so that the whole recipe
runs in seconds on synthetic data.
"""

import contextlib
import importlib.util
import json
import pathlib
import shutil
import tempfile
import time

import keras

from mlcvtf.errors import InputError


def load_recipe(name: str):
    """Imports a recipe by the name of a file in `mlcvtf/configs` or by its path.

    Raises:
        InputError: there is no such recipe, or it lacks a function.
    """
    path = pathlib.Path(name)
    if path.suffix != ".py":
        path = pathlib.Path(__file__).parents[1] / "configs" / f"{name}.py"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("[a-z]*.py"))
        raise InputError(
            f"a recipe is a .py file or one of {', '.join(known)}; received {name}"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [
        f for f in ("get_config", "build", "data", "finish") if not hasattr(module, f)
    ]
    if missing:
        raise InputError(
            f"a recipe has get_config, build, data and finish; {path} "
            f"lacks {', '.join(missing)}"
        )
    return module


class JSONLogger(keras.callbacks.Callback):
    """Appends one JSON line per epoch: epoch, seconds since the start, metrics."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch, "seconds": round(time.monotonic() - self.started, 1)}
        line |= {key: round(float(value), 6) for key, value in (logs or {}).items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def make_strategy(name: str):
    """Makes the strategy of a flag, on the TensorFlow backend alone.

    Args:
        name: one of `training.strategy.NAMES`.

    Returns:
        A `tf.distribute.Strategy`; None on another backend, for one device.

    Raises:
        InputError: another backend was asked for several devices, or what
            `training.strategy.create` refuses.
    """
    if keras.backend.backend() == "tensorflow":
        from mlcvtf.training import strategy

        return strategy.create(name)
    if name not in ("auto", "one_device"):
        raise InputError(
            "several devices train on the TensorFlow backend; received "
            f"{name} with the backend {keras.backend.backend()}"
        )
    return None


def run(recipe, config, workdir: str | pathlib.Path, strategy=None) -> dict:
    """Trains as a recipe says, from where an earlier run stopped.

    Args:
        recipe: the module from `load_recipe`.
        config: its config, with `epochs`, `seed` and `snapshot_epochs`: weights are
            kept for good after every so many epochs, for curves.
        workdir: folder for checkpoints (`backup/`), `epoch_*.weights.h5`,
            `log.jsonl`, `model.keras` and `figures.json`; made if missing. A run that
            was killed goes on after its last finished epoch. Of several workers only
            the chief writes it; to go on, all of them must see it.
        strategy: from `make_strategy`; None trains on one device.

    Returns:
        The figures that the recipe's `finish` measured; nothing on a worker that is
        not the chief.

    Raises:
        InputError: the workers see different checkpoints.
    """
    workdir = pathlib.Path(workdir)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = recipe.build(config)
    dataset = recipe.data(config)
    dataset.start = _finished_epochs(workdir / "backup")
    if strategy and not _agreed(strategy, dataset.start):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            if dataset.start:
                shutil.copytree(workdir / "backup", scratch / "backup")
            # Nobody writes a checkpoint before all have read theirs.
            _agreed(strategy, dataset.start)
            _fit(model, dataset, config, scratch)
        return {}
    workdir.mkdir(parents=True, exist_ok=True)
    if strategy:
        _agreed(strategy, dataset.start)
    _fit(model, dataset, config, workdir)
    model.save(workdir / "model.keras")
    if strategy and strategy.num_replicas_in_sync > 1:
        # The other workers are not there any more to compute with.
        model = keras.models.load_model(workdir / "model.keras")
    figures = recipe.finish(config, model, workdir)
    (workdir / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _fit(model, dataset, config, workdir):
    """Fits with checkpoints and a log in `workdir`."""
    callbacks = [
        keras.callbacks.BackupAndRestore(workdir / "backup", delete_checkpoint=False),
        JSONLogger(workdir / "log.jsonl"),
        keras.callbacks.ModelCheckpoint(
            workdir / "epoch_{epoch:03d}.weights.h5",
            save_weights_only=True,
            save_freq=config.snapshot_epochs * len(dataset),
        ),
    ]
    model.fit(
        dataset,
        epochs=config.epochs,
        steps_per_epoch=len(dataset),
        shuffle=False,
        callbacks=callbacks,
        verbose=2,
    )


def _agreed(strategy, epoch):
    """Checks that all workers start at one epoch; says whether this is the chief."""
    from mlcvtf.training import strategy as strategies

    if strategies.workers(strategy) > 1:
        epochs = strategies.gather(strategy, epoch)
        if len(set(epochs)) > 1:
            raise InputError(
                "workers that go on with a run see the same workdir, in a shared "
                f"folder; received finished epochs {', '.join(map(str, epochs))}"
            )
    return strategies.is_chief(strategy)


def _finished_epochs(backup):
    """Reads from which epoch `BackupAndRestore` will go on."""
    path = backup / "training_metadata.json"
    return json.loads(path.read_text())["epoch"] if path.is_file() else 0
