"""Trains small models under a strategy and writes what came out as arrays.

`python -m tests.training.strategy_child STRATEGY OUT.npz CASE... [--without=CURE]`. The
cases are the same under one_device, mirrored (two virtual CPUs) and multi_worker, so
that the tests can compare them. `--without` leaves out one cure, for a look at whether
a test can fail.
"""

import sys

import numpy as np

from tests.training.own_losses import fitted_model, people, scenes

BATCH, ROWS = 8, 32


def data(seed=0, rows=ROWS):
    """Gives pictures `[rows, 6, 6, 2]` and classes `[rows]` of three."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 6, 6, 2)).astype("float32")
    return x, random.integers(0, 3, rows).astype("int32")


def classifier(optimizer, normalise=True, **compiled):
    """Builds and compiles a classifier with the same weights in every process."""
    import keras

    layers = [
        keras.Input((6, 6, 2)),
        keras.layers.Conv2D(4, 3, use_bias=not normalise),
        *([keras.layers.BatchNormalization(momentum=0.9)] if normalise else []),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers)
    random = np.random.default_rng(7)
    for variable in model.trainable_variables:
        if variable.name != "gamma":
            variable.assign(random.normal(size=variable.shape) * 0.3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, **compiled)
    return model


def state(model, strategy):
    """Gives all weights, and how far the local replicas' copies are apart."""
    weights = {f"weight {v.path}": v.numpy() for v in model.weights}
    spread = 0.0
    for variable in model.weights:
        copies = getattr(variable.value, "values", [variable.value])
        spread = max(spread, np.ptp(np.stack([c.numpy() for c in copies]), 0).max())
    return weights | {"spread": np.float32(spread)}


def fitted(strategy, optimizer, normalise=True, **compiled):
    """Fits full batches in their order and returns the state."""
    import keras

    with strategy.scope():
        made = optimizer(keras.optimizers)
        model = classifier(made, normalise, **compiled)
    x, y = data()
    model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return model, state(model, strategy)


def detector(strategy):
    """CenterNet, whose losses are divided by the number of objects."""
    with strategy.scope():
        model, losses = fitted_model("centernet_landmarks", 1e-2, scenes(ROWS), BATCH)
    return state(model, strategy) | losses


def embedder(strategy):
    """ArcFace over the labelled faces alone, and the distance to a teacher."""
    with strategy.scope():
        model, losses = fitted_model("face_embedder", 1e-3, people(ROWS), BATCH)
    return state(model, strategy) | losses


def everything(strategy):
    """`fit` with validation and class weights, `evaluate`, `predict`."""
    import keras

    with strategy.scope():
        model = classifier(
            keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"]
        )
    x, y = data()
    history = model.fit(
        x, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0,
        validation_data=data(1), validation_batch_size=BATCH,
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    ).history
    model_state = state(model, strategy)
    return model_state | {
        "iterations": np.int64(model.optimizer.iterations.numpy()),
        "evaluated": np.array(
            model.evaluate(*data(1), batch_size=BATCH, verbose=0), "float32"
        ),
        # A last batch that is not full must not lose or repeat a row.
        "predicted": model.predict(data(2, 21)[0], batch_size=BATCH, verbose=0),
    } | {f"history {k}": np.array(v, "float32") for k, v in history.items()}


def moving_average(strategy):
    """An exponential moving average, put into the model every third step."""
    return fitted(strategy, lambda o: o.SGD(
        0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3))[1]


def clipping(strategy):
    """A global norm that bites at every step."""
    return fitted(strategy, lambda o: o.SGD(0.5, global_clipnorm=0.05))[1]


def decay(strategy):
    """Adam with decoupled weight decay; an epsilon that keeps it well conditioned."""
    return fitted(strategy, lambda o: o.AdamW(0.01, weight_decay=0.1, epsilon=0.1))[1]


