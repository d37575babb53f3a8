"""Every variable of every ResNet has one name in each source, and only one."""

import keras
import pytest

from mlcvtf.backbones.resnet import VARIANTS, resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError
from mlcvtf.weights.name_map import carry
from mlcvtf.weights.resnet import ARCHITECTURES, SKIPPED, rules
from tests.backbones import resnet_weights


def torch_names(repeats, convolutions, squeeze, stem=""):
    """Yields the names that torchvision and timm give, and SENet's authors."""
    yield f"{stem}conv1.weight"
    yield from statistics(f"{stem}bn1")
    for stage, blocks in enumerate(repeats, 1):
        for block in range(blocks):
            start = f"layer{stage}.{block}."
            for i in range(1, convolutions + 1):
                yield f"{start}conv{i}.weight"
                yield from statistics(f"{start}bn{i}")
            for i in (1, 2) if squeeze else ():
                yield f"{start}{squeeze}.fc{i}.weight"
                yield f"{start}{squeeze}.fc{i}.bias"
            if block == 0 and (convolutions == 3 or stage > 1):
                yield f"{start}downsample.0.weight"
                yield from statistics(f"{start}downsample.1")
    head = "last_linear" if stem else "fc"
    yield from (f"{head}.{key}" for key in ("weight", "bias"))


def statistics(name):
    return (f"{name}.{key}" for key in
            ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("name", ARCHITECTURES["timm"])
def test_every_variable_has_one_name(name):
    variant, origin = ARCHITECTURES["timm"][name]
    with keras.StatelessScope(initialize_variables=False):
        model = ImageClassifier(resnet(variant, origin), 1000)
    row, legacy = VARIANTS[variant], origin == "senet"
    squeeze = ("se_module" if legacy else "se") if row.squeeze_ratio else None
    names = torch_names(row.repeats, 3 if row.bottleneck else 2, squeeze,
                        "layer0." if legacy else "")
    places = [resnet_weights.place(name, rules("timm", variant)) for name in names]
    found = [path for path in places if path is not None]
    assert sorted(found) == sorted(v.path for v in model.variables)


def test_a_network_of_another_depth_is_refused():
    model = resnet_weights.classifier("torchvision", "resnet18")
    shapes = {name: () for name in torch_names((2, 2, 2, 2), 2, None)
              if "num_batches" not in name}
    by_path = {v.path: v.shape for v in model.variables}
    own = rules("torchvision", "resnet18")
    shapes = {name: by_path[resnet_weights.place(name, own)] for name in shapes}
    shapes = {name: (shape[3], shape[2], *shape[:2]) if len(shape) == 4
              else tuple(reversed(shape)) for name, shape in shapes.items()}
    arrays = resnet_weights.source_arrays(model, shapes, "torchvision", "resnet18")
    arrays["layer1.2.conv1.weight"] = arrays["layer1.1.conv1.weight"]
    with pytest.raises(InputError, match=r"unexpected layer1.2.conv1.weight \(for"):
        carry(model, arrays, own, SKIPPED)
    del arrays["layer1.2.conv1.weight"], arrays["layer4.1.bn2.running_var"]
    missing = "missing stage4_block1/conv2_normalisation/moving_variance"
    with pytest.raises(InputError, match=missing):
        carry(model, arrays, own, SKIPPED)


def test_refuses_unknown_names():
    with pytest.raises(ValueError, match="source is one of keras, torchvision, timm"):
        rules("paddle", "resnet18")
    with pytest.raises(ValueError, match="variant is one of resnet18, .* 'resnet20'"):
        rules("timm", "resnet20")
