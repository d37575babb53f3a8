"""Trains small models on the JAX backend and writes what came out as arrays.

`python -m tests.training.jax_child STRATEGY OUT.npz CASE...`, with KERAS_BACKEND=jax.
Nothing here needs TensorFlow but the case of that name. A case may have an argument,
`recipe=face_detector`.
"""

import pathlib
import sys
import tempfile
import types

import keras
import numpy as np

from mlcvtf.training import fit, jax_devices
from mlcvtf.training import recipe as recipes
from tests.training import checkpoint_test
from tests.training.own_losses import fitted_model, people, scenes
from tests.training.strategy_child import BATCH, ROWS, classifier, data


def weights(model, losses=None):
    arrays = {f"weight {v.path}": keras.ops.convert_to_numpy(v) for v in model.weights}
    return arrays | (losses or {})


def placement():
    """Where weights are, and the rows of batches that two devices can share or not."""
    kernel = classifier("sgd").layers[0].kernel.value
    distribution = keras.distribution.distribution()
    found = {"weights": np.int64(len(kernel.sharding.device_set))}
    if distribution is not None:
        for rows in (8, 7):
            layout = distribution.get_data_layout((rows, 2)).backend_layout
            found[f"rows of {rows}"] = np.int64(layout.shard_shape((rows, 2))[0])
    return found


def everything():
    """`fit` with validation and class weights, `evaluate` and `predict` of arrays."""
    model = classifier(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    x, y = data()
    # Batches of 7: neither they nor the last one of 4 or 5 are even for certain.
    history = model.fit(
        x,
        y,
        batch_size=7,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=data(1, 21),
        validation_batch_size=4,
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    ).history
    return (
        weights(model)
        | {
            "iterations": np.int64(model.optimizer.iterations),
            "evaluated": np.array(
                model.evaluate(*data(1, 21), batch_size=4, verbose=0)
            ),
            "predicted": model.predict(data(2, 21)[0], batch_size=BATCH, verbose=0),
        }
        | {f"history {key}": np.array(value) for key, value in history.items()}
    )


def generator():
    """A Python generator, whose last batch is smaller."""
    x, y = data(rows=21)
    batches = ((x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, 21, BATCH))
    model = classifier(keras.optimizers.SGD(0.1))
    model.fit(batches, steps_per_epoch=3, verbose=0)
    return weights(model)


def settings():
    """Decay, clipping, accumulation, an average; dropout, drawn for a whole batch."""
    model = classifier(
        keras.optimizers.AdamW(
            0.05,
            epsilon=0.1,
            weight_decay=0.1,
            global_clipnorm=0.05,
            gradient_accumulation_steps=2,
            use_ema=True,
            ema_momentum=0.8,
        )
    )
    x, y = data()
    model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    random = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5, seed=3),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    random.compile("sgd", "mse")
    random.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    return weights(model) | {f"random {k}": v for k, v in weights(random).items()}


def detector():
    """Losses that count objects, which the devices hold in unequal numbers."""
    return weights(*fitted_model("centernet_landmarks", 1e-2, scenes(ROWS), BATCH))


def embedder():
    """A loss over the labelled faces alone."""
    return weights(*fitted_model("face_embedder", 1e-3, people(ROWS), BATCH))


def grain():
    """A grain data set, whose last batch is smaller."""
    import grain as library

    x, y = data(rows=21)
    rows = library.MapDataset.source(list(zip(x, y, strict=True)))
    model = classifier(keras.optimizers.SGD(0.1))
    model.fit(rows.batch(BATCH), epochs=2, verbose=0)
    return weights(model)


def tensorflow():
    """A `tf.data` data set, whose last batch is smaller."""
    import tensorflow as tf

    model = classifier(keras.optimizers.SGD(0.1))
    dataset = tf.data.Dataset.from_tensor_slices(data(rows=21)).batch(BATCH)
    model.fit(dataset, epochs=2, verbose=0)
    return weights(model)


def resumed():
    """The recipe of the checkpoints' tests, killed within an epoch and run again."""
    test = checkpoint_test
    return both_ends(test.recipe, test.CONFIG, (1, 3))


def both_ends(make, config, killed_at):
    """Runs a recipe whole, and again with a kill and a resume.

    Args:
        make: gives the recipe, killed at the batch that it is called with, if any.
        config: of the recipe.
        killed_at: (epoch, index) of that batch.
    """
    fit.SAVE_MINUTES = 0.0
    ends = {}
    for end in ("whole", "again"):
        with tempfile.TemporaryDirectory() as folder:
            if end == "again":
                try:
                    fit.run(make(killed_at), config, folder)
                except OSError as error:
                    if str(error) != "killed":
                        raise
                if pathlib.Path(folder, "model.keras").exists():
                    raise ValueError("the training was not killed")
            fit.run(make(), config, folder)
            log = checkpoint_test.read_log(pathlib.Path(folder))
            with np.load(pathlib.Path(folder, "checkpoint.npz")) as file:
                arrays = {key: file[key] for key in file if key != "meta"}
        arrays["log"] = np.array([line["loss"] for line in log])
        ends |= {f"{end} {key}": value for key, value in arrays.items()}
    return ends


def recipe(name):
    """A recipe's smoke form, of two epochs, killed in the second and run again."""
    module = recipes.load(name)
    config = recipes.configure(module, ["--config.smoke=True", "--config.epochs=2"])
    original = module.data

    def make(killed_at=None):
        def data(config):
            dataset = original(config)
            batch = dataset.batch

            def killed(epoch, index):
                if (epoch, index) == killed_at:
                    raise OSError("killed")
                return batch(epoch, index)

            dataset.batch = killed
            return dataset

        functions = {"build": module.build, "finish": module.finish, "data": data}
        return types.SimpleNamespace(__name__=name, **functions)

    return both_ends(make, config, (1, 1))


def main(name, out, *cases):
    results = {}
    for case in cases:
        # It forgets the distribution too.
        keras.utils.clear_session()
        jax_devices.create(name)
        function, _, argument = case.partition("=")
        found = globals()[function](*([argument] if argument else []))
        for key, value in found.items():
            results[f"{case}: {key}"] = value
    results["tensorflow"] = np.array("tensorflow" in sys.modules)
    np.savez(out, **{k.replace("/", "|"): v for k, v in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
