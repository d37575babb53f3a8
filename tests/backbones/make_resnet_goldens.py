"""Stores what torchvision and timm compute, for tests that run without them.

    .venv-peers/bin/python -m tests.backbones.make_resnet_goldens
"""

import pathlib

import numpy as np
import torch
import torchvision

from mlcvtf.layers.normalisation import NORMALISATIONS
from mlcvtf.weights.resnet import ARCHITECTURES
from tests.backbones import resnet_weights

FILE = pathlib.Path(__file__).parent / "goldens" / "resnet.npz"
SIZE = (75, 64)


def peer_of(source, name):
    """Builds a source's network with random weights."""
    if source == "torchvision":
        return torchvision.models.get_model(name).eval()
    if source == "timm":
        import timm

        return timm.create_model(name).eval()
    import transformers

    basic = name in ("resnet-18", "resnet-34")
    config = transformers.ResNetConfig(
        depths={"resnet-18": [2, 2, 2, 2]}.get(name, [3, 4, 6, 3]),
        layer_type="basic" if basic else "bottleneck",
        hidden_sizes=[64, 128, 256, 512] if basic else [256, 512, 1024, 2048],
        num_labels=1000,
    )
    return transformers.ResNetForImageClassification(config).eval()


def load(peer, model, source, variant):
    """Gives a peer a model's weights; returns the peer's arrays."""
    shapes = {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    arrays = resnet_weights.source_arrays(model, shapes, source, variant)
    peer.load_state_dict({k: torch.from_numpy(np.ascontiguousarray(v))
                          for k, v in arrays.items()})
    return {k: v.numpy() for k, v in peer.state_dict().items()}


def outputs(peer, images, source):
    """Returns a peer's logits and maps, channels last."""
    mean, std, _ = NORMALISATIONS["mean_std"]
    x = ((images - np.array(mean)) / np.array(std)).astype("float32")
    x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        if source == "hugging_face":
            result = peer(x, output_hidden_states=True)
            logits, maps = result.logits, result.hidden_states[1:]
        else:
            maps = []
            hooks = [getattr(peer, f"layer{i}").register_forward_hook(
                lambda _, __, output: maps.append(output)) for i in range(1, 5)]
            logits = peer(x)
            for hook in hooks:
                hook.remove()
    return {"logits": logits.numpy(),
            **{f"P{i + 2}": m.numpy().transpose(0, 2, 3, 1)
               for i, m in enumerate(maps)}}


def compute(variant):
    """Returns the numbers of a variant."""
    source, name = resnet_weights.GOLDEN[variant]
    peer = peer_of(source, name)
    model = resnet_weights.classifier(source, name)
    load(peer, model, source, ARCHITECTURES[source][name][0])
    images = resnet_weights.smooth(2, *SIZE)
    return resnet_weights.summary(outputs(peer, images, source))


def read():
    with np.load(FILE) as file:
        return dict(file)


if __name__ == "__main__":
    values = {f"{variant}/{key}": value for variant in resnet_weights.GOLDEN
              for key, value in compute(variant).items()}
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **values)
    print(FILE, FILE.stat().st_size, "bytes")
