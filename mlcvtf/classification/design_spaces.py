"""Design spaces: whole populations of networks, compared by how their errors spread.

Radosavovic, Kosaraju, Girshick, He, Dollar, 2020, "Designing Network Design Spaces",
arXiv:2003.13678, section 3: models are sampled from a space and trained briefly; the
space is judged by F(e), the share of its models with an error below e, and not by its
best model. Two spaces: AnyNet, in which each of four stages has any depth, width and
group width, and RegNet, in which all widths lie on one quantised line and the group
width is shared.

What differs: bottlenecks have the ratio 1 in both, which the paper arrives at; pictures
have 32 pixels and the stem keeps them, models have at most 10 million multiply-adds and
few blocks. Every model has at least half of the highest count, so that the spaces are
compared at one complexity, as the paper does with its 360 to 400 million.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from mlcvtf.backbones.regnet import Design, Stage, stages
from mlcvtf.backbones.stem import convolution_block, image_input
from mlcvtf.classification.trials import TrialLog
from mlcvtf.layers.regnet_block import RegNetBlock

STEM_CHANNELS, STRIDES = 16, (2, 2, 2, 2)
MOST, SIDE = 10_000_000, 32
# Ranges of the parameters. Depths and widths are drawn evenly on a logarithmic scale.
STAGE_DEPTHS, STAGE_WIDTHS = (1, 6), (8, 256)
# Narrower groups are more of them, and on a CPU every one is a convolution of its own.
GROUP_WIDTHS = (16, 32, 64)
DEPTHS, INITIAL_WIDTHS, SLOPES, STEPS = (4, 16), (8, 64), (4.0, 64.0), (1.5, 3.0)


def anynet(
    rows: Sequence[Stage],
    input_shape: tuple = (None, None, 3),
    momentum: float = 0.9,
) -> keras.Model:
    """Builds a small network of RegNet's X blocks, stage by stage.

    Args:
        rows: four stages, whose widths are multiples of their group widths.
        input_shape: height, width and 3 channels; height and width may be None.
        momentum: of batch normalisation's moving statistics.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with "P1" to "P4", where Pn is `[batch, height / 2^n,
        width / 2^n, width of the stage]`, rounded up.

    Raises:
        ValueError: there are not four stages, or widths do not fit.
    """
    if len(rows) != len(STRIDES):
        raise ValueError(f"a network has {len(STRIDES)} stages, received {len(rows)}")
    images, x = image_input(input_shape, "mean_std")
    x = convolution_block(
        x, STEM_CHANNELS, 3, 1, "relu", "symmetric", 1e-5, momentum, "stem", "he_normal"
    )
    outputs = {}
    for level, (row, stride) in enumerate(zip(rows, STRIDES, strict=True), 1):
        row = Stage(*row)
        for block in range(row.depth):
            x = RegNetBlock(
                row.width,
                row.group_width,
                stride if block == 0 else 1,
                momentum=momentum,
                name=f"stage{level}_block{block}",
            )(x)
        outputs[f"P{level}"] = x
    return keras.Model(images, outputs, name="anynet")


def multiply_adds(rows: Sequence[Stage], side: int = SIDE) -> int:
    """Counts the multiply-adds of `anynet`'s convolutions on a square picture.

    Args:
        rows: its stages.
        side: of the picture in pixels.
    """
    channels = STEM_CHANNELS
    total = side**2 * 9 * 3 * channels
    for row, stride in zip(rows, STRIDES, strict=True):
        for block in range(row.depth):
            before, step = side**2, stride if block == 0 else 1
            side = -(-side // step)
            # The first 1x1 comes before the stride.
            total += before * channels * row.width
            total += side**2 * row.width * (9 * row.group_width + row.width)
            if step > 1 or channels != row.width:
                total += side**2 * channels * row.width
            channels = row.width
    return total


def draw_anynet(generator: np.random.Generator) -> list[Stage]:
    """Draws a network: depth, width and group width of each stage by themselves.

    Args:
        generator: source of all randomness.
    """
    rows = []
    for _ in STRIDES:
        group = int(generator.choice(GROUP_WIDTHS))
        width = _logarithmic(generator, STAGE_WIDTHS)
        width = max(1, round(width / group)) * group
        depth = round(_logarithmic(generator, STAGE_DEPTHS))
        rows.append(Stage(width, depth, group))
    return rows


def draw_regnet(generator: np.random.Generator) -> list[Stage]:
    """Draws a network: depth, initial width, slope, step and one group width.

    Args:
        generator: source of all randomness.
    """
    while True:
        design = Design(
            8 * max(1, round(_logarithmic(generator, INITIAL_WIDTHS) / 8)),
            _logarithmic(generator, SLOPES),
            generator.uniform(*STEPS),
            int(generator.choice(GROUP_WIDTHS)),
            round(_logarithmic(generator, DEPTHS)),
        )
        rows = stages(design)
        if len(rows) == len(STRIDES):
            return rows


SPACES = {"AnyNet": draw_anynet, "RegNet": draw_regnet}


def _logarithmic(generator, limits):
    return float(np.exp(generator.uniform(*np.log(limits))))


def sample(space: str, generator: np.random.Generator, most: int = MOST) -> list[Stage]:
    """Draws networks of a space until one has the complexity that is compared.

    Args:
        space: key of `SPACES`.
        generator: source of all randomness.
        most: multiply-adds at most; half of them at least.

    Raises:
        ValueError: the space is unknown.
    """
    if space not in SPACES:
        raise ValueError(f"space is one of {', '.join(SPACES)}, received {space!r}")
    while True:
        rows = SPACES[space](generator)
        if most / 2 <= multiply_adds(rows) <= most:
            return rows


def study(
    space: str, count: int, evaluate: Callable, log: TrialLog, seed: int = 0
) -> list[dict]:
    """Samples and trains models until so many are logged.

    Args:
        space: key of `SPACES`.
        count: models in all.
        evaluate: maps stages to a dict with "accuracy", 0 to 1.
        log: of this space alone; models that it has are not trained again.
        seed: of the sample; model i is the same whatever `count` is.

    Returns:
        The log's trials, at most `count`: what `evaluate` gave, "model", "stages"
        (width, depth and group width of each), "multiply_adds" and "error".
    """
    for model in range(len(log.trials), count):
        rows = sample(space, np.random.default_rng((seed, model)))
        result = evaluate(rows)
        log.add(
            {
                "model": model,
                "stages": [list(row) for row in rows],
                "multiply_adds": multiply_adds(rows),
                **result,
                "error": 1 - result["accuracy"],
            }
        )
    return log.trials[:count]


class Distribution(NamedTuple):
    """The empirical distribution of errors, and how sure it is, each `[points]`.

    Attributes:
        share: F(e), of the models with an error below e.
        low: lower end of its confidence interval.
        high: upper end.
    """

    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def error_distribution(
    errors: Sequence[float],
    points: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Distribution:
    """Computes F(e) = 1/n sum 1[e_i < e], with bands by the bootstrap.

    Args:
        errors: of the models, 0 to 1.
        points: where F is wanted.
        confidence: of the bands, at each point by itself.
        resamples: that the bands are percentiles of.
        seed: of the resamples.

    Raises:
        ValueError: there are no errors, or the confidence is not between 0 and 1.

    References:
        arXiv:2003.13678, equation 1; Efron, Tibshirani, 1994, "An Introduction to the
        Bootstrap", chapter 13.

    >>> error_distribution([0.1, 0.2, 0.2, 0.4], [0.1, 0.2, 0.3, 0.5]).share.tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    if not len(errors) or not 0 < confidence < 1:
        raise ValueError(
            "errors are at least one and confidence is between 0 and 1, received "
            f"{len(errors)} and {confidence}"
        )
    below = np.asarray(errors)[:, None] < np.asarray(points)
    draws = np.random.default_rng(seed).multinomial(
        len(errors), np.full(len(errors), 1 / len(errors)), resamples
    )
    shares = draws @ below / len(errors)
    tail = 50 * (1 - confidence)
    low, high = np.percentile(shares, [tail, 100 - tail], axis=0)
    return Distribution(below.mean(0), low, high)
