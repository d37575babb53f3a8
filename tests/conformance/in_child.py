"""Walks the descriptors in a process of its own and prints one JSON line each.

`python -m tests.conformance.in_child mirrored NAME...` makes two virtual CPUs, which
must happen before TensorFlow starts; with `fit`, and KERAS_BACKEND set to another
backend, the models take some steps there; `repeat` takes them again, on any backend.
"""

import json
import sys
import tempfile

import numpy as np


def mirrored(names):
    """Compares models under MirroredStrategy with themselves on one device."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from tests.conformance import descriptors

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    local = strategy.experimental_local_results
    for name in names:
        with strategy.scope():
            model = descriptors.build(name)
            inputs = descriptors.MODELS[name].inputs()
            whole = descriptors.arrays(model(inputs, training=False))
            halves = strategy.experimental_distribute_values_from_function(
                lambda context, inputs=inputs: half(
                    inputs, context.replica_id_in_sync_group
                )
            )
            results = strategy.run(
                tf.function(lambda x, model=model: model(x, training=False)), (halves,)
            )
            losses = trained(name, model)
        differences = [
            np.abs(np.concatenate(local(parts)) - one).max()
            for parts, one in zip(tf.nest.flatten(results), tf.nest.flatten(whole),
                                  strict=True)
        ]
        spread = [np.ptp(np.stack(local(v.value)), axis=0).max()
                  for v in model.trainable_variables]
        report(name, replicas=strategy.num_replicas_in_sync, losses=losses,
               difference=max(differences), spread=max(spread, default=0))


def half(inputs, which):
    """Returns the first or second half of a batch of nested arrays."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda x: tf.constant(np.split(x, 2)[which]), inputs)


def trained(name, model):
    """Fits a model, if it has weights, and returns the first loss and the last."""
    from tests.conformance import descriptors

    return descriptors.fit_step(name, model) if model.trainable_variables else None


def fit(names):
    """Fits models on the backend of the environment."""
    import keras

    from tests.conformance import descriptors

    for name in names:
        model = descriptors.build(name)
        losses = trained(name, model)
        outputs = model.predict_on_batch(descriptors.MODELS[name].inputs())
        finite = all(np.isfinite(x).all() for x in keras.tree.flatten(outputs))
        report(name, backend=keras.backend.backend(), losses=losses, finite=finite)


def repeat(names):
    """Trains models four steps twice, and a third time from a checkpoint.

    The second training writes the checkpoint after two steps and goes on.
    """
    import keras

    from tests.conformance import descriptors

    for name in names:
        backend = keras.backend.backend()
        if not descriptors.build(name).trainable_variables:
            report(name, backend=backend, moved=None, again=[], resumed=[])
            continue
        whole = ends(name, None)
        with tempfile.TemporaryDirectory() as folder:
            again, resumed = ends(name, folder), ends(name, folder)
        report(
            name,
            backend=backend,
            moved=any(not np.array_equal(*pair) for pair in whole.values()),
            again=[k for k in whole if not equal(whole[k][1], again[k][1])],
            resumed=[k for k in whole if not equal(whole[k][1], resumed[k][1])],
        )


def equal(one, other):
    """Compares bit for bit."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def ends(name, folder):
    """Trains a model; returns {name: (at the start, at the end)} of all variables.

    Args:
        name: of the descriptor.
        folder: for a checkpoint after two steps. One that is there is gone on from,
            by a model with other weights. None: no checkpoint.
    """

    from mlcvtf.training.checkpoint import Checkpoints
    from tests.conformance import descriptors

    model = descriptors.build(name)
    inputs, targets = descriptors.prepare(name, model)
    start = values(model)
    checkpoints = Checkpoints(folder, 1, {}) if folder else None
    first = checkpoints.done if folder else 0
    if first:
        for variable in model.trainable_variables:
            variable.assign(np.zeros(variable.shape))
    settings = {"batch_size": descriptors.BATCH, "shuffle": False, "verbose": 0}
    if folder and not first:
        model.fit(inputs, targets, epochs=2, callbacks=[checkpoints], **settings)
        first, checkpoints = 2, None
    model.fit(inputs, targets, initial_epoch=first, epochs=4,
              callbacks=[checkpoints] if checkpoints else [], **settings)
    if model.optimizer.iterations != 4:
        raise ValueError(f"{model.optimizer.iterations} steps")
    end = values(model)
    return {key: (start.get(key, end[key] * 0), end[key]) for key in end}


def values(model):
    """Copies the variables of a model and its optimizer."""
    import keras

    return {
        f"{part} {number}": np.array(keras.ops.convert_to_numpy(variable))
        for part, owner in (("model", model), ("optimizer", model.optimizer))
        for number, variable in enumerate(owner.variables)
    }


def report(name, **values):
    print(json.dumps({"name": name} | values, default=float), flush=True)


if __name__ == "__main__":
    {"mirrored": mirrored, "fit": fit, "repeat": repeat}[sys.argv[1]](sys.argv[2:])
