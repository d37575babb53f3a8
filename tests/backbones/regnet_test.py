"""RegNet's design space, published counts and stored numbers."""

import json

import numpy as np
import pytest

from mlcvtf.backbones.regnet import VARIANTS, Design, Stage, regnet, stages
from mlcvtf.weights import regnet as weights
from tests.backbones import peers

# Trainable, with 1,000 classes: timm's and torchvision's documentation.
PARAMETERS = {
    "regnetx_200mf": 2_684_792,
    "regnetx_400mf": 5_157_512,
    "regnety_400mf": 4_344_144,
    "regnety_800mf": 6_263_168,
    "regnety_8gf": 39_180_068,
    "regnety_32gf": 145_046_770,
    "regnetx_400mf_torchvision": 5_495_976,
    "regnety_800mf_torchvision": 6_432_512,
    "regnety_8gf_torchvision": 39_381_472,
}
SLOW = ("regnetx_400mf", "regnety_400mf", "regnety_800mf", "regnety_8gf",
        "regnety_32gf", "regnety_8gf_torchvision")
TINY = Design(8, 8.0, 1.9, 8, 5, 0.25)


@pytest.mark.parametrize("variant", [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in PARAMETERS
])
def test_parameters_with_classifier_are_the_published_ones(variant):
    model = regnet(variant)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    head = (model.output["P5"].shape[-1] + 1) * 1000
    assert trainable + head == PARAMETERS[variant]


# The paper's table of RegNetX and RegNetY (appendix): depths, widths, group width.
@pytest.mark.parametrize("variant, depths, widths, group_width", [
    ("regnetx_200mf", (1, 1, 4, 7), (24, 56, 152, 368), 8),
    ("regnetx_1_6gf", (2, 4, 10, 2), (72, 168, 408, 912), 24),
    ("regnetx_32gf", (2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    ("regnety_400mf", (1, 3, 6, 6), (48, 104, 208, 440), 8),
    ("regnety_4gf", (2, 6, 12, 2), (128, 192, 512, 1088), 64),
    ("regnety_16gf", (2, 4, 11, 1), (224, 448, 1232, 3024), 112),
])
def test_stages_are_the_paper_s(variant, depths, widths, group_width):
    rows = stages(VARIANTS[variant])
    assert tuple(row.depth for row in rows) == depths
    assert tuple(row.width for row in rows) == widths
    assert {row.group_width for row in rows} == {group_width}


def test_groups_are_no_wider_than_their_stage():
    rows = stages(VARIANTS["regnetx_8gf"])
    assert [row.group_width for row in rows] == [80, 120, 120, 120]
    for design in VARIANTS.values():
        assert all(row.width % row.group_width == 0 for row in stages(design))
        assert sum(row.depth for row in stages(design)) == design.depth


def test_a_line_without_slope_is_one_stage():
    assert stages(Design(32, 0.0, 2.0, 16, 4)) == [Stage(32, 4, 16)]


def test_outputs_are_those_that_timm_gave():
    model = peers.classifier("regnet", *peers.GOLDEN["regnet"])
    found = peers.summary(peers.outputs(model, peers.smooth(2, *peers.SIZE)))
    assert peers.difference(found, peers.golden("regnet")) <= peers.BIGGEST


def test_levels_have_their_strides():
    model = regnet(TINY)
    for height, width in ((64, 96), (75, 51)):
        shapes = {level: tuple(maps.shape[1:3])
                  for level, maps in model(np.zeros((1, height, width, 3))).items()}
        assert shapes == {f"P{n}": (-(-height // 2**n), -(-width // 2**n))
                          for n in range(1, 6)}


def test_form_for_small_images():
    model = regnet(TINY, small_images=True)
    shapes = {level: tuple(maps.shape[1:])
              for level, maps in model(np.zeros((1, 32, 32, 3))).items()}
    assert shapes == {"P0": (32, 32, 8), "P1": (16, 16, 16), "P2": (8, 8, 56)}


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="one of regnetx_200mf, .*received 'z'"):
        regnet("z")
    with pytest.raises(ValueError, match="has 4 stages, received 1"):
        regnet(Design(32, 0.0, 2.0, 16, 4))
    with pytest.raises(ValueError, match=r"\(height, width, 3\), received"):
        regnet(TINY, input_shape=(32, 32, 1))
    with pytest.raises(ValueError, match="initial_width is a multiple of 8"):
        stages(Design(12, 8.0, 2.0, 8, 4))
    with pytest.raises(ValueError, match='rounding is "nearest" or "torchvision"'):
        stages(Design(16, 8.0, 2.0, 8, 4, rounding="up"))
    with pytest.raises(ValueError, match="known are regnet_x_400mf, "):
        weights.network("torchvision", "regnet_x_200mf")
    with pytest.raises(ValueError, match="source is one of torchvision, timm, hugging"):
        weights.rules("keras")


def test_frozen_backbone_keeps_its_statistics():
    model = regnet(TINY)
    model.trainable = False
    before = [w.numpy() for w in model.weights]
    model(np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)), training=True)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))


def test_hugging_face_configurations_are_recognised():
    # config.json of facebook/regnet-y-040, as far as it describes the network.
    config = json.loads("""{"depths": [2, 6, 12, 2], "downsample_in_first_stage": true,
        "embedding_size": 32, "groups_width": 64, "hidden_act": "relu",
        "hidden_sizes": [128, 192, 512, 1088], "layer_type": "y"}""")
    assert weights.hugging_face_variant(config) == "regnety_4gf"
    for change in ({"groups_width": 32}, {"hidden_act": "silu"}, {"layer_type": "x"}):
        with pytest.raises(ValueError, match="no RegNet of the paper has these stages"):
            weights.hugging_face_variant({**config, **change})


def test_names_of_timm():
    names = weights.ARCHITECTURES["timm"]
    assert names["regnety_002"] == "regnety_200mf"
    assert names["regnetx_016"] == "regnetx_1_6gf"
    assert names["regnety_320"] == "regnety_32gf"
    assert names["regnety_080_tv"] == "regnety_8gf_torchvision"
