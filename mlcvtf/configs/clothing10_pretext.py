"""A backbone from clothing pictures without their labels: which way is up?

Gidaris, Singh, Komodakis, 2018, "Unsupervised Representation Learning by Predicting
Image Rotations", arXiv:1803.07728: the network tells by how many quarters a picture was
turned. Different from the paper: one turn per picture and batch instead of all four,
and colours are changed, so that lighting says nothing about up and down.

    apps/train --config=clothing10_pretext --workdir=work/clothing10_pretext

All 3,068 training pictures of clothing10 (CC0) are seen and no label is used. Reached:
80.1 % of the turns of val are told right, after 110,592 pictures.
"""

import numpy as np

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.configs import cifar10_classifier
from mlcvtf.configs.cifar10_classifier import smoke

__all__ = ["build", "data", "finish", "get_config", "smoke"]

TURNS = 4


def get_config():
    """Returns the recipe's settings."""
    return cifar10_classifier.get_config() | {
        "epochs": 36,
        "steps": 48,
        "label_smoothing": 0.0,
    }


def build(config):
    """Builds the classifier of turns."""
    model = ImageClassifier(
        cifar10_classifier.backbone(config),
        TURNS,
        config.dropout,
        config.label_smoothing,
    )
    model.compile(cifar10_classifier.optimizer(config))
    return model


def data(config):
    """Gives turned pictures."""
    if not config.data:
        images, labels = cifar10_classifier.made_up(config.size)
    else:
        folder = f"{config.data}/clothing10"
        images, labels, _ = cifar10_classifier.pictures(folder, "train", 96)
    return cifar10_classifier.batches(config, images, labels, turns=True)


def finish(config, model, workdir):
    """Measures the share of right turns on pictures that were not trained on."""
    if not config.data:
        return {"parameters": model.count_params()}
    folder = f"{config.data}/clothing10"
    images, labels, _ = cifar10_classifier.pictures(folder, "val", config.size)
    right = [
        cifar10_classifier.accuracy(
            model, np.rot90(images, turn, axes=(1, 2)), np.full_like(labels, turn)
        )
        for turn in range(TURNS)
    ]
    return {
        "parameters": model.count_params(),
        "accuracy of turns, clothing10 val": round(float(np.mean(right)), 4),
    }