def groups(strategy):
    """Two optimizers for two groups of weights, as fine-tuning has them."""
    return fitted(strategy, lambda o: o.MultiOptimizer(o.OptimizerMap(
        o.AdamW(0.01, weight_decay=0.1, epsilon=0.1),
        {".*conv2d/.*": o.SGD(0.05, momentum=0.9, clipnorm=0.5)})))[1]


def accumulation(strategy):
    """The mean gradient of two steps, clipped."""
    return fitted(strategy, lambda o: o.SGD(
        0.5, momentum=0.9, weight_decay=0.01, global_clipnorm=0.05,
        gradient_accumulation_steps=2), normalise=False)[1]


def scaled_accumulation(strategy):
    """Accumulation inside loss scaling."""
    model, result = fitted(strategy, lambda o: o.LossScaleOptimizer(
        o.SGD(0.5, gradient_accumulation_steps=2), initial_scale=8.0,
        dynamic_growth_steps=3), normalise=False)
    return result | {"scale": model.optimizer.dynamic_scale.numpy()}


def overflow(strategy):
    """One picture of the last replica overflows: the step is left out everywhere."""
    import keras

    with strategy.scope():
        model = classifier(
            keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1, momentum=0.9), initial_scale=64.0
            ),
            normalise=False,
        )
    x, y = data()
    x[2 * BATCH - 1] = np.inf
    model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return state(model, strategy) | {
        "scale": model.optimizer.dynamic_scale.numpy(),
        "iterations": np.int64(model.optimizer.iterations.numpy()),
    }


