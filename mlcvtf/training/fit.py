"""Runs a recipe: build, fit with resume, finish."""

import json
import pathlib
import time

import keras


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


def run(recipe, config, workdir: str | pathlib.Path) -> dict:
    """Trains as a recipe says, from where an earlier run stopped.

    Args:
        recipe: the module from `recipe.load`.
        config: what `recipe.configure` gave, with `epochs`, `seed` and
            `snapshot_epochs`: weights are kept for good after every so many epochs,
            for curves.
        workdir: folder for checkpoints (`backup/`), `epoch_*.weights.h5`,
            `log.jsonl`, `model.keras` and `figures.json`; made if missing. A run that
            was killed goes on after its last finished epoch.

    Returns:
        The figures that the recipe's `finish` measured.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.seed)
    model, dataset = recipe.build(config), recipe.data(config)
    callbacks = [
        keras.callbacks.BackupAndRestore(workdir / "backup", delete_checkpoint=False),
        JSONLogger(workdir / "log.jsonl"),
        keras.callbacks.ModelCheckpoint(
            workdir / "epoch_{epoch:03d}.weights.h5",
            save_weights_only=True,
            save_freq=config.snapshot_epochs * len(dataset),
        ),
    ]
    dataset.start = _finished_epochs(workdir / "backup")
    model.fit(
        dataset,
        epochs=config.epochs,
        steps_per_epoch=len(dataset),
        shuffle=False,
        callbacks=callbacks,
        verbose=2,
    )
    model.save(workdir / "model.keras")
    figures = recipe.finish(config, model, workdir)
    (workdir / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _finished_epochs(backup):
    """Reads from which epoch `BackupAndRestore` will go on."""
    path = backup / "training_metadata.json"
    return json.loads(path.read_text())["epoch"] if path.is_file() else 0
