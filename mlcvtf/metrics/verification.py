"""Face verification: are two pictures of one person?

A pair has a score, the higher the more alike, and counts as accepted where the score
reaches a threshold. Rates are shares of pairs: true accepts (TAR) of the pairs of one
person, false accepts (FAR) of the pairs of two. NumPy only.

References:
- Huang, Ramesh, Berg, Learned-Miller, 2007, "Labeled Faces in the Wild", UMass
  technical report 07-49: the folds of View 2, each judged with what the others teach.
"""

from typing import NamedTuple

import numpy as np

# A rate is only measured where at least this many false accepts make it up: with
# fewer, the threshold hangs on single pairs (5 have a relative error of 45 %).
LEAST_FALSE_ACCEPTS = 5


class Roc(NamedTuple):
    """A receiver operating characteristic.

    Attributes:
        far: `[n]` rising false accept rates, from 0 to 1.
        tar: `[n]` rising true accept rates, from 0 to 1.
        thresholds: `[n]` falling scores from which on a pair is accepted, the first
            is infinite.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray


class KFold(NamedTuple):
    """Accuracy of verification by folds.

    Attributes:
        mean: of the folds' accuracies.
        standard_error: their standard deviation (with n - 1) over the root of their
            number.
        folds: fold to (accuracy, threshold).
    """

    mean: float
    standard_error: float
    folds: dict


def roc(scores, same) -> Roc:
    """Returns both rates at every threshold that tells scores apart.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`, whether a pair is of one person; both kinds occur.

    Raises:
        ValueError: shapes differ, a score is not finite, or one kind is missing.

    >>> roc([0.9, 0.4, 0.6, 0.1], [True, True, False, False]).tar
    array([0. , 0.5, 0.5, 1. , 1. ])
    """
    scores, same = _checked(scores, same)
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    # Equal scores are accepted together: only the last of them is a point.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    true, false = np.cumsum(same)[last], np.cumsum(~same)[last]
    return Roc(np.concatenate([[0.0], false / false[-1]]),
               np.concatenate([[0.0], true / true[-1]]),
               np.concatenate([[np.inf], scores[last]]))


def threshold_at(scores, same, far: float) -> float:
    """Returns the lowest threshold whose false accept rate is at most `far`.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`.
        far: in 0..1.

    Returns:
        A score, or infinity where even the highest one accepts too many.

    Raises:
        ValueError: shapes differ, a score is not finite, or one kind is missing.
    """
    curve = roc(scores, same)
    return float(curve.thresholds[_last_point(curve, far)])


def tar_at_far(scores, same, far: float) -> float:
    """Returns the highest true accept rate whose false accept rate is at most `far`.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`.
        far: in 0..1.

    Raises:
        ValueError: shapes differ, a score is not finite, one kind is missing, or the
            pairs cannot tell (see `is_measurable`).

    >>> tar_at_far([3, 2, 1] + [0] * 10, [1, 1, 0] + [0] * 10, 0.5)
    1.0
    """
    curve = roc(scores, same)
    impostors = int(np.sum(~np.asarray(same, bool)))
    if not is_measurable(impostors, far):
        raise ValueError(f"A rate needs impostor pairs x far >= {LEAST_FALSE_ACCEPTS}, "
                         f"received {impostors} x {far}")
    return float(curve.tar[_last_point(curve, far)])


def is_measurable(impostors: int, far: float) -> bool:
    """Says whether `impostors` pairs of two people suffice to measure at `far`.

    The rule is impostor pairs x far >= 5: that many false accepts fix the threshold.
    """
    # Rounded because 50 * 0.1 and the like must not fall short by one bit.
    return round(impostors * far, 9) >= LEAST_FALSE_ACCEPTS


def equal_error_rate(scores, same) -> float:
    """Returns the rate at which as many impostors pass as clients are turned away.

    Between two points of the curve it is interpolated linearly.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`.

    Raises:
        ValueError: shapes differ, a score is not finite, or one kind is missing.

    >>> equal_error_rate([0.9, 0.4, 0.6, 0.1], [True, True, False, False])
    0.5
    """
    curve = roc(scores, same)
    excess = curve.far - (1 - curve.tar)
    after = int(np.argmax(excess >= 0))
    before = after - 1
    part = -excess[before] / (excess[after] - excess[before])
    return float(curve.far[before] + part * (curve.far[after] - curve.far[before]))


def best_threshold(scores, same) -> float:
    """Returns the threshold that judges most pairs rightly.

    It lies half-way between two neighbouring scores; of several equally good ones it
    is the middle one.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`.

    Raises:
        ValueError: shapes differ, a score is not finite, or one kind is missing.

    >>> best_threshold([0.9, 0.7, 0.3, 0.1], [True, True, False, False])
    0.5
    """
    curve = roc(scores, same)
    same = np.asarray(same, bool)
    right = np.rint(curve.tar * same.sum()) - np.rint(curve.far * (~same).sum())
    best = np.flatnonzero(right == right.max())
    point = int(best[len(best) // 2])
    # Accepting nothing lies just above the highest score, everything at the lowest.
    if point == 0:
        return float(np.nextafter(curve.thresholds[1], np.inf))
    if point == len(curve.thresholds) - 1:
        return float(curve.thresholds[-1])
    return float(curve.thresholds[point] + curve.thresholds[point + 1]) / 2


def k_fold_accuracy(scores, same, folds) -> KFold:
    """Judges each fold with the threshold that is best for all the others.

    Args:
        scores: float `[n]`, finite.
        same: bool `[n]`.
        folds: `[n]` the fold of each pair; at least two different ones.

    Raises:
        ValueError: shapes differ, a score is not finite, there is one fold only, or
            the others of a fold lack one kind of pair.
    """
    scores, same = _checked(scores, same)
    folds = np.asarray(folds)
    names = np.unique(folds)
    if folds.shape != scores.shape or len(names) < 2:
        raise ValueError("Each pair has a fold and there are two or more, received "
                         f"{list(folds.shape)} folds of {len(names)} values for "
                         f"{len(scores)} pairs")
    result = {}
    for name in names.tolist():
        inside = folds == name
        threshold = best_threshold(scores[~inside], same[~inside])
        right = (scores[inside] >= threshold) == same[inside]
        result[name] = (float(right.mean()), threshold)
    accuracies = np.array([accuracy for accuracy, _ in result.values()])
    error = accuracies.std(ddof=1) / np.sqrt(len(accuracies))
    return KFold(float(accuracies.mean()), float(error), result)


def _last_point(curve, far):
    return int(np.searchsorted(curve.far, far, side="right")) - 1


def _checked(scores, same):
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError("Scores and kinds of pairs are lists of one length, received "
                         f"{list(scores.shape)} and {list(same.shape)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"Scores are finite, received {scores[~np.isfinite(scores)]}")
    if same.all() or not same.any():
        raise ValueError("There are pairs of one person and of two, received "
                         f"{same.sum()} of one among {len(same)}")
    return scores, same
