"""Thresholds from how strangers score: what `--far` means. NumPy only.

A threshold is asked for as `far`, the share of strangers' faces that get any name at
all with the present gallery. A stranger is compared with every enrolled vector, and
one match is enough for a false name, so with `n` comparisons that are independent

    far = 1 - (1 - pair rate) ** n,    pair rate = 1 - (1 - far) ** (1 / n)

and the pair rate belongs to a threshold by a table of quantiles, measured on people
who were set aside before training. Pictures of one person resemble each other, so
their comparisons are not independent and the true share is lower than asked, never
higher, as far as the strangers are like the people who were set aside.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np

from mlcvtf.errors import InputError

# A quantile below which fewer pairs lie is chance, not measurement.
FEWEST_PAIRS = 10
LARGEST_RATE = 0.1
PER_DECADE = 10
# Rows of the score matrix at a time: 16 MiB for 4,096 pictures.
ROWS = 1024


def pair_rate(far: float, enrolled: int) -> float:
    """Returns the false accepts per comparison that make `far` per stranger.

    Args:
        far: share of strangers that get a name, over 0 and under 1.
        enrolled: number of vectors that a face is compared with, at least 1.

    Raises:
        InputError: `far` is not between 0 and 1, or nobody is enrolled.

    >>> round(pair_rate(0.01, 100), 9)
    0.000100498
    """
    if not 0 < far < 1:
        raise InputError(f"far is a share over 0 and under 1, received {far}")
    if enrolled < 1:
        raise InputError(f"a threshold needs at least 1 enrolled, received {enrolled}")
    return -math.expm1(math.log1p(-far) / enrolled)


def threshold(card_calibration: dict, far: float, enrolled: int) -> float:
    """Returns the cosine above which a face is named.

    Between the rates of the table the threshold is linear in the logarithm of the
    rate. For rates over the largest of the table it is that one's, which is strict.

    Args:
        card_calibration: `calibration` of an embedder's card, as
            `impostor_quantiles` returns it.
        far: share of strangers that get any name, over 0 and under 1.
        enrolled: number of enrolled pictures for `nearest` scoring, of people for
            `centroid`.

    Raises:
        InputError: `far` is out of range, nobody is enrolled, or the set-aside pairs
            are too few to say anything about so small a rate.
    """
    rate = pair_rate(far, enrolled)
    pairs = card_calibration["pairs"]
    rates, thresholds = np.array(card_calibration["quantiles"], np.float64).T
    # The table may end a rounding error above the smallest rate that is allowed.
    if pairs * rate < FEWEST_PAIRS or rate < rates[-1] * (1 - 1e-6):
        smallest = smallest_far(card_calibration, enrolled)
        raise InputError(
            f"a threshold needs {FEWEST_PAIRS} impostor pairs above it, far {far:g} "
            f"with {enrolled} enrolled would have {pairs * rate:.2g} of the {pairs} "
            f"that the model was calibrated on; the smallest far here is {smallest:.2g}"
        )
    return float(np.interp(-math.log(rate), -np.log(rates), thresholds))


def smallest_far(card_calibration: dict, enrolled: int) -> float:
    """Returns the smallest `far` for which `threshold` answers.

    Args:
        card_calibration: as of `threshold`.
        enrolled: as of `threshold`.
    """
    table_end = card_calibration["quantiles"][-1][0]
    rate = max(FEWEST_PAIRS / card_calibration["pairs"], table_end)
    return -math.expm1(enrolled * math.log1p(-rate))


def impostor_quantiles(vectors, people: Sequence[Hashable]) -> dict:
    """Measures how pairs of different people score.

    Exact: every pair of pictures that show two different people counts once.

    Args:
        vectors: float32 `[n, d]` of unit norm, of people who were set aside.
        people: `[n]`, who each picture shows.

    Returns:
        `calibration` of an embedder's card: `people`, `pictures`, `pairs`, and
        `quantiles`, a list of `[rate, threshold]`, where `rate` is the share of the
        pairs that score at least `threshold`; from 0.1 down to 10 / pairs, about ten
        a decade.

    Raises:
        ValueError: not one person per vector, vectors not of unit norm, or fewer than
            100 pairs.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != len(people):
        raise ValueError(
            f"Vectors are [n, d] with n people, received {vectors.shape} and "
            f"{len(people)} people"
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise ValueError("Vectors must have unit norm")
    numbers = {person: number for number, person in enumerate(dict.fromkeys(people))}
    codes = np.array([numbers[person] for person in people])
    counts = np.bincount(codes)
    pairs = int(len(codes) ** 2 - np.sum(counts**2)) // 2
    if pairs * LARGEST_RATE < FEWEST_PAIRS:
        raise ValueError(f"At least 100 impostor pairs are needed, received {pairs}")
    top = _largest_scores(vectors, codes, int(pairs * LARGEST_RATE))
    quantiles = []
    steps = math.floor(math.log10(len(top) / FEWEST_PAIRS) * PER_DECADE)
    ranks = {int(len(top) * 10 ** (-i / PER_DECADE)) for i in range(steps + 1)}
    for rank in sorted(ranks | {FEWEST_PAIRS}, reverse=True):
        value = top[-rank]
        # Ties may put more pairs at or above the value than its rank says.
        rate = (len(top) - int(np.searchsorted(top, value))) / pairs
        if not quantiles or rate < quantiles[-1][0]:
            quantiles.append([rate, float(value)])
    return {
        "people": len(counts),
        "pictures": len(codes),
        "pairs": pairs,
        "quantiles": quantiles,
    }


def _largest_scores(vectors, codes, keep):
    """Returns the `keep` largest cosines of impostor pairs, float32, ascending."""
    best = np.empty(0, np.float32)
    floor = -np.inf
    for start in range(0, len(vectors), ROWS):
        # The block's rows against itself and what follows: each pair once.
        block = slice(start, start + ROWS)
        scores = vectors[block] @ vectors[start:].T
        later = np.arange(scores.shape[0])[:, None] < np.arange(scores.shape[1])
        wanted = later & (codes[block, None] != codes[start:]) & (scores >= floor)
        best = np.concatenate([best, scores[wanted]])
        if len(best) > keep:
            best = np.partition(best, len(best) - keep)[-keep:]
            floor = best.min()
    return np.sort(best)
