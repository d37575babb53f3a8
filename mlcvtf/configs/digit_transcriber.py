"""A Transformer that reads strips of handwritten digits.

Vaswani et al., 2017, arXiv:1706.03762, with a small convolutional encoder, or a ViT
(arXiv:2010.11929) of patch 8 with `--config.encoder=vit`.

    apps/train --config=digit_transcriber --workdir=work/digit_transcriber

Trains on strips of 1 to 8 digits that are drawn anew for every batch from 6,300 digits
of mnist10k; 700 others are for validation. "whole strips right" is over 2,000 strips
of the set's test digits, which are the same in every run.

The digits are the 10,000 of MNIST's test set, split at random, so figures are not
comparable with those on MNIST.
"""

import keras
import numpy as np

from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.transcriber import Transcriber
from mlcvtf.data import digit_strips
from mlcvtf.data.digit_strips import DigitStrips
from mlcvtf.errors import InputError
from mlcvtf.layers.transformer_stacks import TransformerDecoder
from mlcvtf.training import options

HELD_OUT = 700
TEST_STRIPS = 2000
ENCODERS = ("convolutional", "vit")


def get_config():
    """Returns the recipe's settings."""
    return options.OPTIMIZER | {
        "data": "../shared/data",
        "seed": 0,
        "snapshot_epochs": 1000,
        "epochs": 40,
        "steps": 200,
        "batch_size": 32,
        "encoder": "convolutional",
        "channels": (32, 64, 128),
        "width": 128,
        "depth": 2,
        "heads": 4,
        "dropout": 0.1,
        "label_smoothing": 0.05,
        "learning_rate": 1e-3,
        "weight_decay": 0.02,
        "warmup_steps": 200,
        "clip_norm": 1.0,
        "test_strips": TEST_STRIPS,
        "beams": 1,
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic digits."""
    config.update(data="", epochs=1, steps=2, batch_size=4, channels=(4, 4, 8))
    config.update(width=16, depth=1, heads=2, warmup_steps=1, test_strips=4)


def build(config):
    """Builds the transcriber."""
    with options.precision(config.policy):
        decoder = TransformerDecoder(
            config.depth, config.heads, 4 * config.width, dropout=config.dropout
        )
        model = Transcriber(
            encoder(config),
            decoder,
            10,
            digit_strips.LENGTH,
            config.width,
            config.label_smoothing,
        )
    model.compile(options.optimizer(config, config.epochs * config.steps))
    return model


def encoder(config) -> keras.Model:
    """Builds what turns a strip into a map of stride 8.

    Raises:
        InputError: an unknown encoder.
    """
    if config.encoder == "vit":
        row = Variant(4, config.width, 4 * config.width, config.heads, 8)
        return vit(
            row,
            resolution=(digit_strips.HEIGHT, digit_strips.WIDTH),
            class_token=False,
            dropout=config.dropout,
        )
    if config.encoder != "convolutional":
        raise InputError(
            f"encoder is one of {', '.join(ENCODERS)}; received {config.encoder}"
        )
    x = images = keras.Input((None, None, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="normalisation")(x)
    for stage, channels in enumerate(config.channels):
        for part, stride in enumerate((2, 1)):
            name = f"stage{stage}_{part}"
            x = keras.layers.Conv2D(
                channels, 3, stride, padding="same", use_bias=False, name=name
            )(x)
            x = keras.layers.BatchNormalization(momentum=0.98, name=f"{name}_norm")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(images, {f"P{len(config.channels)}": x}, name="encoder")


def digits(config, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the digits of a part; without data, makes blobs of a size per digit.

    Args:
        config: with "data".
        part: "train", "validation" (the last `HELD_OUT` of the file "train") or "test".
    """
    if not config.data:
        labels = np.arange(10, dtype=np.int32)
        images = np.zeros((10, 28, 28), np.uint8)
        for label in labels:
            images[label, 12 - label : 16 + label, 8:20] = 255
        return images, labels
    file = "test" if part == "test" else "train"
    images, labels = digit_strips.load(f"{config.data}/mnist10k", file)
    if part == "train":
        return images[:-HELD_OUT], labels[:-HELD_OUT]
    chosen = slice(-HELD_OUT, None) if part == "validation" else slice(None)
    return images[chosen], labels[chosen]


def data(config):
    """Gives the training strips."""
    return DigitStrips(
        *digits(config, "train"), config.batch_size, config.steps, config.seed
    )


def validation(config):
    """Gives strips of held-out digits."""
    return DigitStrips(
        *digits(config, "validation"),
        config.batch_size,
        max(1, config.test_strips // 4 // config.batch_size),
        stream=digit_strips.TEST,
    )


def finish(config, model, workdir):
    """Measures the share of test strips of which every digit is right."""
    del workdir
    strips, wanted = digit_strips.make_strips(
        *digits(config, "test"), range(config.test_strips)
    )
    found = [
        keras.ops.convert_to_numpy(
            model.transcribe(
                strips[start : start + 100].astype(np.float32), config.beams
            )["labels"]
        )
        for start in range(0, len(strips), 100)
    ]
    right = np.all(np.concatenate(found) == wanted, axis=1)
    lengths = np.sum(wanted >= 0, axis=1)
    by_length = {
        f"whole strips right, {count} digits": round(
            float(right[lengths == count].mean()), 4
        )
        for count in np.unique(lengths).tolist()
    }
    return {
        "parameters": model.count_params(),
        "whole strips right": round(float(right.mean()), 4),
    } | by_length
