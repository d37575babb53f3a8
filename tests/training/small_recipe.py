"""A recipe of seconds with all that is hard to go on with, for tests.

AdamW with a moving average and a cosine rate, augmentation and dropout in the model,
BatchNormalization, noise in the data, validation. The environment can have the process
send itself a signal when it makes a batch: SMALL_RECIPE_KILL=epoch,index,signal.
"""

import hashlib
import os
import time

import keras
import numpy as np

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.training import options

BATCH = 8


def get_config():
    return options.OPTIMIZER | {
        "seed": 3,
        "snapshot_epochs": 100,
        "epochs": 4,
        "steps": 6,
        "learning_rate": 0.02,
        "weight_decay": 0.01,
        "average": 0.9,
        "pause": 0.0,
    }


def smoke(config):
    config.update(epochs=1, steps=2)


class Pictures(EndlessBatches):
    """Noise pictures; the class is where they are bright."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def __len__(self):
        return self.config.steps

    def batch(self, epoch, index):
        at, _, number = os.environ.get("SMALL_RECIPE_KILL", "").rpartition(",")
        if at == f"{epoch},{index}":
            os.kill(os.getpid(), int(number))
        time.sleep(self.config.pause)
        return pictures((self.config.seed, epoch, index), BATCH)


def pictures(seed, count):
    random = np.random.default_rng(seed)
    images = random.uniform(0, 255, (count, 8, 8, 3)).astype(np.float32)
    classes = random.integers(0, 2, count)
    images[classes == 1, :4] *= 0.8
    return images, classes.astype(np.int32)


def data(config):
    return Pictures(config)


def validation(config):
    return pictures(99, 16)


def build(config):
    layers = keras.layers
    with options.precision(config.policy):
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Rescaling(1 / 255),
                layers.RandomFlip("horizontal", seed=1),
                layers.Conv2D(4, 3, use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dropout(0.2, seed=2),
                layers.Dense(2, dtype="float32"),
            ]
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = config.epochs * config.steps
    model.compile(options.optimizer(config, steps), loss=loss, metrics=["accuracy"])
    return model


def finish(config, model, workdir):
    weights = b"".join(np.asarray(w).tobytes() for w in model.get_weights())
    return {
        "accuracy": model.evaluate(*validation(config), verbose=0)[1],
        "weights": hashlib.sha256(weights).hexdigest(),
    }
