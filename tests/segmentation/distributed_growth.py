"""A child process: grows a forest on two virtual CPUs, or as one of two workers."""

import functools
import json
import sys


def main(name, path, pictures, options):
    """Grows under the strategy of a name and writes the forest to `path`."""
    import tensorflow as tf

    from mlcvtf.training import strategy as strategies

    if name == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    strategy = strategies.create(name)
    assert strategy.num_replicas_in_sync == 2

    from mlcvtf.segmentation.body_parts import (
        forest,
        forest_tensorflow,
        forest_training,
    )
    from tests.segmentation.scenes import CLASSES, scenes

    # Many blocks, and a node's features in several passes.
    forest_tensorflow.BLOCK = 300
    forest_tensorflow.HISTOGRAMS = 40 * 13 * CLASSES
    engine = functools.partial(forest_tensorflow.TensorFlowEngine, strategy=strategy)
    grown = forest_training.train_forest(
        scenes(pictures),
        CLASSES,
        forest_training.Options(*options),
        engine=engine,
    )
    forest.save(grown, path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
