"""Average precision: by hand, by loops, and as pycocotools measures it."""

import doctest
import json

import numpy as np
import pytest

from mlcvtf.metrics import average_precision
from tests.metrics import make_coco_cases

CASES = json.loads(make_coco_cases.FIXTURE.read_text())


@pytest.mark.parametrize("case", CASES)
def test_coco_equals_the_stored_numbers_of_pycocotools(case):
    ours = average_precision.coco_average_precision(case["detections"], case["truths"])
    assert list(ours) == list(case["pycocotools"])
    assert ours == pytest.approx(case["pycocotools"], abs=1e-6)
    assert 0 < ours["AP"] < 1


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(100, 130))
def test_coco_equals_pycocotools(seed):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    sizes = [int(rng.integers(1, most)) for most in (15, 6, 12, 30)]
    detections, truths = make_coco_cases.random_case(seed, *sizes)
    ours = average_precision.coco_average_precision(detections, truths)
    peer = make_coco_cases.pycocotools_numbers(detections, truths)
    assert ours == pytest.approx(peer, abs=1e-6)


def test_coco_keeps_a_hundred_detections_of_a_class():
    truth = [{"boxes": [[0, 0, 10, 10]], "labels": [0]}]
    wrong = [[100 + i, 100, 110 + i, 110] for i in range(99)]
    found = {"boxes": wrong + [[0, 0, 10, 10]], "labels": [0] * 100,
             "scores": np.linspace(1, 0.1, 100)}
    numbers = average_precision.coco_average_precision([found], truth)
    assert numbers["AR100"] == 1 and numbers["AR10"] == 0
    assert numbers["AP"] == pytest.approx(0.01)
    found = {"boxes": wrong + [[0, 90, 10, 99], [0, 0, 10, 10]], "labels": [0] * 101,
             "scores": np.linspace(1, 0.1, 101)}
    numbers = average_precision.coco_average_precision([found], truth)
    assert numbers["AR100"] == 0 and numbers["AP"] == 0
    assert numbers["APm"] == -1


