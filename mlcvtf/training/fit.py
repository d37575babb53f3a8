"""Runs a recipe: build, fit with resume, finish, report."""

import contextlib
import functools
import json
import pathlib
import shutil
import sys
import tempfile

import keras
from ml_collections.config_dict import config_dict

from mlcvtf.data.batches import EndlessBatches, FirstEpoch
from mlcvtf.errors import InputError
from mlcvtf.training import (
    callbacks,
    checkpoint,
    environment,
    options,
    progress,
    report,
    tensorboard_log,
)
from mlcvtf.training.checkpoint import Checkpoints


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


def run(
    recipe,
    config,
    workdir: str | pathlib.Path,
    strategy=None,
    resume: bool | None = None,
    tensorboard: bool | None = False,
    command: str = "",
) -> dict:
    """Trains as a recipe says, from where an earlier run stopped.

    A run that was killed at any moment ends, when it is run again, with the weights of
    an undisturbed one: bit for bit where the operations of a step are deterministic.

    Args:
        recipe: the module from `recipe.load`.
        config: what `recipe.configure` gave, with `epochs`, `seed` and
            `snapshot_epochs`: weights are kept for good after every so many epochs,
            for curves. Keys of `options.RUN` that it lacks are as there.
        workdir: folder for `checkpoint.npz`, `epoch_*.weights.h5`, `log.jsonl`,
            `log.csv`, `replaced.json`, `tensorboard`, `model.keras`, `figures.json`,
            `report.md` and `curves.png`; made if missing. Of several workers only the
            chief writes it; to go on, all of them must see it.
        strategy: from `make_strategy`; None trains on one device. Several workers
            agree on the steps after which all save or stop.
        resume: True: there must be a checkpoint to go on from; False: there must be
            none; None: goes on where there is one.
        tensorboard: whether to write TensorBoard's log; None: where it is installed,
            else a line on stderr says that it is not.
        command: that is run, for the report.

    Returns:
        The figures that the recipe's `finish` measured; nothing on a worker that is
        not the chief.

    Raises:
        InputError: the folder is of another training, cannot be written, or is not
            as `resume` says, the workers see different checkpoints, or a key does not
            fit.
        KeyboardInterrupt: SIGTERM or Ctrl-C, to this process or another worker, after
            a checkpoint.
    """
    workdir = pathlib.Path(workdir)
    config = config_dict.ConfigDict(options.RUN | config.to_dict())
    options.check_run(config)
    _check_resume(workdir, resume)
    keras.utils.set_random_seed(config.seed)
    with _scope(strategy):
        model = recipe.build(config)
    dataset = recipe.data(config)
    validation = recipe.validation(config) if hasattr(recipe, "validation") else None
    if isinstance(validation, EndlessBatches):
        validation = FirstEpoch(validation)
    with _folder(strategy, workdir) as folder, contextlib.ExitStack() as stack:
        finalize = stack.enter_context(checkpoint.averages_wait(model.optimizer))

        def average():
            with _scope(strategy):
                finalize(model.trainable_variables)

        stopping = callbacks.EarlyStopping(config, average, dataset)
        checkpoints = _checkpoints(
            folder, recipe, config, strategy, dataset, {"early stopping": stopping}
        )
        # Nobody writes a checkpoint before all have read theirs.
        _agree(strategy, checkpoints.done)
        others = _callbacks(folder, config, strategy, checkpoints, dataset, tensorboard)
        others.append(callbacks.Replaced(folder, dataset, validation))
        for callback in others:
            if hasattr(callback, "close"):
                stack.callback(callback.close)
        if validation is not None and callbacks.has_averages(model.optimizer):
            others.append(callbacks.AveragedValidation(average))
        stack.enter_context(checkpoints.signals())
        # Checkpoints last, so that what the others wrote is behind them.
        try:
            with _input_errors():
                _fit(
                    model, dataset, validation, config, [*others, stopping, checkpoints]
                )
        except BaseException:
            # Also where a peer is lost: see `EndlessBatches.end`.
            dataset.end()
            raise
        with _scope(strategy):
            average()
            stopping.finish(model)
    if not _is_chief(strategy):
        return {}
    model.save(workdir / "model.keras")
    if _several(strategy):
        # The other workers are not there any more to compute with.
        model = keras.models.load_model(workdir / "model.keras")
    figures = recipe.finish(config, model, workdir)
    (workdir / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    described = {"seconds": round(checkpoints.seconds)} | environment.describe(strategy)
    report.write(
        workdir,
        recipe.__name__,
        config.to_dict(),
        figures,
        described,
        command,
        stopping.sentence(),
        callbacks.read_replaced(workdir),
    )
    return figures


def _input_errors():
    """Has errors of a data set come out as they went into TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    from mlcvtf.data.datasets import input_errors

    return input_errors()


def _check_resume(workdir, resume):
    """Refuses a folder that is not as the user believes."""
    there = (workdir / checkpoint.FILE).is_file()
    if resume and not there:
        raise InputError(
            f"--resume goes on from the {checkpoint.FILE} of the work folder; received "
            f"{workdir}, where there is none"
        )
    if resume is False and there:
        raise InputError(
            "--noresume begins in a work folder without a checkpoint; received "
            f"{workdir}, where there is {checkpoint.FILE}"
        )


def _checkpoints(folder, recipe, config, strategy, dataset, stateful):
    keys = config.to_dict().items()
    return Checkpoints(
        folder,
        len(dataset),
        {"recipe": recipe.__name__}
        | {key: value for key, value in keys if key not in options.FREE},
        every_minutes=config.checkpoint_minutes,
        every_steps=config.checkpoint_steps,
        dataset=dataset,
        logs=("log.jsonl", "log.csv"),
        stateful=stateful,
        # The others may be other machines.
        arithmetic=environment.arithmetic() if _is_chief(strategy) else {},
        agree=_agreement(strategy),
    )


def _agreement(strategy):
    """Gives what workers agree by on when to save and to stop; None for one."""
    if strategy is None:
        return None
    from mlcvtf.training import agreement
    from mlcvtf.training import strategy as strategies

    if strategies.workers(strategy) == 1:
        return None
    return agreement.Agreement(functools.partial(strategies.gather, strategy)).ask


def _callbacks(folder, config, strategy, checkpoints, dataset, tensorboard):
    """Lists what logs the training."""
    made = [
        callbacks.EpochLog(folder, checkpoints.seconds),
        callbacks.Snapshots(folder, config.snapshot_epochs),
    ]
    if not _is_chief(strategy):
        return made
    if tensorboard is None and not tensorboard_log.is_installed():
        print(f"no log for TensorBoard: {tensorboard_log.MISSING}", file=sys.stderr)
    elif tensorboard is not False:
        made.append(
            tensorboard_log.TensorBoardLog(
                folder / "tensorboard", len(dataset), checkpoints.done
            )
        )
    made.append(progress.Progress(config.epochs, dataset, checkpoints.done))
    return made


def _several(strategy):
    return strategy is not None and strategy.num_replicas_in_sync > 1


def _scope(strategy):
    return strategy.scope() if _several(strategy) else contextlib.nullcontext()


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
        steps = strategies.gather(strategy, [done])[:, 0].tolist()
        if len(set(steps)) > 1:
            raise InputError(
                "workers that go on with a run see the same workdir, in a shared "
                f"folder; received finished steps {', '.join(map(str, steps))}"
            )


def _fit(model, dataset, validation, config, trained_with):
    """Fits what is left: the rest of the epoch that was cut, then whole epochs."""
    *_, stopping, checkpoints = trained_with
    steps = len(dataset)
    epoch, begun = divmod(checkpoints.done, steps)
    parts = []
    if begun:
        # Keras makes the variables of metrics at the first batch, too late for what
        # they held; this makes them and does no step.
        model.test_on_batch(*dataset.batch(0, 0))
        parts.append((epoch, epoch + 1, begun))
        epoch, begun = epoch + 1, 0
    if epoch < config.epochs:
        parts.append((epoch, config.epochs, 0))
    if not parts or stopping.stopped:
        checkpoints.restore(model)
    for epoch, end, begun in parts:
        if stopping.stopped:
            return
        dataset.first = epoch * steps + begun
        model.fit(
            dataset,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=end,
            steps_per_epoch=steps - begun,
            shuffle=False,
            callbacks=trained_with,
            verbose=0,
        )
