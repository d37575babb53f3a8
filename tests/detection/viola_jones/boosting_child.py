"""Boosts under a strategy and prints the splits of every round as JSON.

`python -m tests.detection.viola_jones.boosting_child numba|one_device|mirrored`, or
`multi_worker OUT` as one of two workers, which writes to a file.
"""

import contextlib
import json
import sys

import numpy as np

CASES = [
    {"method": "adaboost", "depth": 1},
    {"method": "gentle", "depth": 1},
    {"method": "adaboost", "depth": 2},
    {"method": "gentle", "depth": 2, "subsample": 0.3},
]


def data():
    """Gives values `[features, samples]` and classes; nothing divides evenly."""
    random = np.random.default_rng(5)
    positive = random.random(301) < 0.4
    values = random.normal(size=(43, 301)).astype(np.float32)
    values[[4, 11, 29]] += random.random((3, 1)) * positive
    values[3] = np.rint(values[3])
    # Equal features far apart, so that they are on different replicas and blocks.
    values[40] = values[4]
    return values, positive


def searches(name, bins, samples):
    """Gives every search of this kind by name."""
    from mlcvtf.detection.viola_jones import boosting

    if name == "numba":
        return {name: boosting.HistogramSearch(bins, samples)}
    import tensorflow as tf

    from mlcvtf.detection.viola_jones.boosting_tensorflow import TensorSearch

    strategy = None
    if name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if name == "multi_worker":
        from mlcvtf.training import strategy as strategies

        strategy = strategies.create(name)
        assert strategy.num_replicas_in_sync == 2
    return {
        f"{name}, {shard}, blocks of {block}": TensorSearch(
            bins, samples, strategy, shard, block
        )
        for shard, block in (("samples", 8), ("features", 8), ("features", 512))
    }


def main(name, out=None):
    """Prints or writes a list of rounds for each search and case."""
    from mlcvtf.detection.viola_jones import boosting

    values, positive = data()
    found = {}
    for kind, search in searches(name, boosting.bin_values(values), 301).items():
        found[kind] = []
        for case in CASES:
            booster = boosting.Booster(search, positive, seed=1, **case)
            rounds = [booster.round() for _ in range(5)]
            found[kind].append(
                [[r.error, *(part.tolist() for part in r.tree)] for r in rounds]
            )
    with open(out, "w") if out else contextlib.nullcontext(sys.stdout) as file:
        print(json.dumps(found), file=file)


if __name__ == "__main__":
    main(*sys.argv[1:])