def voc_by_loops(detections, truths, label, overlap):
    """The program of VOC's devkit, with plain loops and a pixel of no width."""
    rows = []
    for image, picture in enumerate(detections):
        rows += [(score, image, box) for box, score, name in zip(
            picture["boxes"], picture["scores"], picture["labels"], strict=True)
            if name == label]
    rows.sort(key=lambda row: -row[0])
    taken, outcome = set(), []
    for _, image, box in rows:
        best, best_value = None, overlap
        truth = truths[image]
        for index, (other, name) in enumerate(
                zip(truth["boxes"], truth["labels"], strict=True)):
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if name != label or width <= 0 or height <= 0:
                continue
            own, theirs = ((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
            value = width * height / (own + theirs - width * height)
            if value > best_value or (best is None and value == best_value):
                best, best_value = index, value
        if best is None:
            outcome.append(False)
        elif not truth["difficult"][best]:
            outcome.append((image, best) not in taken)
            taken.add((image, best))
    positives = sum(name == label and not hard for truth in truths
                    for name, hard in zip(truth["labels"], truth["difficult"],
                                          strict=True))
    hits = np.cumsum(outcome)
    precision = np.concatenate([[0], hits / np.arange(1, len(hits) + 1), [0]])
    recall = np.concatenate([[0], hits / positives, [1]])
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    return sum((recall[1:] - recall[:-1]) * precision[1:]), positives


@pytest.mark.parametrize("overlap", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(6))
def test_voc_equals_loops(seed, overlap):
    detections, truths = make_coco_cases.random_case(seed, 8, 3, 6, 10)
    for truth in truths:
        truth["difficult"] = truth.pop("crowd")
    ours = average_precision.average_precision(detections, truths, overlap)
    assert ours
    for label in range(3):
        expected, positives = voc_by_loops(detections, truths, label, overlap)
        assert (label in ours) == (positives > 0)
        if positives:
            assert ours[label] == pytest.approx(expected, abs=1e-12)


def test_a_second_detection_of_one_truth_is_wrong():
    truth = [{"boxes": [[0, 0, 10, 10], [30, 0, 40, 10]], "labels": [0, 0]}]
    found = [{"boxes": [[0, 0, 10, 10], [1, 0, 10, 10], [30, 0, 40, 10]],
              "scores": [0.9, 0.8, 0.7], "labels": [0, 0, 0]}]
    assert average_precision.average_precision(found, truth)[0] == pytest.approx(
        0.5 + 0.5 * 2 / 3)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    truth = [{"boxes": [[0, 0, 10, 10], [50, 50, 150, 150]], "labels": [0, 0],
              "crowd": [False, True]}]
    inside, outside = [60, 60, 70, 70], [200, 200, 210, 210]
    face = [0, 0, 10, 10]
    for boxes, expected in (([inside, inside, face], 1.0), ([outside, face], 0.5),
                            ([[45, 60, 54.9, 70], face], 0.5),
                            ([[45, 60, 55, 70], face], 1.0)):
        found = [{"boxes": boxes, "labels": [0] * len(boxes),
                  "scores": np.linspace(0.9, 0.5, len(boxes))}]
        assert average_precision.average_precision(found, truth) == {0: expected}


def test_nothing_found_and_nothing_there():
    nothing = {"boxes": [], "scores": [], "labels": []}
    truth = {"boxes": np.array([[0, 0, 9, 9.0]]), "labels": np.array([2])}
    assert average_precision.average_precision([nothing], [truth]) == {2: 0.0}
    numbers = average_precision.coco_average_precision([nothing], [truth])
    assert numbers["AP"] == 0 and numbers["AR100"] == 0 and numbers["APl"] == -1
    empty = [{"boxes": [], "labels": []}]
    assert average_precision.average_precision([nothing], empty) == {}
    assert set(average_precision.coco_average_precision([nothing], empty).values()) == {
        -1.0}
    assert average_precision.average_precision([], []) == {}


def test_padding_changes_nothing():
    case = CASES[0]
    padded_truths, padded = [], []
    for truth, found in zip(case["truths"], case["detections"], strict=True):
        padded_truths.append({
            "boxes": truth["boxes"] + [[0, 0, 300, 300]], "area": truth["area"] + [9e4],
            "labels": truth["labels"] + [-1], "crowd": truth["crowd"] + [True]})
        padded.append({
            "boxes": [[-1, -1, -1, -1]] + found["boxes"],
            "scores": [2.0] + found["scores"], "labels": [-1] + found["labels"]})
    assert average_precision.coco_average_precision(padded, padded_truths) == (
        average_precision.coco_average_precision(case["detections"], case["truths"]))


def test_precision_and_recall_at_each_score():
    truth = [{"boxes": [[0, 0, 10, 10], [30, 0, 40, 10]], "labels": [0, 0]}]
    found = [{"boxes": [[30, 0, 40, 10], [80, 0, 90, 10], [0, 0, 10, 9]],
              "scores": [0.2, 0.9, 0.4], "labels": [0, 0, 0]}]
    precision, recall, score = average_precision.precision_recall(found, truth)[0]
    np.testing.assert_allclose(precision, [0, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [0, 0.5, 1])
    np.testing.assert_allclose(score, [0.9, 0.4, 0.2])


@pytest.mark.parametrize("change", [
    {"boxes": [[0, 0, 1]]}, {"scores": [0.1, 0.2]}, {"boxes": []},
])
def test_arrays_that_do_not_fit_are_refused(change):
    found = {"boxes": [[0, 0, 1, 1]], "scores": [0.5], "labels": [0]} | change
    truth = {"boxes": [[0, 0, 1, 1]], "labels": [0]}
    with pytest.raises(ValueError, match="of a picture with 1 labels"):
        average_precision.average_precision([found], [truth])
    with pytest.raises(ValueError, match="1 and 2 pictures"):
        average_precision.average_precision([found], [truth, truth])


def test_examples():
    assert doctest.testmod(average_precision).failed == 0
