"""A small MobileNetV2 on 9,000 CIFAR-10 pictures: a backbone to fine-tune from.

Sandler et al., 2018, arXiv:1801.04381, at width 0.35 on pictures of 32 pixels that are
stretched to 64, where the network's stride of 32 leaves 2x2 places.

    apps/train --config=cifar10_classifier --workdir=work/cifar10_classifier

Reached: accuracy 0.509 on cifar10_subset test after 107,520 pictures, a short training:
about as long as that of `clothing10_pretext`, so that both can be compared.

The pictures are a subset of CIFAR-10 (Krizhevsky, 2009) as JPEG, so the accuracy is not
comparable with published ones.
"""

import pathlib

import keras
import numpy as np

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.data import class_pictures
from mlcvtf.data.class_pictures import ClassPictures
from mlcvtf.data.tables import read_class_table


def get_config():
    """Returns the recipe's settings."""
    return {
        "data": "../shared/data",
        "seed": 0,
        "snapshot_epochs": 1000,
        "epochs": 12,
        "steps": 140,
        "batch_size": 64,
        "size": 64,
        "alpha": 0.35,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "dropout": 0.1,
        "label_smoothing": 0.1,
        "area": 0.35,
        "colour": 0.5,
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic pictures."""
    config.update(data="", epochs=1, steps=2, batch_size=4, size=32, alpha=0.1)


def build(config):
    """Builds the classifier."""
    model = ImageClassifier(
        backbone(config), 10, config.dropout, config.label_smoothing
    )
    model.compile(optimizer(config))
    return model


def backbone(config) -> keras.Model:
    """Builds the network that all recipes on small pictures share."""
    # A thousand steps are too few for averages over a thousand.
    return mobilenet_v2(config.alpha, last_channels=None, momentum=0.97)


def optimizer(config) -> keras.optimizers.Optimizer:
    """Makes AdamW with a warm-up and half a cosine."""
    steps = config.steps * config.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=max(1, steps // 20),
    )
    return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, clipnorm=5.0)


def pictures(folder, part: str, size: int, names=None) -> tuple:
    """Reads a part of a set that is a table and an archive.

    Returns:
        uint8 `[n, size, size, 3]`, int32 `[n]`, and the classes' names.
    """
    folder = pathlib.Path(folder)
    records = read_class_table(
        folder / f"{part}.csv", folder / f"{part}.zip", names=names
    )
    return *class_pictures.load(records, size), records.names


def made_up(size: int, classes: int = 10) -> tuple:
    """Makes pictures for the smoke form: two of noise per class."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes, dtype=np.int32), 2)
    return generator.integers(0, 256, (len(labels), size, size, 3), np.uint8), labels


def batches(config, images, labels, **kwargs) -> ClassPictures:
    """Gives the changed pictures that a config asks for."""
    return ClassPictures(
        images,
        labels,
        config.size,
        config.batch_size,
        config.steps,
        config.area,
        config.colour,
        seed=config.seed,
        **kwargs,
    )


def data(config):
    """Gives the training pictures."""
    if not config.data:
        return batches(config, *made_up(config.size))
    return batches(config, *pictures(f"{config.data}/cifar10_subset", "train", 32)[:2])


def finish(config, model, workdir):
    """Measures the accuracy on the test pictures."""
    if not config.data:
        return {"parameters": model.count_params()}
    folder = f"{config.data}/cifar10_subset"
    images, labels, _ = pictures(folder, "test", config.size)
    return {
        "parameters": model.count_params(),
        "accuracy, cifar10_subset test": accuracy(model, images, labels),
    }


def accuracy(model, images, labels) -> float:
    """Returns the share of pictures whose class has the highest score."""
    found = [
        keras.ops.convert_to_numpy(
            model.classify(images[start : start + 64].astype(np.float32))["labels"]
        )
        for start in range(0, len(images), 64)
    ]
    return round(float(np.mean(np.concatenate(found) == labels)), 4)
