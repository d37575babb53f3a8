"""MobileNetV2, EfficientNet and RegNet equal torchvision, timm and Hugging Face."""

import numpy as np
import pytest

for package in ("torchvision", "timm", "transformers"):
    pytest.importorskip(package, reason="needs PyTorch's packages (the extra peers)")

from mlcvtf.weights.name_map import carry  # noqa: E402
from tests.backbones import peers, torch_peers  # noqa: E402

pytestmark = pytest.mark.peer

QUICK = [
    ("efficientnet", "torchvision", "efficientnet_b0"),
    ("efficientnet", "torchvision", "efficientnet_b5"),
    ("efficientnet", "timm", "efficientnet_b0"),
    ("efficientnet", "timm", "tf_efficientnet_b0"),
    ("mobilenet_v2", "torchvision", "mobilenet_v2"),
    ("mobilenet_v2", "timm", "mobilenetv2_140"),
    ("regnet", "torchvision", "regnet_x_400mf"),
    ("regnet", "torchvision", "regnet_y_800mf"),
    ("regnet", "timm", "regnetx_002"),
    ("regnet", "timm", "regnety_002"),
    ("regnet", "hugging_face", "regnetx_200mf"),
    ("regnet", "hugging_face", "regnety_400mf"),
]
SLOW = [(family, source, name) for family, module in peers.FAMILIES.items()
        for source, names in module.ARCHITECTURES.items() for name in names
        if source != "keras" and (family, source, name) not in QUICK]


@pytest.mark.parametrize("family, source, name", [
    *QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_carried_weights_give_equal_outputs(family, source, name):
    module, peer = peers.FAMILIES[family], torch_peers.build(source, name)
    # Momentum 0: one training pass gives the statistics.
    options = {"drop_rate": 0.0} if family == "efficientnet" else {}
    model = peers.classifier(family, source, name, momentum=0.0, **options)
    # Under such statistics PyTorch's B5 in single precision is 9.5e-4 from itself in
    # double precision, so that the deep ones keep the random ones (variances of 0.5 to
    # 1.5, under which a wrong epsilon is seen as well).
    if family != "efficientnet" or name.endswith("b0"):
        peers.with_statistics(model)
    state = torch_peers.load(peer, model, family, source)
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    report = carry(model, state, module.rules(source), module.SKIPPED[source])
    assert report.parameters == sum(np.size(v) for v in map(np.asarray, model.weights))
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
    assert trainable == sum(p.numel() for p in peer.parameters())
    # In double precision, so that what is measured is our error and not the sum of
    # both: RegNetY-6.4GF is 6.7e-5 from it, PyTorch in single precision 5.5e-5, and
    # they are 1.1e-4 from each other.
    peer.double()
    for size in ((64, 96), (75, 91)):
        images = peers.smooth(2, *size)
        expected = torch_peers.outputs(peer, images, family, source)
        gap = peers.difference(peers.outputs(model, images), expected)
        print(f"{source} {name} {size} {trainable} {gap:.1e}")
        assert gap <= peers.BIGGEST


@pytest.mark.parametrize("family", peers.GOLDEN)
def test_goldens_are_the_peers(family):
    stored = peers.golden(family)
    for key, value in torch_peers.golden(family).items():
        np.testing.assert_allclose(stored[key], value, rtol=1e-4,
                                   atol=1e-5 * np.abs(value).max())
