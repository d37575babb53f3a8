"""Writes what torchvision's and timm's networks compute with seeded weights.

    .venv-peers/bin/python -m tests.weights.make_inception_goldens

The tests compare our networks with these numbers where PyTorch is not installed.
"""

import importlib.util
import pathlib

# PyTorch's compiler, which torchvision imports, hangs when TensorFlow was there first.
if importlib.util.find_spec("torchvision"):
    import torchvision  # isort: skip
import numpy as np

from mlcvtf.backbones.darknet import darknet
from mlcvtf.backbones.inception import inception_v1
from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights import darknet as darknet_weights
from mlcvtf.weights import inception as inception_weights
from mlcvtf.weights import inception_resnet as inception_resnet_weights
from mlcvtf.weights import name_map
from tests.weights import peers

GOLDENS = pathlib.Path(__file__).parent.parent / "backbones" / "goldens"
CLASSES = 32
# Makes our network; the pictures' height and width.
NETWORKS = {
    "inception": (lambda: inception_v1("torchvision"), (90, 101)),
    "inception_resnet": (
        lambda: inception_resnet("v2", "timm", repeats=(1, 1, 1)), (107, 139)
    ),
    "darknet": (lambda: darknet("17", 0.01, normalisation="mean_std"), (70, 91)),
}


def ours(name):
    """Returns our classifier with seeded weights, and pictures."""
    build, size = NETWORKS[name]
    model = ImageClassifier(build(), CLASSES)
    peers.fill(model)
    return model, peers.smooth_pictures(2, *size)


def peer_of(name):
    """Returns the peer, its rules, the skipped names and a map of its pictures."""
    import timm
    import torch

    if name == "inception":
        network = torchvision.models.googlenet(
            weights=None, init_weights=False, aux_logits=False, num_classes=CLASSES
        )
        rules = inception_weights.torchvision_rules()
        return network, rules, lambda x: x / 127.5 - 1
    if name == "inception_resnet":
        network = timm.create_model("inception_resnet_v2", num_classes=CLASSES)
        for part in ("repeat", "repeat_1", "repeat_2"):
            first = getattr(network, part)[0]
            setattr(network, part, torch.nn.Sequential(first))
        return network, inception_resnet_weights.timm_rules(), lambda x: x / 127.5 - 1
    network = timm.create_model("darknet17", num_classes=CLASSES)
    mean = np.array([123.675, 116.28, 103.53], "float32")
    deviation = np.array([58.395, 57.12, 57.375], "float32")
    return network, darknet_weights.timm_rules(), lambda x: (x - mean) / deviation


def golden(name):
    """Computes the peer's logits, float32 `[2, 32]`."""
    network, rules, normalise = peer_of(name)
    model, images = ours(name)
    skipped = (r".*\.num_batches_tracked",)
    report = name_map.carry(model, peers.arrays(network), rules, skipped)
    peers.fill_peer(network, report.loaded)
    logits, _ = peers.maps(network, peers.to_torch(normalise(images)), [])
    return logits


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for key in NETWORKS:
        np.savez_compressed(GOLDENS / f"{key}.npz", logits=golden(key))
        print(key, (GOLDENS / f"{key}.npz").stat().st_size, "bytes")
