"""torchvision's GoogLeNet and ours are one network; so is the paper's, made of it."""

import numpy as np
import pytest

from mlcvtf.backbones.inception import inception_v1
from mlcvtf.classification.inception_classifier import InceptionClassifier
from mlcvtf.errors import InputError
from mlcvtf.layers.auxiliary_head import AuxiliaryHead
from mlcvtf.weights import inception, name_map
from mlcvtf.weights.name_map import Rule
from tests.weights import peers

LEVELS = {"P1": "conv1", "P2": "conv3", "P3": "inception3b", "P4": "inception4e",
          "P5": "inception5b"}


def googlenet(**options):
    models = pytest.importorskip("torchvision").models
    return models.googlenet(
        weights=None, init_weights=False, aux_logits=True, num_classes=10, **options
    )


def logits_of_heads(peer, inputs):
    """Returns what the auxiliary heads give on the maps at inference."""
    import torch

    _, maps = peers.maps(peer, inputs, ["inception4a", "inception4d"])
    with torch.no_grad():
        return [head(peers.to_torch(x)).numpy()
                for head, x in zip((peer.aux1, peer.aux2), maps.values(), strict=True)]


@pytest.mark.peer
@pytest.mark.parametrize("size", [(96, 128), (101, 75)])
def test_equals_torchvision(size):
    images = peers.smooth_pictures(2, *size)
    inputs = peers.to_torch(images / 127.5 - 1)
    peer = googlenet()
    peers.settle(peer, inputs)
    model = inception.torchvision_classifier(10)
    rules = inception.torchvision_rules()
    report = name_map.carry(model, peers.arrays(peer), rules, inception.SKIPPED)
    assert all(name.endswith("tracked") for name in report.skipped)
    logits, expected = peers.maps(peer, inputs, LEVELS.values())
    maps = model.backbone(images, training=False)
    for level, name in LEVELS.items():
        assert peers.difference(maps[level], expected[name]) <= 1e-4
    found = model(images, training=False)
    assert peers.difference(found["logits"], logits) <= 1e-4
    # The first training pass updated the heads' statistics as well.
    heads = logits_of_heads(peer, inputs)
    for (tap, head), one in zip(model.heads.items(), heads, strict=True):
        assert peers.difference(head(found[tap], training=False), one) <= 1e-4
    plain = inception.torchvision_classifier(10, auxiliary=False)
    name_map.carry(plain, peers.arrays(peer), rules, inception.SKIPPED_HEADS)
    assert peers.difference(plain(images, training=False)["logits"], logits) <= 1e-4
    with pytest.raises(InputError, match="unexpected aux1"):
        name_map.carry(plain, peers.arrays(peer), rules, inception.SKIPPED)


def papers_network():
    """Rebuilds torchvision's network as the paper has it, for sizes 64 i."""
    import torch
    from torchvision.models.googlenet import Inception, InceptionAux

    class Convolution(torch.nn.Module):
        def __init__(self, channels, filters, **options):
            super().__init__()
            self.conv = torch.nn.Conv2d(channels, filters, **options)

        def forward(self, x):
            return torch.relu(self.conv(x))

    def module(*arguments):
        made = Inception(*arguments, conv_block=Convolution)
        made.branch3[1] = Convolution(*arguments[4:6], kernel_size=5, padding=2)
        return made

    def head(*arguments, **options):
        return InceptionAux(*arguments, conv_block=Convolution, **options)

    peer = googlenet(blocks=[Convolution, module, head])
    # SAME of TensorFlow: a 7x7 kernel with stride 2 lacks five rows, three at the end.
    peer.conv1.conv.padding = 0
    peer.conv1 = torch.nn.Sequential(torch.nn.ZeroPad2d((2, 3, 2, 3)), peer.conv1)
    # PyTorch divides its alpha by the size.
    response = torch.nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
    peer.maxpool1 = torch.nn.Sequential(peer.maxpool1, response)
    peer.maxpool2 = torch.nn.Sequential(response, peer.maxpool2)
    peer.maxpool4 = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
    return peer


@pytest.mark.peer
def test_the_papers_network_equals_one_made_of_torchvisions():
    pytest.importorskip("torchvision")
    peer = papers_network()
    names = [n for n in peer.state_dict() if n.endswith((".conv.weight", ".conv.bias"))]
    assert len(names) == 2 * 59
    heads = {tap: AuxiliaryHead(10, name=f"auxiliary{number}")
             for number, tap in enumerate(inception.AUXILIARY, start=1)}
    model = InceptionClassifier(inception_v1(), 10, heads=heads, windows="adaptive")
    rules = [
        Rule(rule.pattern.replace(r"conv([123])\.", r"conv([123])\.(?:1\.)?"),
             rule.target, rule.layout)
        for rule in inception.torchvision_rules()
    ]
    biases = [Rule(rule.pattern.replace(r"conv\.weight", r"conv\.bias"),
                   rule.target.replace("kernel", "bias"))
              for rule in rules if rule.layout == "convolution"]
    loaded = name_map.carry(model, peers.arrays(peer), rules + biases).loaded
    peers.fill(model)
    peers.fill_peer(peer, loaded)
    images = peers.smooth_pictures(2, 128, 64)
    mean = np.array([123.675, 116.28, 103.53], "float32")
    logits, expected = peers.maps(
        peer, peers.to_torch(images - mean), LEVELS.values()
    )
    maps = model.backbone(images, training=False)
    assert peers.difference(maps["P1"], expected["conv1"]) <= 1e-4
    for level, name in LEVELS.items():
        if level not in ("P1", "P2"):
            assert peers.difference(maps[level], expected[name]) <= 1e-4
    found = model(images, training=False)
    assert peers.difference(found["logits"], logits) <= 1e-4
    ours = [head(found[tap]) for tap, head in model.heads.items()]
    theirs = logits_of_heads(peer, peers.to_torch(images - mean))
    for one, other in zip(ours, theirs, strict=True):
        assert peers.difference(one, other) <= 1e-4
