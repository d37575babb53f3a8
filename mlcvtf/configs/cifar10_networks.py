r"""The families' small forms on 9,000 CIFAR-10 pictures of 32 pixels, one at a time.

    apps/train --config=cifar10_networks --config.network=resnet_32_64_128 \
        --workdir=work/cifar10_networks/resnet_32_64_128

`NETWORKS` lists them: residual networks (He et al., 2016, arXiv:1512.03385, section
4.2, plain, with squeeze and excitation, with groups of equal cost), a wide one
(Zagoruyko and Komodakis, 2016, arXiv:1605.07146), MobileNetV2, RegNetY-200MF and
ViT-Ti with patches of 4 pixels, each with the optimizer and rate that suit its kind.
900 of the training pictures are never trained on and are there for choices; the test
pictures are scored once, at the end, as they are (one view).

The pictures are a subset of CIFAR-10 (Krizhevsky, 2009) as JPEG, so the accuracy is not
comparable with published ones. No figure has been reached yet.
"""

import keras
import numpy as np

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.backbones.regnet import regnet
from mlcvtf.backbones.resnet import width_per_group
from mlcvtf.backbones.small_resnet import small_resnet, wide_resnet
from mlcvtf.backbones.vit import vit
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.configs.cifar10_classifier import accuracy, made_up, pictures
from mlcvtf.data.class_pictures import ClassPictures
from mlcvtf.training import options

CLASSES = 10
# Optimizer, learning rate and weight decay.
CONVOLUTIONAL = ("momentum", 0.1, 5e-4)
LIGHT = ("adamw", 3e-3, 0.05)


def _grouped(groups):
    """Builds a ResNet-20 of bottlenecks, G groups at the cost of one."""
    width = width_per_group(groups, 64, 16)
    return small_resnet(
        repeats=2, expansion=4, groups=groups, group_width=width, momentum=0.9
    )


# Name to the backbone's builder and the settings above.
NETWORKS = {
    "resnet_32_64_128": (lambda: small_resnet((32, 64, 128)), CONVOLUTIONAL),
    "resnet20": (small_resnet, CONVOLUTIONAL),
    # A ratio of 16 leaves one channel of sixteen.
    "seresnet20": (lambda: small_resnet(squeeze_ratio=4), CONVOLUTIONAL),
    **{
        f"resnext20_g{groups}": (lambda groups=groups: _grouped(groups), CONVOLUTIONAL)
        for groups in (1, 2, 4, 8)
    },
    "wrn16_4": (lambda: wide_resnet(16, 4), CONVOLUTIONAL),
    # A few thousand steps are too few for averages over a thousand.
    "mobilenet_v2": (lambda: mobilenet_v2(small_images=True, momentum=0.97), LIGHT),
    "regnety_200mf": (
        lambda: regnet("regnety_200mf", small_images=True),
        CONVOLUTIONAL,
    ),
    "vit_ti4": (
        lambda: vit("ti16", patch=4, resolution=32, dropout=0.1),
        ("adamw", 1e-3, 0.05),
    ),
}

# Depthwise convolutions take 2.5 times as long in bfloat16, attention as long as in
# float32; the others take 0.6 to 0.8 of it on a processor that multiplies bfloat16.
FLOAT32 = ("mobilenet_v2", "vit_ti4")


def get_config():
    """Returns the recipe's settings."""
    return {
        "data": "../shared/data",
        "network": "resnet_32_64_128",
        "seed": 0,
        "snapshot_epochs": 1000,
        "epochs": 20,
        "held_out": 900,
        # An epoch is a pass over the other 8,100.
        "batch_size": 64,
        "steps": 126,
        # Empty and negative: what the network has in `NETWORKS`.
        "optimizer": "",
        "learning_rate": -1.0,
        "weight_decay": -1.0,
        "label_smoothing": 0.1,
        "area": 0.5,
        "colour": 0.3,
        # Empty: float32 for `FLOAT32`, mixed_bfloat16 for the others.
        "policy": "",
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic pictures."""
    config.update(
        data="", network="resnet20", epochs=1, batch_size=4, steps=4, held_out=4
    )


def build(config):
    """Builds the classifier."""
    options.one_of("network", config.network, NETWORKS)
    make, (kind, rate, decay) = NETWORKS[config.network]
    usual = "float32" if config.network in FLOAT32 else "mixed_bfloat16"
    policy = config.policy or usual
    with options.precision(policy):
        model = ImageClassifier(make(), CLASSES, label_smoothing=config.label_smoothing)
    kind = config.optimizer or kind
    rate = config.learning_rate if config.learning_rate > 0 else rate
    decay = config.weight_decay if config.weight_decay >= 0 else decay
    steps = config.steps * config.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.001, warmup_target=rate, warmup_steps=max(1, steps // 20)
    )
    model.compile(options.scale_loss(optimizer(kind, schedule, decay), policy))
    return model


def optimizer(kind: str, rate, decay: float) -> keras.optimizers.Optimizer:
    """Makes an optimizer whose weights decay apart from the gradient.

    Args:
        kind: "momentum" (Nesterov's, of 0.9), "adamw", or "adam", which has no decay.
        rate: learning rate or its schedule.
        decay: of the weights, times the rate.
    """
    options.one_of("optimizer", kind, ("momentum", "adam", "adamw"))
    if kind == "momentum":
        return keras.optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=decay
        )
    return keras.optimizers.AdamW(
        rate, weight_decay=decay if kind == "adamw" else 0.0, clipnorm=5.0
    )


def parts(config):
    """Reads the training pictures; returns what is trained on and what is not."""
    if config.data:
        images, labels, _ = pictures(f"{config.data}/cifar10_subset", "train", 32)
    else:
        images, labels = made_up(32)
    # One order for all seeds: the pictures for choices are always the same.
    order = np.random.default_rng(0).permutation(len(images))
    held, used = order[: config.held_out], order[config.held_out :]
    return (images[used], labels[used]), (images[held], labels[held])


def data(config):
    """Gives the changed training pictures."""
    (images, labels), _ = parts(config)
    return ClassPictures(
        images,
        labels,
        32,
        config.batch_size,
        config.steps,
        config.area,
        config.colour,
        seed=config.seed,
    )


def finish(config, model, workdir):
    """Measures the accuracy on the pictures held out and on the test pictures."""
    figures = {
        "parameters": sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    }
    figures["accuracy, held out"] = accuracy(model, *parts(config)[1])
    if config.data:
        images, labels, _ = pictures(f"{config.data}/cifar10_subset", "test", 32)
        figures["accuracy, cifar10_subset test"] = accuracy(model, images, labels)
    return figures
