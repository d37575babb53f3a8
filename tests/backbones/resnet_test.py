"""ResNet and its kin: published counts, parity with Keras, goldens of PyTorch's."""

import pathlib

import keras
import numpy as np
import pytest

from mlcvtf.backbones.resnet import VARIANTS, Variant, resnet, width_per_group
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.layers.grouped_convolution import GroupedConv2D
from mlcvtf.weights.name_map import carry
from mlcvtf.weights.resnet import ARCHITECTURES, rules
from tests.backbones import resnet_weights

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "resnet.npz"
# Trainable, with 1,000 classes: torchvision's documentation of its weights, timm's for
# SENet; the papers give none.
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "seresnet50": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnext50": 27_559_896,
}


def structure(*arguments, **options):
    """Builds a network whose variables have no values; the largest takes 0.5 GB."""
    with keras.StatelessScope(initialize_variables=False):
        return resnet(*arguments, **options)


def shapes(variant, **options):
    outputs = structure(variant, **options).output
    return {level: tuple(x.shape[1:]) for level, x in outputs.items()}


def filled(model):
    for variable in model.variables:
        variable.assign(resnet_weights.draw(variable.path, variable.shape))
    return model


@pytest.mark.parametrize("variant, origin", [
    *((variant, "torch") for variant in VARIANTS),
    ("resnet50", "paper"), ("seresnet50", "senet"), ("seresnext50", "senet"),
])
def test_parameters_are_the_published_ones(variant, origin):
    with keras.StatelessScope(initialize_variables=False):
        model = ImageClassifier(resnet(variant, origin), 1000)
    found = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert found == PUBLISHED[variant]


@pytest.mark.parametrize("name", [
    "resnet50",
    pytest.param("resnet101", marks=pytest.mark.slow),
    pytest.param("resnet152", marks=pytest.mark.slow),
])
def test_weights_of_keras_applications_give_equal_outputs(name):
    variant, _ = ARCHITECTURES["keras"][name]
    peer = getattr(keras.applications, name.replace("resnet", "ResNet"))(
        weights=None, classifier_activation=None, input_shape=(75, 64, 3)
    )
    model = resnet_weights.with_statistics(resnet_weights.classifier("keras", name))
    shapes = {v.path: v.shape for v in peer.variables}
    arrays = resnet_weights.source_arrays(model, shapes, "keras", variant)
    for variable in peer.variables:
        variable.assign(arrays[variable.path])
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    report = carry(model, arrays, rules("keras", variant))
    assert report.parameters == peer.count_params()
    ends = {f"P{stage + 2}": f"conv{stage + 2}_block{repeats}_out"
            for stage, repeats in enumerate(VARIANTS[variant].repeats)}
    peer = keras.Model(peer.input, {
        "logits": peer.output,
        **{level: peer.get_layer(end).output for level, end in ends.items()},
    })
    images = resnet_weights.smooth(2, 75, 64)
    prepared = keras.applications.resnet.preprocess_input(images.copy())
    expected = {k: np.asarray(v) for k, v in peer(prepared, training=False).items()}
    found = resnet_weights.outputs(model, images)
    assert resnet_weights.difference(found, expected) <= 1e-4


@pytest.mark.parametrize("variant", resnet_weights.GOLDEN)
def test_outputs_are_those_that_pytorch_gave(variant):
    with np.load(GOLDENS) as file:
        stored = {k.split("/")[1]: v for k, v in file.items() if variant in k}
    assert set(stored) == {"logits", "P2", "P3", "P4", "P5"}
    model = resnet_weights.classifier(*resnet_weights.GOLDEN[variant])
    found = resnet_weights.outputs(model, resnet_weights.smooth(2, 75, 64))
    assert resnet_weights.difference(resnet_weights.summary(found), stored) <= 1e-4


