"""The scan against loops over windows that follow the definitions."""

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import pyramid, scan
from tests.detection.viola_jones.cascades import WINDOW, random_cascade

KINDS = {
    "stumps": {},
    "trees": {"nodes": (1, 3, 2)},
    "tilted": {"tilted": 0.5, "nodes": (1, 2)},
    "fractions": {"fractions": True},
}


def picture(height=45, width=60, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 5 + 1, width // 5 + 1))
    fine = np.kron(coarse, np.ones((5, 5)))[:height, :width]
    return np.clip(fine + generator.normal(0, 12, fine.shape), 0, 255).astype(np.uint8)


def cone(image, column, row):
    """Sums the pixels over a corner of a tilted rectangle."""
    rows, columns = np.indices(image.shape)
    inside = (rows < row) & (np.abs(columns - column + 1) <= row - rows - 1)
    return int(image[inside].sum())


def rectangle_sum(image, place, rectangle, tilted):
    x, y, w, h = rectangle
    x, y = x + place[0], y + place[1]
    if not tilted:
        return int(image[y : y + h, x : x + w].sum())
    corners = (x, y), (x - h, y + h), (x + w, y + w), (x + w - h, y + w + h)
    a, b, c, d = (cone(image, *corner) for corner in corners)
    return a - b - c + d


def stage_sums(cascade, image, place):
    """Yields the sum of each stage at a window, None for a flat one."""
    width, height = cascade.window
    inner = image[place[1] + 1 :, place[0] + 1 :][: height - 2, : width - 2]
    inner = inner.astype(np.int64)
    spread = inner.size * np.square(inner).sum() - inner.sum() ** 2
    norm = np.float32(1 / np.sqrt(max(spread, 1e-30)))
    if spread <= 0 or inner.size * norm >= 0.1:
        yield None
        return
    tree = node = 0
    for count in cascade.stage_trees:
        total = 0.0
        for _ in range(count):
            here = 0
            while True:
                feature = cascade.features[node + here]
                value = np.float32(0)
                for rectangle, weight in zip(
                    cascade.rectangles[feature], cascade.weights[feature], strict=True
                ):
                    if weight:
                        found = rectangle_sum(
                            image, place, rectangle, cascade.tilted[feature]
                        )
                        value += weight * np.float32(found)
                right = not value * norm < cascade.thresholds[node + here]
                here = cascade.children[node + here, int(right)]
                if here <= 0:
                    break
            total += cascade.leaves[node + tree - here]
            node, tree = node + cascade.tree_nodes[tree], tree + 1
        yield total


def by_loops(cascade, image, rows):
    """Lists the windows of size 1 that pass, with their confidences."""
    thresholds = cascade.stage_thresholds - scan.STAGE_SLACK
    found, (width, height) = [], cascade.window
    for row in range(rows):
        skip = False
        for column in range(0, image.shape[1] + 1 - width, 2):
            if skip:
                skip = False
                continue
            sums = stage_sums(cascade, image, (column, 2 * row))
            for stage, total in enumerate(sums):
                if total is None or total < thresholds[stage]:
                    # OpenCV leaves out the window after one that stage 0 turns down.
                    skip = total is not None and stage == 0
                    break
            else:
                box = (column, 2 * row, width, height)
                found.append((*box, total - thresholds[-1]))
    return np.array(found).reshape(-1, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_loops_over_windows(kind):
    cascade = random_cascade(2, **KINDS[kind])
    image = picture()
    level = pyramid.build(image, WINDOW, 1.1, max_size=WINDOW).levels[0]
    expected = by_loops(cascade, image, level.rows)
    boxes, confidences = cascade.windows(image, 1.1, max_size=WINDOW, threads=1)
    # Of 408 windows.
    assert 15 < len(expected) < 390
    np.testing.assert_array_equal(boxes, expected[:, :4])
    np.testing.assert_allclose(confidences, expected[:, 4], atol=1e-5)


def test_pieces_jobs_and_threads_change_nothing(monkeypatch):
    cascade = random_cascade(2, nodes=(1, 2), tilted=0.3)
    image = picture(120, 170)
    expected = cascade.windows(image, 1.1, threads=1)
    assert len(expected[0]) > 50
    for piece, job, threads in ((1, 1, 1), (40, 100, 2), (10**6, 10**7, 3)):
        monkeypatch.setattr(scan, "PIECE", piece)
        monkeypatch.setattr(scan, "JOB", job)
        found = cascade.windows(image, 1.1, threads=threads)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_job_has_levels_of_one_step():
    levels = pyramid.build(picture(120, 170), WINDOW, 1.1).levels
    jobs = scan.share(levels)
    assert {len(set(job[:, 1])) for job in jobs} == {1}
    assert {int(job[0, 1]) for job in jobs} == {1, 2}
    windows = sum(((job[:, 4] - job[:, 3]) * job[:, 2]).sum() for job in jobs)
    assert windows == sum(level.rows * level.columns for level in levels)


def test_pictures_without_a_window():
    cascade = random_cascade(0)
    for shape in ((11, 40), (40, 13), (1, 1), (0, 0), (0, 50)):
        boxes, confidences = cascade.windows(np.zeros(shape, np.uint8))
        assert boxes.shape == (0, 4) and boxes.dtype == np.int32
        assert confidences.shape == (0,)
        assert cascade.detect(np.zeros(shape, np.uint8)).shape == (0, 4)
    # Flat windows have no variance to divide by.
    assert len(cascade.windows(np.full((40, 50), 7, np.uint8))[0]) == 0


def test_pairs_of_corners_are_the_feature():
    cascade = random_cascade(3, stages=(40,), tilted=0.4)
    counts, places, weights = cascade.pairs
    assert {3, 4, 6} <= set(counts)
    image = picture(*WINDOW[::-1]).astype(np.int64)
    padded = np.pad(image, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    for feature in np.flatnonzero(counts):
        if cascade.tilted[feature]:
            values = {
                corner: cone(image, *corner)
                for corner in map(tuple, places[feature].reshape(-1, 2).tolist())
            }
        else:
            values = {(x, y): padded[y, x] for x in range(15) for y in range(13)}
        found = sum(
            weight * (values[tuple(a)] - values[tuple(b)])
            for weight, (a, b) in zip(
                weights[feature].tolist(), places[feature].tolist(), strict=True
            )
        )
        expected = sum(
            weight * rectangle_sum(image, (0, 0), rectangle, cascade.tilted[feature])
            for weight, rectangle in zip(
                cascade.weights[feature], cascade.rectangles[feature], strict=True
            )
            if weight
        )
        assert found == expected


@pytest.mark.parametrize(
    "arguments, rule",
    [
        ({"gray": np.zeros((30, 30), np.float32)}, "uint8 .height, width., received"),
        ({"gray": np.zeros((30, 30, 3), np.uint8)}, r"received uint8 \[30, 30, 3\]"),
        ({"scale_factor": 1.0}, "scale_factor is above 1, received 1.0"),
        ({"scale_factor": float("nan")}, "scale_factor is above 1, received nan"),
        ({"threads": 0}, "threads is at least 1, received 0"),
        ({"min_neighbors": -1}, "min_neighbors is at least 0, received -1"),
    ],
)
def test_refuses_bad_arguments(arguments, rule):
    arguments = {"gray": picture()} | arguments
    with pytest.raises(ValueError, match=rule):
        random_cascade(0).detect(**arguments)


def test_scores_of_objects_are_those_of_their_best_windows():
    cascade = random_cascade(4, slack=0.4)
    image = picture(70, 90, 3)
    windows, confidences = cascade.windows(image, threads=1)
    boxes, scores = cascade.detect_scores(image, min_neighbors=1, threads=1)
    assert 2 < len(boxes) < len(windows) / 2
    assert boxes.dtype == np.int32 and scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all() and scores[0] == confidences.max()
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    assert (high <= image.shape[::-1]).all()
    ends = np.minimum(windows[:, :2] + windows[:, 2:], image.shape[::-1])
    every = {
        (*a, *b, s) for a, b, s in zip(windows[:, :2], ends, confidences, strict=True)
    }
    assert {(*a, *b, s) for a, b, s in zip(low, high, scores, strict=True)} <= every
    more = cascade.detect_scores(image, min_neighbors=0, threads=1)[0]
    assert {*map(tuple, boxes)} < {*map(tuple, more)}
    with pytest.raises(ValueError, match="min_neighbors is at least 0"):
        cascade.detect_scores(image, min_neighbors=-1)
    none = cascade.detect_scores(np.zeros((5, 5), np.uint8))
    assert none[0].shape == (0, 4) and none[1].shape == (0,)
