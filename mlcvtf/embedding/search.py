"""Names for embeddings: exact nearest neighbours among enrolled people. NumPy only.

A query is compared with people in one of two ways:

- `nearest`: a person scores the largest cosine between the query and any of the
  person's pictures. Sharp where pictures differ much (with glasses, without).
- `centroid`: a person scores the cosine between the query and the mean of the
  person's vectors, scaled back to unit length. Steadier where single pictures are
  poor, and the chance of a false match grows with people, not with pictures.

With one picture per person both are the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNKNOWN = "unknown"
SCORINGS = ("nearest", "centroid")
# The lowest cosine: the score of nobody.
LOWEST = -1.0
# Scores that are held at a time, 64 MiB of float32.
BLOCK = 2**24


class Match(NamedTuple):
    """Who a face is.

    Attributes:
        name: the person, or `unknown`.
        score: cosine of the person who scores best, whether named or not.
        runner_up: the person who scores second best; None where fewer than two are
            enrolled.
        runner_up_score: cosine of that person, -1 where there is none.
        best: the person who scores best, also where `name` is `unknown`; None where
            nobody is enrolled.
    """

    name: str
    score: float
    runner_up: str | None
    runner_up_score: float
    best: str | None


class Index:
    """Vectors of people, arranged for search.

    Args:
        names: the person of each vector, in any order; one person may have several.
        vectors: float32 `[n, d]` of unit norm.

    Attributes:
        people: the different names, sorted.
        counts: int `[people]`, how many vectors each of them has.

    >>> index = Index(["Ada", "Bob"], np.eye(2))
    >>> index.search([[0.6, 0.8]], threshold=0.5, margin=0.1)[0].name
    'Bob'
    """

    def __init__(self, names: Sequence[str], vectors):
        self.people = sorted(set(names))
        numbers = {name: number for number, name in enumerate(self.people)}
        codes = np.array([numbers[name] for name in names], np.intp)
        order = np.argsort(codes, kind="stable")
        self.counts = np.bincount(codes, minlength=len(self.people))
        # A person's vectors lie side by side, so that one pass takes their maximum.
        self._vectors = np.asarray(vectors, np.float32)[order]
        self._starts = np.cumsum(self.counts) - self.counts
        self._centroids = self._vectors
        if len(self.people) < len(names):
            means = np.add.reduceat(self._vectors, self._starts) / self.counts[:, None]
            norms = np.linalg.norm(means, axis=1, keepdims=True)
            self._centroids = (means / np.maximum(norms, 1e-12)).astype(np.float32)

    def enrolled(self, scoring: str = "nearest") -> int:
        """Returns with how many vectors a query is compared.

        The chance that a stranger gets a name grows with it: the number of pictures
        for `nearest`, of people for `centroid`.
        """
        _check_scoring(scoring)
        return len(self._vectors if scoring == "nearest" else self._centroids)

    def scores(self, queries, scoring: str = "nearest") -> np.ndarray:
        """Scores every person for every query.

        Args:
            queries: `[n, d]` of unit norm.
            scoring: "nearest" or "centroid".

        Returns:
            float32 `[n, people]`, cosines.

        Raises:
            ValueError: another scoring, or queries of another length than `d`.
        """
        _check_scoring(scoring)
        queries = np.asarray(queries, np.float32)
        if not self.people:
            return np.empty((len(queries), 0), np.float32)
        reference = self._vectors if scoring == "nearest" else self._centroids
        if queries.ndim != 2 or queries.shape[1] != reference.shape[1]:
            raise ValueError(
                f"Queries must be [n, {reference.shape[1]}], received {queries.shape}"
            )
        scores = queries @ reference.T
        if len(reference) > len(self.people):
            scores = np.maximum.reduceat(scores, self._starts, axis=1)
        return scores

    def search(
        self, queries, threshold: float, margin: float = 0.0, scoring: str = "nearest"
    ) -> list[Match]:
        """Names faces.

        A face is `unknown` where the best person scores below the threshold, or where
        the two best people are closer than the margin.

        Args:
            queries: `[n, d]` of unit norm.
            threshold: the least cosine of a named face.
            margin: the least distance in cosine between the two best people.
            scoring: "nearest" or "centroid".

        Returns:
            One match per query.

        Raises:
            ValueError: another scoring, or queries of another length than `d`.
        """
        queries = np.asarray(queries, np.float32)
        rows = max(1, BLOCK // max(1, len(self._vectors)))
        matches = []
        for start in range(0, len(queries), rows):
            for scores in self.scores(queries[start : start + rows], scoring):
                matches.append(self._match(scores, threshold, margin))
        return matches

    def _match(self, scores, threshold, margin):
        """Returns the match of one query; `scores` `[people]` is overwritten."""
        if not self.people:
            return Match(UNKNOWN, LOWEST, None, LOWEST, None)
        first = int(scores.argmax())
        best, score = self.people[first], float(scores[first])
        runner_up, runner_up_score = None, LOWEST
        if len(self.people) > 1:
            scores[first] = -np.inf
            second = int(scores.argmax())
            runner_up, runner_up_score = self.people[second], float(scores[second])
        # Written so that a score that is no number is unknown too.
        sure = score >= threshold and score - runner_up_score >= margin
        return Match(best if sure else UNKNOWN, score, runner_up, runner_up_score, best)


def _check_scoring(scoring):
    if scoring not in SCORINGS:
        raise ValueError(f"A scoring is one of {SCORINGS}, received {scoring!r}")