def half_precision(strategy):
    """mixed_float16 from a loss scale at which the first steps overflow."""
    import keras

    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with strategy.scope():
            model = classifier(keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.1), initial_scale=2.0**22))
        x, y = data()
        model.fit(x, y, batch_size=BATCH, epochs=4, shuffle=False, verbose=0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return state(model, strategy) | {
        "scale": model.optimizer.dynamic_scale.numpy(),
        "iterations": np.int64(model.optimizer.iterations.numpy()),
    }


def endless(strategy):
    """A stream of batches by number, as the recipes have it."""
    import keras

    from mlcvtf.data.batches import EndlessBatches

    class Pictures(EndlessBatches):
        def __len__(self):
            return 3

        def batch(self, epoch, index):
            return data(100 * epoch + index, BATCH)

    with strategy.scope():
        model = classifier(keras.optimizers.SGD(0.1))
    stream = Pictures()
    model.fit(stream, epochs=2, steps_per_epoch=3, shuffle=False, verbose=0)
    return state(model, strategy)


def executions(strategy):
    """Three steps per execution, which do not divide an epoch of four."""
    import keras

    found = {}
    for steps in (1, 3):
        with strategy.scope():
            model = classifier(keras.optimizers.SGD(0.1, momentum=0.9),
                               steps_per_execution=steps)
        history = model.fit(
            *data(), batch_size=BATCH, epochs=2, shuffle=False, verbose=0,
            validation_data=data(1), validation_batch_size=BATCH).history
        found |= {f"{key} by {steps}": value for key, value in {
            "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
            "iterations": np.int64(model.optimizer.iterations.numpy()),
            "predicted": model.predict(data(2, 21)[0], batch_size=BATCH, verbose=0),
            **{name: np.array(values) for name, values in history.items()},
        }.items()}
    return found


def counted(strategy):
    """A filtered dataset whose length is said: steps and a metric are exact."""
    import keras
    import tensorflow as tf

    with strategy.scope():
        model = classifier(keras.optimizers.SGD(0.0), metrics=["accuracy"])
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    dataset = dataset.filter(lambda x, y: True)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(ROWS // BATCH))
    history = model.fit(dataset, epochs=1, verbose=0).history
    # What the metric must have counted: full batches, weights that stay, but moments
    # of the batch.
    right = 0
    for start in range(0, ROWS, BATCH):
        with_moments = classifier_copy(model, x[start : start + BATCH])
        right += (with_moments.argmax(1) == y[start : start + BATCH]).sum()
    return {
        "iterations": np.int64(model.optimizer.iterations.numpy()),
        "accuracy": np.float32(history["accuracy"][0]),
        "right": np.float32(right / ROWS),
    }


def classifier_copy(model, x):
    """Computes the classifier with the moments of its batch, in NumPy."""
    kernel, gamma, beta = (w.numpy() for w in model.trainable_weights[:3])
    weight, bias = (w.numpy() for w in model.trainable_weights[3:])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    x = np.einsum("bijcuv,uvco->bijo", windows, kernel)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    x = np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    return x.reshape(len(x), -1) @ weight + bias


def odd(strategy):
    """Batches that the replicas cannot share evenly, the last one smaller still."""
    import keras

    with strategy.scope():
        model = classifier(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    x, y = data()
    model.fit(x, y, batch_size=7, epochs=1, shuffle=False, verbose=0)
    return state(model, strategy) | {
        "iterations": np.int64(model.optimizer.iterations.numpy())
    }


def saved(strategy):
    """A file written under the strategy holds nothing of it."""
    import pathlib
    import tempfile

    import keras

    model, _ = fitted(strategy, lambda o: o.SGD(0.1))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        file = np.frombuffer(path.read_bytes(), "uint8")
        with strategy.scope():
            again = keras.models.load_model(path)
    x, y = data(3)
    again.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    flags = [layer.get_config()["synchronized"] for layer in again.layers
             if isinstance(layer, keras.layers.BatchNormalization)]
    return state(again, strategy) | {
        "synchronized": np.array(flags), "file": file
    }


def masked(strategy):
    """BatchNormalization with a mask that differs between the replicas."""
    import keras

    with strategy.scope():
        x = inputs = keras.Input((5, 2))
        x = keras.layers.Masking()(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        model = keras.Model(inputs, x)
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 2)).astype("float32")
    x[::4, 2:] = 0
    x[BATCH // 2 :: BATCH, 1:] = 0
    model.fit(x, x, batch_size=BATCH, shuffle=False, verbose=0)
    return {k: v for k, v in state(model, strategy).items() if "moving" in k}


def refusals(strategy):
    """The messages of what is refused."""
    import keras
    import tensorflow as tf

    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    with strategy.scope():
        model = classifier(keras.optimizers.SGD(0.1))
    outside = keras.optimizers.SGD(0.1)
    outer = keras.layers.Dense(1)
    outer.build((None, 2))
    with strategy.scope():
        mixed = classifier(outside)
        layered = keras.Sequential([keras.Input((2,)), outer])
        layered.compile("sgd", "mse")
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    unknown = dataset.filter(lambda x, y: True)
    return {
        "length": message(model.fit, unknown),
        "evaluated length": message(model.evaluate, unknown),
        "validation length": message(model.fit, dataset, validation_data=unknown),
        "off": message(model.fit, dataset.with_options(options)),
        "optimizer": message(mixed.fit, x, y, batch_size=BATCH),
        "layer": message(layered.fit, x[:, 0, 0], y),
        "model": message(made.fit, x[:, 0, 0], y),
    }


def message(function, *arguments, **keywords):
    """Gives the one line that a call is refused with, or nothing."""
    from mlcvtf.errors import InputError

    try:
        function(*arguments, verbose=0, **keywords)
    except InputError as error:
        return np.array(str(error))
    return np.array("")


def main(name, out, *arguments):
    import keras
    import tensorflow as tf

    from mlcvtf.training import strategy as strategies

    without = [a.partition("=")[2] for a in arguments if a.startswith("--without=")]
    if name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    if without:
        from mlcvtf.training import keras_distribution

        keras_distribution.CURES = [c for c in keras_distribution.CURES
                                    if c[2].__name__ not in without]
    strategy = strategies.create(name)
    results = {}
    for case in (a for a in arguments if not a.startswith("--")):
        # Names of weights that do not depend on the cases before.
        keras.utils.clear_session()
        for key, value in globals()[case](strategy).items():
            results[f"{case}: {key}"] = value
    np.savez(out, **{k.replace("/", "|"): v for k, v in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
