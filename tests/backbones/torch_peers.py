"""MobileNetV2, EfficientNet and RegNet in PyTorch; writes what they compute.

    .venv-peers/bin/python -m tests.backbones.torch_peers

stores goldens of torchvision and timm, for tests that run without them.
"""

# First of all: importing torch after TensorFlow has computed something ends in a
# segmentation fault.
import torch  # isort: skip
import numpy as np
import timm
import torchvision
import transformers

from mlcvtf.backbones.regnet import VARIANTS, stages
from mlcvtf.layers.normalisation import NORMALISATIONS
from tests.backbones import peers

# Modules of the peers that give levels P1 to P5, or the last convolution's maps.
MODULES = {
    ("efficientnet", "torchvision"): ["features.1", "features.2", "features.3",
                                      "features.5", "features.8"],
    ("efficientnet", "timm"): ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"],
    ("mobilenet_v2", "torchvision"): ["features.1", "features.3", "features.6",
                                      "features.13", "features.18"],
    ("mobilenet_v2", "timm"): ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"],
    ("regnet", "torchvision"): ["stem", *(
        f"trunk_output.block{i}" for i in range(1, 5))],
    ("regnet", "timm"): ["stem", "s1", "s2", "s3", "s4"],
    ("regnet", "hugging_face"): ["regnet.embedder", *(
        f"regnet.encoder.stages.{i}" for i in range(4))],
}


def build(source, name):
    """Builds a source's network in PyTorch."""
    if source == "torchvision":
        return torchvision.models.get_model(name).eval()
    if source == "timm":
        return timm.create_model(name).eval()
    rows = stages(VARIANTS[name])
    config = transformers.RegNetConfig(
        hidden_sizes=[row.width for row in rows],
        depths=[row.depth for row in rows],
        groups_width=VARIANTS[name].group_width,
        layer_type=name[6],
        num_labels=1000,
    )
    return transformers.RegNetForImageClassification(config).eval()


def load(peer, model, family, source):
    """Gives a peer a classifier's weights; returns the peer's arrays."""
    shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    arrays = peers.source_arrays(model, family, source, shapes)
    peer.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v))
                          for k, v in arrays.items()})
    return {k: v.numpy() for k, v in peer.state_dict().items()}


def outputs(peer, images, family, source):
    """Returns a peer's logits and maps, channels last."""
    mean, std, _ = NORMALISATIONS["mean_std"]
    x = ((images - np.array(mean)) / np.array(std)).astype("float32")
    maps, hooks = {}, []
    for level, name in enumerate(MODULES[family, source], 1):
        def keep(module, inputs, output, key=f"P{level}"):
            maps[key] = output.numpy().transpose(0, 2, 3, 1).copy()
        hooks.append(peer.get_submodule(name).register_forward_hook(keep))
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = peer(x.to(next(peer.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    logits = getattr(logits, "logits", logits)
    return {"logits": logits.numpy(), **maps}


def golden(family):
    """Computes what `golden` stores."""
    source, name = peers.GOLDEN[family]
    peer = build(source, name)
    load(peer, peers.classifier(family, source, name), family, source)
    return peers.summary(outputs(peer, peers.smooth(2, *peers.SIZE), family, source))


if __name__ == "__main__":
    peers.GOLDENS.mkdir(exist_ok=True)
    for key in peers.GOLDEN:
        np.savez_compressed(peers.GOLDENS / f"{key}.npz", **golden(key))
        print(key, (peers.GOLDENS / f"{key}.npz").stat().st_size, "bytes")
