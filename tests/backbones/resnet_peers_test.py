"""ResNet's weights from torchvision, timm and Hugging Face give the same outputs."""

import numpy as np
import pytest

from mlcvtf.backbones.resnet import resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights.name_map import carry
from mlcvtf.weights.resnet import ARCHITECTURES, SKIPPED, rules
from tests.backbones import resnet_weights

for package in ("torchvision", "timm", "transformers"):
    pytest.importorskip(package, reason="needs PyTorch's packages (the extra peers)")

from tests.backbones import make_resnet_goldens  # noqa: E402

pytestmark = pytest.mark.peer

NAMES = [
    *(("torchvision", name) for name in ARCHITECTURES["torchvision"]),
    *(("timm", name) for name in ARCHITECTURES["timm"] if "se" in name),
    ("timm", "resnet50"),
    *(("hugging_face", name) for name in ("resnet-18", "resnet-50")),
]


@pytest.mark.parametrize("source, name", NAMES)
def test_carried_weights_give_equal_outputs(source, name):
    variant, _ = ARCHITECTURES[source][name]
    peer = make_resnet_goldens.peer_of(source, name)
    model = resnet_weights.with_statistics(resnet_weights.classifier(source, name))
    state = make_resnet_goldens.load(peer, model, source, variant)
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    report = carry(model, state, rules(source, variant), SKIPPED)
    assert report.parameters == sum(v.size for v in map(np.asarray, model.variables))
    for size in ((64, 96), (75, 91)):
        images = resnet_weights.smooth(2, *size)
        expected = make_resnet_goldens.outputs(peer, images, source)
        found = resnet_weights.outputs(model, images)
        gap = resnet_weights.difference(found, expected)
        print(f"{source} {name} {size} {report.parameters} {gap:.1e}")
        assert gap <= 1e-4


@pytest.mark.parametrize("total_stride", [16, 8])
def test_dilated_equals_torchvision(total_stride):
    level = {16: "P4", 8: "P3"}[total_stride]
    peer = make_resnet_goldens.torchvision.models.resnet50(
        replace_stride_with_dilation=[False, total_stride == 8, True]
    ).eval()
    model = ImageClassifier(resnet("resnet50", total_stride=total_stride), 1000)
    for variable in model.variables:
        variable.assign(resnet_weights.draw(variable.path, variable.shape))
    make_resnet_goldens.load(peer, model, "torchvision", "resnet50")
    images = resnet_weights.smooth(2, 75, 64)
    expected = make_resnet_goldens.outputs(peer, images, "torchvision")["P5"]
    found = np.asarray(model.backbone(images, training=False)[level])
    assert resnet_weights.difference({level: found}, {level: expected}) <= 1e-4


@pytest.mark.parametrize("variant", resnet_weights.GOLDEN)
def test_goldens_are_the_peers(variant):
    stored = make_resnet_goldens.read()
    for key, value in make_resnet_goldens.compute(variant).items():
        np.testing.assert_allclose(stored[f"{variant}/{key}"], value, rtol=1e-4,
                                   atol=1e-5 * np.abs(value).max())
