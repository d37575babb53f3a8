"""Runs a recipe: build, fit with resume, finish."""

import json
import pathlib
import time

import keras

from mlcvtf.training.checkpoint import Checkpoints, averages_wait


class JSONLogger(keras.callbacks.Callback):
    """Appends one JSON line per epoch: epoch, seconds since the start, metrics.

    Args:
        path: the file.
        seconds: that the training took before this process.
    """

    def __init__(self, path, seconds: float = 0.0):
        super().__init__()
        self.path = path
        self._start = time.monotonic() - seconds

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch, "seconds": round(time.monotonic() - self._start, 1)}
        line |= {key: round(float(value), 6) for key, value in (logs or {}).items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class Snapshots(keras.callbacks.Callback):
    """Keeps the weights after every so many epochs, for curves."""

    def __init__(self, folder: pathlib.Path, every: int):
        super().__init__()
        self.folder, self.every = folder, every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.model.save_weights(self.folder / f"epoch_{epoch + 1:03d}.weights.h5")


def run(recipe, config, workdir: str | pathlib.Path) -> dict:
    """Trains as a recipe says, from where an earlier run stopped.

    A run that was killed at any moment ends, when it is run again, with the weights of
    an undisturbed one: bit for bit where the operations of a step are deterministic.

    Args:
        recipe: the module from `recipe.load`.
        config: what `recipe.configure` gave, with `epochs`, `seed` and
            `snapshot_epochs`: weights are kept for good after every so many epochs,
            for curves.
        workdir: folder for `checkpoint.npz`, `epoch_*.weights.h5`, `log.jsonl`,
            `model.keras` and `figures.json`; made if missing.

    Returns:
        The figures that the recipe's `finish` measured.

    Raises:
        InputError: the folder is of another training, or cannot be written.
        KeyboardInterrupt: SIGTERM or Ctrl-C, after a checkpoint.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.seed)
    model, dataset = recipe.build(config), recipe.data(config)
    identity = {"recipe": recipe.__name__, **config.to_dict()}
    checkpoints = Checkpoints(
        workdir, len(dataset), identity, dataset=dataset, log=workdir / "log.jsonl"
    )
    callbacks = [
        JSONLogger(workdir / "log.jsonl", checkpoints.seconds),
        Snapshots(workdir, config.snapshot_epochs),
        # Last, so that what the others wrote is behind the checkpoint.
        checkpoints,
    ]
    with averages_wait(model.optimizer), checkpoints.signals():
        _fit(model, dataset, config.epochs, checkpoints, callbacks)
    model.optimizer.finalize_variable_values(model.trainable_weights)
    model.save(workdir / "model.keras")
    figures = recipe.finish(config, model, workdir)
    (workdir / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _fit(model, dataset, epochs, checkpoints, callbacks):
    """Fits what is left: the rest of the epoch that was cut, then whole epochs."""
    steps = len(dataset)
    epoch, begun = divmod(checkpoints.done, steps)
    parts = []
    if begun:
        # Keras makes the variables of metrics at the first batch, too late for what
        # they held; this makes them and does no step.
        model.test_on_batch(*dataset.batch(0, 0))
        parts.append((epoch, epoch + 1, begun))
        epoch, begun = epoch + 1, 0
    if epoch < epochs:
        parts.append((epoch, epochs, 0))
    if not parts:
        checkpoints.restore(model)
    for epoch, end, begun in parts:
        dataset.first = epoch * steps + begun
        try:
            model.fit(
                dataset,
                initial_epoch=epoch,
                epochs=end,
                steps_per_epoch=steps - begun,
                shuffle=False,
                callbacks=callbacks,
                verbose=2,
            )
        finally:
            # Where a signal ended the data set, that is what `fit` failed with.
            checkpoints.raise_if_stopped()
