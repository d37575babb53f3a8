"""Which boxes are right, wrong or neither, and how windows rank, by hand."""

import importlib.machinery
import importlib.util
import sys

import numpy as np
import pytest

from tests.case import ROOT
from tests.detection.viola_jones.cascades import random_cascade


@pytest.fixture(scope="module")
def roc():
    """The program, which has no suffix, as a module."""
    path = ROOT / "benchmarks" / "cascade_roc"
    loader = importlib.machinery.SourceFileLoader("cascade_roc", str(path))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("cascade_roc", loader)
    )
    before = sys.path[:], sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader.exec_module(module)
    finally:
        sys.path[:], sys.dont_write_bytecode = before
    return module


FACES = np.array([[0, 0, 100, 100], [200, 0, 240, 40]], float)
IGNORED = np.array([[400, 0, 420, 20]], float)


def test_boxes_that_are_right_wrong_or_neither(roc):
    boxes = np.array(
        [
            [0, 0, 100, 90],  # The first face.
            [0, 0, 100, 100],  # It again, surer.
            [200, 0, 240, 39],  # The second.
            [0, 0, 100, 39],  # Too little of the first: an overlap of 0.39.
            [400, 0, 420, 18],  # What is ignored.
            [401, 0, 411, 5],  # A part of what is ignored.
            [700, 0, 740, 40],  # Nothing.
        ],
        float,
    )
    scores = [0.8, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert list(roc.judge(boxes, scores, FACES, IGNORED)) == [
        (0.9, 0),
        (0.8, -1),
        (0.7, 1),
        (0.6, -1),
        (0.3, -1),
    ]
    assert not list(roc.judge(np.zeros((0, 4)), [], FACES, IGNORED))
    nothing = np.zeros((0, 4))
    assert list(roc.judge(boxes[:1], [0.8], nothing, nothing)) == [(0.8, -1)]


def test_recall_at_numbers_of_false_boxes(roc):
    truth = {
        "boxes": np.concatenate([FACES, IGNORED]),
        "crowd": np.array([False, False, True]),
    }
    far = np.array([[600, 0, 640, 40]], float)
    first = np.concatenate([FACES[:1], far]), np.array([0.9, 0.5])
    second = np.concatenate([far, FACES[1:], FACES[:1]]), np.array([0.8, 0.5, 0.4])
    judged = roc.Judged([first, second], [truth, truth], ["a", "b"], np.zeros(4))
    assert judged.wrong == 2
    assert judged.sides.tolist() == [100, 40, 100, 40]
    assert judged.sets.tolist() == ["a", "a", "b", "b"]
    assert judged.found(0).tolist() == [True, False, False, False]
    # A face whose score is that of the second false box comes only with it.
    assert judged.found(1).tolist() == [True, False, False, False]
    assert judged.found(2).tolist() == [True, False, True, True]
    assert judged.curve() == ([0, 1, 2], [0.25, 0.25, 0.75])


def test_windows_rank_by_the_stages_that_they_pass(roc):
    cascade = random_cascade(3, slack=0.3)
    width, height = cascade.window
    random = np.random.default_rng(0)
    windows = random.integers(0, 256, (60, height, width), dtype=np.uint8)
    ranks = roc.rank(cascade, windows)
    for window, rank in zip(windows, ranks, strict=True):
        passed = [
            len(roc.first(cascade, stages).windows(window, threads=1)[1]) > 0
            for stages in range(1, len(cascade.stage_trees) + 1)
        ]
        expected = passed.index(False) if False in passed else len(passed)
        assert int(rank) == expected
    assert len(set(ranks.astype(int))) > 2
    whole = roc.first(cascade, len(cascade.stage_trees))
    np.testing.assert_array_equal(whole.leaves, cascade.leaves)
