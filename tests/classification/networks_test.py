"""The published parameter counts of all networks, without making their weights."""

import math

import keras
import pytest

from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.classification.classifier import ImageClassifier
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
    # As Keras counts, like the authors' release without gammas; with them below.
    "inception_resnet_v2": 55_813_192,
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
    "regnetx_400mf_torchvision": 5_495_976,
    "regnety_800mf_torchvision": 6_432_512,
    "regnety_8gf_torchvision": 39_381_472,
    "darknet53": 41_609_928,
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
}


# Of every family those that are soon built; the rest is slow by its number.
SOON = ("resnet18", "resnet50", "seresnext50", "inception_v1", "mobilenet_v2",
        "efficientnet_b0", "regnetx_200mf", "regnety_400mf", "darknet53", "vit_ti16",
        "vit_h14")


@pytest.mark.parametrize("name", [
    name if name in SOON else pytest.param(name, marks=pytest.mark.slow)
    for name in PUBLISHED])
def test_parameters_are_the_published_ones(name):
    with keras.StatelessScope(initialize_variables=False):
        model = build(name)
        found = sum(math.prod(w.shape) for w in model.trainable_weights)
    keras.utils.clear_session()
    assert found == PUBLISHED[name]


@pytest.mark.slow
def test_inception_resnet_v2_with_gammas():
    with keras.StatelessScope(initialize_variables=False):
        model = ImageClassifier(inception_resnet("v2", "timm"), 1000)
        found = sum(math.prod(w.shape) for w in model.trainable_weights)
    keras.utils.clear_session()
    assert found == 55_843_464


def test_wide_resnet_with_ten_classes():
    with keras.StatelessScope(initialize_variables=False):
        model = build("wrn28_10", classes=10)
        found = sum(math.prod(w.shape) for w in model.trainable_weights)
    keras.utils.clear_session()
    assert found == 36_479_194


def test_every_name_of_the_plan_is_there():
    assert set(PUBLISHED) | {"wrn28_10"} <= set(NETWORKS)
    assert len([name for name in NETWORKS if name.startswith("regnet")]) == 24 + 3


def test_a_network_has_real_weights_outside_of_a_scope():
    model = build("mobilenet_v2", classes=5)
    assert model.name == "mobilenet_v2" and model.head.units == 5
    assert keras.ops.convert_to_numpy(model.head.kernel).std() > 0


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="one of resnet18, .*vit_h14, received alex"):
        build("alex")
