"""Compound scaling and EfficientNet's published multiply-adds."""

import math

import pytest

from mlcvtf.backbones.efficientnet import (
    LAST_CHANNELS,
    STEM_CHANNELS,
    TABLE_1,
    VARIANTS,
)
from mlcvtf.classification.compound_scaling import (
    EFFICIENTNET,
    Base,
    candidates,
    coefficient_of,
    grid_search,
    growth_errors,
    multipliers,
)
from mlcvtf.layers.inverted_residual import round_channels

# Table 2 of arXiv:1905.11946, "FLOPS", which are multiply-adds, in 10^9.
PUBLISHED = {"b0": 0.39, "b1": 0.70, "b2": 1.0, "b3": 1.8, "b4": 4.2, "b5": 9.9,
             "b6": 19, "b7": 37}


def multiply_adds(depth, width, resolution, rounded=True):
    """Counts EfficientNet's by arithmetic alone, without squeeze and excitation."""
    channels_of = round_channels if rounded else float
    side_of = math.ceil if rounded else float
    layers_of = math.ceil if rounded else float
    side = side_of(side_of(224 * resolution) / 2)
    inputs = channels_of(STEM_CHANNELS * width)
    total = side**2 * 27 * inputs
    for expansion, kernel, stride, channels, layers in TABLE_1:
        outputs, layers = channels_of(channels * width), layers_of(layers * depth)
        # The first layer of a stage, then all others alike; a share of one if the
        # number of layers is not whole.
        for count, first in ((1, True), (layers - 1, False)):
            wide = inputs * expansion
            expanding = side**2 * inputs * wide if expansion > 1 else 0
            if first:
                side = side_of(side / stride)
            total += count * (expanding + side**2 * wide * (kernel**2 + outputs))
            inputs = outputs
    last = channels_of(LAST_CHANNELS * width)
    return total + side**2 * inputs * last + 1000 * last


@pytest.mark.parametrize("variant", PUBLISHED)
def test_variants_have_the_published_multiply_adds(variant):
    row = VARIANTS[f"efficientnet_{variant}"]
    found = multiply_adds(row.depth, row.width, row.resolution / 224) / 1e9
    # The table rounds to two digits.
    assert found == pytest.approx(PUBLISHED[variant], rel=0.05)


def test_multipliers_are_powers():
    assert multipliers(EFFICIENTNET, 0) == (1, 1, 1)
    once, twice = multipliers(EFFICIENTNET, 1), multipliers(EFFICIENTNET, 2)
    assert once == EFFICIENTNET
    assert twice == pytest.approx([x * x for x in once])
    assert EFFICIENTNET.growth == pytest.approx(1.92, abs=0.005)
    assert coefficient_of(twice.depth, EFFICIENTNET.alpha) == pytest.approx(2)


def test_variants_are_rounded_powers_of_the_paper_s_base():
    for number in range(1, 8):
        row = VARIANTS[f"efficientnet_b{number}"]
        phis = [coefficient_of(row.depth, EFFICIENTNET.alpha),
                coefficient_of(row.resolution / 224, EFFICIENTNET.gamma)]
        if row.width > 1:
            phis.append(coefficient_of(row.width, EFFICIENTNET.beta))
        # All three ask for a coefficient that is at most a little over the number.
        assert number - 1 < max(phis) < number + 0.3
        assert max(phis) - min(phis) < 1.1


def test_candidates_fulfil_the_constraint():
    values = [1.0, 1.1, 1.2, 1.3]
    found = candidates(values, tolerance=0.1)
    assert EFFICIENTNET not in found and Base(1.2, 1.1, 1.2) in found
    for base in found:
        assert 1.8 <= base.alpha * base.beta**2 * base.gamma**2 <= 2.2
    # None was left out.
    count = sum(1.8 <= a * b * b * c * c <= 2.2
                for a in values for b in values for c in values)
    assert len(found) == count > 3


def test_grid_search_finds_the_best_point():
    asked = []

    def evaluate(scaling):
        asked.append(scaling)
        return -abs(scaling.depth - 1.2) - abs(scaling.width - 1.1)

    found = grid_search(evaluate)
    assert found.base == EFFICIENTNET and found.score == pytest.approx(0)
    assert asked == [base for base, _ in found.scores]
    assert found.score == max(score for _, score in found.scores)


def test_multiply_adds_double():
    """Whole layers, channels and pixels apart, growth is that of the base."""
    def exact(scaling):
        return multiply_adds(*scaling, rounded=False)

    def real(scaling):
        return multiply_adds(*scaling)

    phis = (1, 2, 3)
    for phi, error in growth_errors(exact, EFFICIENTNET, phis,
                                    EFFICIENTNET.growth).items():
        # Stem, head and depthwise convolutions grow slower than the others.
        assert -0.01 * phi < error < 0.0
    # The paper's 2^phi, rounding included: at first stages of one layer get a second.
    errors = growth_errors(real, EFFICIENTNET, phis)
    assert list(errors) == list(phis)
    assert 0.2 < errors[1] < 0.3
    assert all(abs(errors[phi]) < 0.2 for phi in phis[1:])
    # A base that breaks the constraint is seen.
    broken = growth_errors(real, Base(1.2, 1.3, 1.3), phis)
    assert broken[3] > 1


def test_refuses_what_it_cannot_scale():
    with pytest.raises(ValueError, match="are at least 1, received"):
        multipliers(Base(0.9, 1.1, 1.1), 1)
    with pytest.raises(ValueError, match="values are at least 1"):
        candidates([0.9, 1.1])
    with pytest.raises(ValueError, match="no point of the grid"):
        candidates([1.0, 1.01])
    with pytest.raises(ValueError, match="a score is a number, received nan"):
        grid_search(lambda scaling: math.nan)
