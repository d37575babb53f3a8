"""Walks the descriptors in a process of its own and prints one JSON line each.

`python -m tests.conformance.in_child mirrored NAME...` makes two virtual CPUs, which
must happen before TensorFlow starts; with `fit`, and KERAS_BACKEND set to another
backend, the models take some steps there.
"""

import json
import sys

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


def report(name, **values):
    print(json.dumps({"name": name} | values, default=float), flush=True)


if __name__ == "__main__":
    {"mirrored": mirrored, "fit": fit}[sys.argv[1]](sys.argv[2:])
