"""Compound scaling: depth, width and resolution of a network grow together.

Tan, Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", arXiv:1905.11946, section 3.3: with one coefficient phi,

    d = alpha^phi,  w = beta^phi,  r = gamma^phi,  alpha beta^2 gamma^2 ~ 2,

multiply-adds, which are linear in depth and quadratic in width and resolution, grow by
about 2^phi. The base numbers come from a grid search at phi = 1 (step 1 of the paper),
then stay (step 2).

EfficientNet-B1 to B7 relate to this loosely. The paper found alpha 1.2, beta 1.1,
gamma 1.15, whose product is 1.92; the release's coefficients
(`mlcvtf.backbones.efficientnet.VARIANTS`) are hand-rounded powers of them: B1 to B7
have depths 1.1 to 3.1 = 1.2^0.5 to 1.2^6.2, widths 1.0 to 2.0 = 1.1^0 to 1.1^7.3 and
resolutions 240 to 600 = 224 times 1.15^0.5 to 1.15^7.0. `coefficient_of` computes these
exponents; no single phi gives all three of a variant.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Base(NamedTuple):
    """What depth, width and resolution are multiplied with per unit of phi.

    Attributes:
        alpha: of depth, at least 1.
        beta: of width, at least 1.
        gamma: of resolution, at least 1.
    """

    alpha: float
    beta: float
    gamma: float

    @property
    def growth(self) -> float:
        """Factor of multiply-adds per unit of phi, `alpha beta^2 gamma^2`."""
        return self.alpha * self.beta**2 * self.gamma**2


class Multipliers(NamedTuple):
    """How much deeper, wider and finer a network is than its baseline.

    Attributes:
        depth: d, of the number of layers.
        width: w, of channels.
        resolution: r, of the pictures' sides.
    """

    depth: float
    width: float
    resolution: float


class Found(NamedTuple):
    """A grid search's outcome.

    Attributes:
        base: the best one.
        score: what `evaluate` gave for it.
        scores: `[(base, score)]` of all that were evaluated, in their order.
    """

    base: Base
    score: float
    scores: list


# Section 4, step 1, found on EfficientNet-B0.
EFFICIENTNET = Base(1.2, 1.1, 1.15)


def multipliers(base: Base, phi: float) -> Multipliers:
    """Scales all three dimensions by one coefficient.

    Args:
        base: alpha, beta and gamma.
        phi: compound coefficient; 0 is the baseline.

    Returns:
        `(alpha^phi, beta^phi, gamma^phi)`.

    Raises:
        ValueError: a base number is below 1.

    References:
        arXiv:1905.11946, equation 3.

    >>> [round(m, 2) for m in multipliers(EFFICIENTNET, 2)]
    [1.44, 1.21, 1.32]
    """
    if min(base) < 1:
        raise ValueError(f"alpha, beta and gamma are at least 1, received {base}")
    return Multipliers(*(number**phi for number in base))


def coefficient_of(multiplier: float, base: float) -> float:
    """Computes the phi that gives a multiplier: `log_base(multiplier)`.

    Args:
        multiplier: of one dimension, greater than 0.
        base: alpha, beta or gamma, greater than 1.

    Returns:
        The coefficient.

    >>> round(coefficient_of(1.8, 1.2), 2)  # B4's depth
    3.22
    """
    return math.log(multiplier) / math.log(base)


def candidates(
    values: Sequence[float], target: float = 2.0, tolerance: float = 0.1
) -> list[Base]:
    """Lists the grid's points that fulfil the constraint.

    Args:
        values: numbers from 1 up that alpha, beta and gamma take each.
        target: what `alpha beta^2 gamma^2` comes near to.
        tolerance: allowed relative distance from the target, at least 0.

    Returns:
        Points in lexicographic order.

    Raises:
        ValueError: a value is below 1 or no point is left.
    """
    if min(values) < 1 or tolerance < 0:
        raise ValueError(
            "values are at least 1 and tolerance at least 0, received "
            f"{list(values)} and {tolerance}"
        )
    bases = (Base(*point) for point in itertools.product(sorted(values), repeat=3))
    found = [base for base in bases if abs(base.growth / target - 1) <= tolerance]
    if not found:
        raise ValueError(
            f"no point of the grid comes within {tolerance:g} of {target:g}, received "
            f"{list(values)}"
        )
    return found


def grid_search(
    evaluate: Callable[[Multipliers], float],
    values: Sequence[float] = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3),
    target: float = 2.0,
    tolerance: float = 0.05,
) -> Found:
    """Finds alpha, beta and gamma for a baseline, at phi = 1.

    Args:
        evaluate: makes the scaled network and says how good it is, more being better:
            the accuracy on held-out pictures after training, say.
        values: numbers from 1 up that alpha, beta and gamma take each.
        target: what `alpha beta^2 gamma^2` comes near to.
        tolerance: allowed relative distance from the target.

    Returns:
        The best point (the first of equal ones) and the scores of all.

    Raises:
        ValueError: see `candidates`; or a score is not a number.

    References:
        arXiv:1905.11946, section 3.3, step 1.
    """
    scores = []
    for base in candidates(values, target, tolerance):
        score = float(evaluate(multipliers(base, 1.0)))
        if math.isnan(score):
            raise ValueError(f"a score is a number, received nan for {base}")
        scores.append((base, score))
    return Found(*max(scores, key=lambda pair: pair[1]), scores)


def growth_errors(
    multiply_adds: Callable[[Multipliers], float],
    base: Base,
    phis: Sequence[float],
    growth: float = 2.0,
) -> dict[float, float]:
    """Measures how near a network's multiply-adds come to `growth^phi`.

    They differ because `alpha beta^2 gamma^2` does, because channels, layers and sides
    are rounded, and because stem, head and depthwise convolutions are not quadratic in
    width.

    Args:
        multiply_adds: counts those of the network with these multipliers, or its FLOPs.
        base: alpha, beta and gamma.
        phis: coefficients to look at.
        growth: factor per unit of phi; `base.growth` instead of the paper's 2 leaves
            only what rounding and layers do.

    Returns:
        phi to the ratio of the measured growth and the wanted one, less 1.
    """
    baseline = multiply_adds(multipliers(base, 0.0))
    return {
        phi: multiply_adds(multipliers(base, phi)) / baseline / growth**phi - 1
        for phi in phis
    }
