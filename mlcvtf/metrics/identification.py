"""Open-set identification: who is this, if anyone that is enrolled?

Every query is compared with all enrolled pictures. A mate is a query of an enrolled
person, a stranger one of nobody enrolled. NumPy only.

References:
- Phillips, Grother, Micheals, 2011, "Evaluation Methods in Face Recognition", in
  Handbook of Face Recognition: detection and identification rate, false alarm rate.
"""

from typing import NamedTuple

import numpy as np


class OpenSet(NamedTuple):
    """What an open-set identification got right and wrong.

    Attributes:
        mates: number of queries of enrolled people.
        strangers: number of queries of others.
        rank_one: share of mates whose best name is theirs, at any score.
        detection_and_identification: share of mates whose best name is theirs and
            whose score reaches the threshold.
        false_positive_identification: share of strangers that are given any name.

        A rate without queries to measure it is NaN.
    """

    mates: int
    strangers: int
    rank_one: float
    detection_and_identification: float
    false_positive_identification: float


def open_set(scores, queries, enrolled, threshold: float) -> OpenSet:
    """Measures open-set identification at a threshold.

    Args:
        scores: float `[q, e]` of each query with each enrolled picture, the higher the
            more alike. The score of a name is that of its best picture.
        queries: `[q]` true names.
        enrolled: `[e]` names of the enrolled pictures, e >= 1.
        threshold: a query gets a name where its best score is at least this.

    Raises:
        ValueError: shapes do not fit or nobody is enrolled.

    >>> open_set([[0.9, 0.1], [0.2, 0.6]], ["ada", "eve"], ["ada", "bob"], 0.5)[2:]
    (1.0, 1.0, 1.0)
    """
    best, name = nearest(scores, enrolled)
    queries = np.asarray(queries)
    if queries.shape != best.shape:
        raise ValueError(f"Each query has a name, received {list(queries.shape)} names "
                         f"for {len(best)} queries")
    mate = np.isin(queries, enrolled)
    right, accepted = name == queries, best >= threshold
    return OpenSet(
        int(mate.sum()), int((~mate).sum()), _share(right[mate]),
        _share((right & accepted)[mate]), _share(accepted[~mate]))


def detection_at(scores, queries, enrolled, rate: float) -> float:
    """Returns the detection and identification rate where strangers pass at `rate`.

    The threshold is picked on these strangers: a figure to compare models with, not
    one that a deployed threshold reaches.

    Args:
        scores: float `[q, e]` of each query with each enrolled picture.
        queries: `[q]` true names, some of them enrolled and some not.
        enrolled: `[e]` names of the enrolled pictures.
        rate: false positive identification rate in 0..1.

    Raises:
        ValueError: shapes do not fit, or there are no strangers.
    """
    best, _ = nearest(scores, enrolled)
    strangers = np.sort(best[~np.isin(queries, enrolled)])[::-1]
    if not len(strangers):
        raise ValueError("There are queries of strangers, received none")
    allowed = int(np.floor(round(rate * len(strangers), 9)))
    threshold = -np.inf
    if allowed < len(strangers):
        threshold = np.nextafter(strangers[allowed], np.inf)
    return open_set(scores, queries, enrolled, threshold).detection_and_identification


def nearest(scores, enrolled):
    """Returns each query's best score and the name that it belongs to.

    Args:
        scores: float `[q, e]`.
        enrolled: `[e]` names, e >= 1.

    Returns:
        Arrays `[q]` of scores and of names; of equal scores the first enrolled wins.

    Raises:
        ValueError: shapes do not fit or nobody is enrolled.
    """
    scores, enrolled = np.asarray(scores, np.float64), np.asarray(enrolled)
    if scores.ndim != 2 or scores.shape[1:] != enrolled.shape or not len(enrolled):
        raise ValueError("Scores are queries x enrolled pictures, received "
                         f"{list(scores.shape)} for {len(enrolled)} enrolled")
    index = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), index], enrolled[index]


def _share(values):
    return float(values.mean()) if len(values) else float("nan")
