"""Runs a recipe: build, fit with resume, finish."""

import contextlib
import json
import math
import pathlib
import shutil
import tempfile
import time

import keras

from mlcvtf.errors import InputError
from mlcvtf.training import checkpoint
from mlcvtf.training.checkpoint import Checkpoints

SAVE_MINUTES = 5.0


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


def make_strategy(name: str):
    """Makes the strategy of a flag, on the TensorFlow and the JAX backend.

    Args:
        name: one of `training.strategy.NAMES`.

    Returns:
        A `tf.distribute.Strategy`; None on another backend, where models are built
        and trained as on one device: JAX's distribution is set for the process.

    Raises:
        InputError: another backend was asked for several devices, or what
            `training.strategy.create` or `training.jax_devices.create` refuses.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from mlcvtf.training import strategy

        return strategy.create(name)
    if backend == "jax":
        from mlcvtf.training import jax_devices

        jax_devices.create(name)
    elif name not in ("auto", "one_device"):
        raise InputError(
            "several devices train on the TensorFlow and the JAX backend; received "
            f"{name} with the backend {backend}"
        )
    return None


def run(recipe, config, workdir: str | pathlib.Path, strategy=None) -> dict:
    """Trains as a recipe says, from where an earlier run stopped.

    A run that was killed at any moment ends, when it is run again, with the weights of
    an undisturbed one: bit for bit where the operations of a step are deterministic.

    Args:
        recipe: the module from `recipe.load`.
        config: what `recipe.configure` gave, with `epochs`, `seed` and
            `snapshot_epochs`: weights are kept for good after every so many epochs,
            for curves.
        workdir: folder for `checkpoint.npz`, `epoch_*.weights.h5`, `log.jsonl`,
            `model.keras` and `figures.json`; made if missing. Of several workers only
            the chief writes it; to go on, all of them must see it.
        strategy: from `make_strategy`; None trains on one device. On several, a
            checkpoint is written after every epoch only, which all reach together.

    Returns:
        The figures that the recipe's `finish` measured; nothing on a worker that is
        not the chief.

    Raises:
        InputError: the folder is of another training or cannot be written, or the
            workers see different checkpoints.
        KeyboardInterrupt: SIGTERM or Ctrl-C, on one device after a checkpoint.
    """
    workdir = pathlib.Path(workdir)
    several = strategy is not None and strategy.num_replicas_in_sync > 1
    keras.utils.set_random_seed(config.seed)
    with strategy.scope() if several else contextlib.nullcontext():
        model = recipe.build(config)
    dataset = recipe.data(config)
    with _folder(strategy, workdir) as folder:
        checkpoints = Checkpoints(
            folder,
            len(dataset),
            {"recipe": recipe.__name__, **config.to_dict()},
            every_minutes=math.inf if several else SAVE_MINUTES,
            dataset=dataset,
            log=folder / "log.jsonl",
        )
        # Nobody writes a checkpoint before all have read theirs.
        _agree(strategy, checkpoints.done)
        callbacks = [
            JSONLogger(folder / "log.jsonl", checkpoints.seconds),
            Snapshots(folder, config.snapshot_epochs),
            # Last, so that what the others wrote is behind the checkpoint.
            checkpoints,
        ]
        with contextlib.ExitStack() as stack:
            stack.enter_context(checkpoint.averages_wait(model.optimizer))
            if not several:
                stack.enter_context(checkpoints.signals())
            _fit(model, dataset, config.epochs, checkpoints, callbacks)
    with strategy.scope() if several else contextlib.nullcontext():
        model.optimizer.finalize_variable_values(model.trainable_weights)
    if not _is_chief(strategy):
        return {}
    model.save(workdir / "model.keras")
    if several:
        # The other workers are not there any more to compute with.
        model = keras.models.load_model(workdir / "model.keras")
    figures = recipe.finish(config, model, workdir)
    (workdir / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


@contextlib.contextmanager
def _folder(strategy, workdir):
    """Gives the folder that this process writes: on the chief the workdir itself."""
    if _is_chief(strategy):
        workdir.mkdir(parents=True, exist_ok=True)
        yield workdir
        return
    with tempfile.TemporaryDirectory() as scratch:
        if (workdir / checkpoint.FILE).is_file():
            shutil.copy(workdir / checkpoint.FILE, scratch)
        yield pathlib.Path(scratch)


def _is_chief(strategy):
    if strategy is None:
        return True
    from mlcvtf.training import strategy as strategies

    return strategies.is_chief(strategy)


def _agree(strategy, done):
    """Makes sure that all workers go on from the same step."""
    if strategy is None:
        return
    from mlcvtf.training import strategy as strategies

    if strategies.workers(strategy) > 1:
        steps = strategies.gather(strategy, done)
        if len(set(steps)) > 1:
            raise InputError(
                "workers that go on with a run see the same workdir, in a shared "
                f"folder; received finished steps {', '.join(map(str, steps))}"
            )


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
