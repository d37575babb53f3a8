"""The published parameter counts of all networks, without making their weights."""

import importlib.util
import math

import keras
import pytest

from mlcvtf.classification.networks import NETWORKS, build

# Trainable parameters with 1,000 classes: of torchvision, timm, Keras Applications and
# facenet-pytorch; GoogLeNet's by the paper's table without auxiliary heads.
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "seresnet50": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnext50": 27_559_896,
    "inception_v1": 6_998_552,
    "inception_resnet_v1": 23_995_624,
    "inception_resnet_v2": 55_843_464,
    "mobilenet_v2": 3_504_872,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "regnetx_200mf": 2_684_792,
    "regnetx_400mf": 5_157_512,
    "regnety_400mf": 4_344_144,
    "regnety_800mf": 6_263_168,
    "regnety_8gf": 39_180_068,
    "regnety_32gf": 145_046_770,
    "darknet53": 41_609_928,
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
}


def needs(name):
    """Skips a test whose family is not in this checkout."""
    family = f"mlcvtf.backbones.{NETWORKS[name].family}"
    if importlib.util.find_spec(family) is None:
        pytest.skip(f"{family} is not there")


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name):
    needs(name)
    with keras.StatelessScope(initialize_variables=False):
        model = build(name)
        if not model.built:
            side = NETWORKS[name].size
            model(keras.KerasTensor((1, side, side, 3)))
        found = sum(math.prod(w.shape) for w in model.trainable_weights)
    keras.utils.clear_session()
    assert found == PUBLISHED[name]


def test_wide_resnet_with_ten_classes():
    needs("wrn28_10")
    with keras.StatelessScope(initialize_variables=False):
        model = build("wrn28_10", classes=10)
        found = sum(math.prod(w.shape) for w in model.trainable_weights)
    keras.utils.clear_session()
    assert found == 36_479_194


def test_every_name_of_the_plan_is_there():
    assert set(PUBLISHED) | {"wrn28_10"} <= set(NETWORKS)
    assert len([name for name in NETWORKS if name.startswith("regnet")]) == 24


def test_a_network_has_real_weights_outside_of_a_scope():
    model = build("mobilenet_v2", classes=5)
    assert model.name == "mobilenet_v2" and model.head.units == 5
    assert keras.ops.convert_to_numpy(model.head.kernel).std() > 0


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="one of resnet18, .*vit_h14, received alex"):
        build("alex")
