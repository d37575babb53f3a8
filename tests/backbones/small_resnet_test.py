"""Residual networks for small pictures: counts, shapes and the order of WRN."""

import keras
import numpy as np
import pytest

from mlcvtf.backbones.resnet import width_per_group
from mlcvtf.backbones.small_resnet import small_resnet, wide_resnet
from mlcvtf.classification.classifier import ImageClassifier


def trainable(build):
    with keras.StatelessScope(initialize_variables=False):
        model = ImageClassifier(build(), 10)
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("build, count", [
    # Zagoruyko and Komodakis give 36.5 M, their release 36,479,194; table 4's other
    # rows are rounded.
    (wide_resnet, 36_479_194),
    # He et al., table 6: 0.27 M, 0.46 M and 0.85 M; by hand from section 4.2.
    (lambda: small_resnet(shortcut="padding"), 269_722),
    (lambda: small_resnet(shortcut="padding", repeats=5), 464_154),
    (lambda: small_resnet(shortcut="padding", repeats=9), 853_018),
])
def test_parameters_are_the_published_ones(build, count):
    assert trainable(build) == count


@pytest.mark.parametrize("depth, width, millions", [
    (16, 8, 11.0), (40, 4, 8.9), (22, 8, 17.2), (40, 8, 35.7), (28, 12, 52.5),
])
def test_parameters_are_those_of_table_4(depth, width, millions):
    found = trainable(lambda: wide_resnet(depth, width)) / 1e6
    assert found == pytest.approx(millions, abs=0.08)


def test_projections_cost_their_convolutions():
    more = trainable(small_resnet) - trainable(lambda: small_resnet(shortcut="padding"))
    assert more == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize("build, channels", [
    (lambda: small_resnet((8, 16, 32), 1), (8, 16, 32)),
    (lambda: small_resnet((4, 8, 16), 1, expansion=4, groups=2), (16, 32, 64)),
    (lambda: wide_resnet(10, 2), (32, 64, 128)),
])
def test_levels_have_their_strides(build, channels):
    model = build()
    for height, width in ((32, 32), (17, 30), (1, 1)):
        maps = model(np.zeros((1, height, width, 3)))
        assert {k: tuple(v.shape[1:]) for k, v in maps.items()} == {
            f"P{n}": (-(-height // 2**n), -(-width // 2**n), channels[n])
            for n in range(3)
        }


def test_widths_make_the_blocks():
    model = small_resnet((32, 64, 128), repeats=2, squeeze_ratio=16)
    blocks = [layer for layer in model.layers if "block" in layer.name]
    assert [b.filters for b in blocks] == [32, 32, 64, 64, 128, 128]
    assert [b.stride for b in blocks] == [1, 1, 2, 1, 2, 1]
    assert [b.branch[-1].channels for b in blocks] == [2, 2, 4, 4, 8, 8]


def test_groups_cost_what_one_does():
    counts = []
    for groups in (1, 2, 4, 8):
        width = width_per_group(groups, 4 * 32, 32)
        counts.append(trainable(lambda: small_resnet(
            (32, 64, 128), expansion=4, groups=groups, group_width=width  # noqa: B023
        )))
    assert np.ptp(counts) < 0.05 * counts[0]


def test_wide_block_is_normalised_before_it_convolves():
    """Repeats WRN's network by its formulas, with Keras's operations alone."""
    model = wide_resnet(10, 1, dropout=0.3, normalisation="unit")
    generator = np.random.default_rng(0)
    for variable in model.variables:
        if variable.ndim == 1:
            variable.assign(generator.uniform(0.3, 1.5, variable.shape))
    weights = {v.path: np.asarray(v) for v in model.variables}

    def activated(x, name):
        g, b, m, v = (weights[f"{name}_normalisation/{key}"] for key in
                      ("gamma", "beta", "moving_mean", "moving_variance"))
        return np.maximum((x - m) / np.sqrt(v + 1e-5) * g + b, 0)

    def convolved(x, name, stride=1):
        kernel = weights[f"{name}/kernel"]
        margin = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
        return np.asarray(keras.ops.conv(x, kernel, stride, "valid"))

    images = generator.uniform(0, 255, (2, 9, 8, 3)).astype("float32")
    x = convolved((images / 127.5 - 1).astype("float32"), "stem")
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        name = f"stage{stage}_block0"
        y = activated(x, f"{name}/conv1")
        # The first stage of k = 1 has as many channels as the stem: no convolution.
        shortcut = convolved(y, f"{name}/shortcut", stride) if stage > 1 else x
        y = activated(convolved(y, f"{name}/conv1", stride), f"{name}/conv2")
        x = shortcut + convolved(y, f"{name}/conv2")
    x = activated(x, "last")
    found = np.asarray(model(images, training=False)["P2"])
    assert np.abs(x).max() > 0.1
    np.testing.assert_allclose(found, x, atol=1e-4 * np.abs(x).max())


@pytest.mark.parametrize("build", [small_resnet, lambda: wide_resnet(10, 1)])
def test_frozen_backbone_keeps_its_statistics(build):
    model = build()
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3))
    model.trainable = False
    before = model.get_weights()
    model(images, training=True)
    assert all(map(np.array_equal, before, model.get_weights()))
    model.trainable = True
    model(images, training=True)
    assert not all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("build, message", [
    (lambda: small_resnet((16, 32)), r"three positive numbers .* received \(16, 32\)"),
    (lambda: small_resnet(groups=2), "groups are for bottlenecks"),
    (lambda: small_resnet(input_shape=(8, 8, 1)), r"received \(8, 8, 1\)"),
    (lambda: wide_resnet(27), r"depth is 6 n \+ 4 .* received 27 and 10"),
    (lambda: wide_resnet(16, 4, input_shape=(8, 8, 1)), r"received \(8, 8, 1\)"),
    (lambda: wide_resnet(16, 4, dropout=1.0), "dropout is 0 to below 1"),
])
def test_refuses_what_it_cannot_build(build, message):
    with pytest.raises(ValueError, match=message):
        build()
