"""A child process: grows a forest on two virtual CPUs under MirroredStrategy."""

import functools
import sys

import tensorflow as tf

from mlcvtf.segmentation.body_parts import forest, forest_tensorflow, forest_training
from tests.segmentation.scenes import CLASSES, scenes


def main(path, pictures, options):
    """Writes the forest to `path`."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    forest_tensorflow.BLOCK = 300
    forest_tensorflow.HISTOGRAMS = 40_000
    engine = functools.partial(forest_tensorflow.TensorFlowEngine, strategy=strategy)
    forest.save(
        forest_training.train_forest(
            scenes(pictures), CLASSES, forest_training.Options(*options), engine=engine
        ),
        path,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), eval(sys.argv[3]))