def test_levels_have_their_strides():
    assert shapes("resnet18", input_shape=(64, 96, 3)) == {
        "P2": (16, 24, 64), "P3": (8, 12, 128), "P4": (4, 6, 256), "P5": (2, 3, 512),
    }
    odd = {"P2": (19, 13, 256), "P3": (10, 7, 512), "P4": (5, 4, 1024),
           "P5": (3, 2, 2048)}
    assert shapes("resnext50_32x4d", input_shape=(75, 51, 3)) == odd
    model = resnet("resnet18", levels=("P1", "P5"))
    for height, width in ((75, 51), (33, 64), (1, 1)):
        maps = model(np.zeros((1, height, width, 3)))
        for level, stride in (("P1", 2), ("P5", 32)):
            assert maps[level].shape[1:3] == (-(-height // stride), -(-width // stride))


@pytest.mark.parametrize("total_stride, rates, level", [
    (32, [1, 1, 1, 1], "P5"), (16, [1, 1, 1, 2], "P4"), (8, [1, 1, 2, 4], "P3"),
])
def test_dilated_stages_begin_with_half_their_rate(total_stride, rates, level):
    model = structure("resnet50", total_stride=total_stride, input_shape=(64, 96, 3))
    assert level in model.output and (total_stride == 32 or len(model.output) == 1)
    assert model.output[level].shape[1:3] == (64 // total_stride, 96 // total_stride)
    for stage, rate in enumerate(rates):
        blocks = [model.get_layer(f"stage{stage + 1}_block{i}") for i in range(3)]
        assert [b.rate for b in blocks] == [max(1, rate // 2), rate, rate]
    assert structure("resnet50").count_params() == model.count_params()


def test_dilated_outputs_hold_the_plain_ones(monkeypatch):
    # Each strided 3x3 convolution computes every second of what it does without the
    # stride, and the ones behind it must step over the places in between.
    monkeypatch.setitem(VARIANTS, "short", Variant((1, 1, 2, 2), width=16))
    plain = filled(resnet("short", levels=("P5",)))
    images = resnet_weights.smooth(1, 96, 75)
    expected = {"P5": np.asarray(plain(images, training=False)["P5"])}
    for total_stride, level in ((16, "P4"), (8, "P3")):
        dilated = resnet("short", total_stride=total_stride)
        dilated.set_weights(plain.get_weights())
        fine = np.asarray(dilated(images, training=False)[level])
        assert fine.shape[1:3] == (96 // total_stride, -(-75 // total_stride))
        step = 32 // total_stride
        found = {"P5": fine[:, ::step, ::step]}
        assert resnet_weights.difference(found, expected) <= 1e-5


def test_small_images_keep_their_size():
    found = shapes("resnet18", small_images=True, input_shape=(32, 32, 3))
    assert found == {"P0": (32, 32, 64), "P1": (16, 16, 128), "P2": (8, 8, 512)}
    small = structure("resnet18", small_images=True, levels=("P2",))
    assert list(small.output) == ["P2"]
    assert small.get_layer("stem").kernel.shape == (3, 3, 3, 64)


def test_zero_gamma_starts_every_block_as_its_shortcut():
    model = resnet("resnet18", zero_gamma=True)
    for stage, repeats in enumerate(VARIANTS["resnet18"].repeats):
        for repeat in range(1, repeats):
            block = model.get_layer(f"stage{stage + 1}_block{repeat}")
            x = np.abs(np.random.default_rng(0).normal(size=(1, 3, 3, block.filters)))
            np.testing.assert_allclose(block(x), x, rtol=1e-6)
    for zero_gamma in (True, False):
        model = structure("seresnext50", zero_gamma=zero_gamma)
        assert model.get_layer("stage3_block5").zero_gamma is zero_gamma


@pytest.mark.parametrize("origin, strides", [
    ("torch", (1, 2)), ("paper", (2, 1)), ("keras", (2, 1)), ("senet", (2, 1)),
])
def test_strides_are_where_the_source_has_them(origin, strides):
    block = structure("resnet50", origin).get_layer("stage2_block0")
    layers = {layer.name: layer for layer in block.branch}
    assert (layers["conv1"].strides[0], layers["conv2"].strides[0]) == strides
    model = structure("resnext50_32x4d", "senet")
    grouped = model.get_layer("stage2_block0").branch[3]
    assert isinstance(grouped, GroupedConv2D) and grouped.strides == (2, 2)


def test_group_width_is_the_papers():
    # Table 2 of Xie et al.
    found = [width_per_group(groups) for groups in (1, 2, 4, 8, 32)]
    assert found == [64, 40, 24, 14, 4]

    def cost(groups, width):
        return groups * (2 * 256 * width + 9 * width**2)

    for groups in range(1, 65):
        width = width_per_group(groups)
        assert width == min(range(1, 100),
                            key=lambda d: abs(cost(groups, d) - cost(1, 64)))  # noqa: B023
    with pytest.raises(ValueError, match="at least 1, received 0, 256 and 64"):
        width_per_group(0)


def test_frozen_backbone_keeps_its_statistics():
    model = resnet("resnet18", input_shape=(32, 32, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3))
    model.trainable = False
    before = model.get_weights()
    model(images, training=True)
    assert all(map(np.array_equal, before, model.get_weights()))
    model.trainable = True
    model(images, training=True)
    assert not all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("options, message", [
    ({"variant": "50"}, "variant is one of resnet18, resnet34, .*, received '50'"),
    ({"origin": "caffe"}, "origin is one of torch, paper, keras, senet, received"),
    ({"total_stride": 4}, "total_stride is 8, 16 or 32, received 4"),
    ({"total_stride": 8, "small_images": True}, "small images is not dilated"),
    ({"input_shape": (32, 32, 1)}, r"\(height, width, 3\), received \(32, 32, 1\)"),
    ({"levels": ("P6",)}, r"some of P1, P2, P3, P4, P5, received \('P6',\)"),
    ({"normalisation": "imagenet"}, "normalisation is one of caffe"),
])
def test_refuses_what_it_cannot_build(options, message):
    with pytest.raises(ValueError, match=message):
        structure(**options)
