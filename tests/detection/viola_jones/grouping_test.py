"""Groups of windows by OpenCV's rule, and the best of each by ours."""

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import grouping


def alike(a, b, epsilon=0.2):
    delta = epsilon * 0.5 * (min(a[2], b[2]) + min(a[3], b[3]))
    edges = [(v[0], v[1], v[0] + v[2], v[1] + v[3]) for v in (a, b)]
    return all(abs(p - q) <= delta for p, q in zip(*edges, strict=True))


def chains(windows):
    """Lists the groups that chains of alike windows form, by walking."""
    left, groups = list(range(len(windows))), []
    while left:
        group, open_ = [], [left.pop(0)]
        while open_:
            one = open_.pop()
            group.append(one)
            near = [i for i in left if alike(windows[one], windows[i])]
            left = [i for i in left if i not in near]
            open_ += near
        groups.append(sorted(group))
    return groups


def test_groups_are_what_chains_connect():
    generator = np.random.default_rng(0)
    windows = generator.integers(0, 60, (150, 4)).astype(np.int32)
    windows[:, 2:] = generator.integers(18, 30, (150, 1))
    expected = [g for g in chains(windows) if len(g) > 2]
    assert 5 < len(expected) < 40
    found, counts = grouping.group(windows, 2)
    means = np.array([np.rint(windows[g].mean(0)) for g in expected])
    sizes = np.array([len(g) for g in expected])
    kept = [(list(map(int, m)), int(c)) for m, c in zip(means, sizes, strict=True)]
    for box, count in zip(found.tolist(), counts.tolist(), strict=True):
        assert (box, count) in kept
    # What is missing lies within a larger group with more windows.
    assert len(found) >= len(kept) - 5


def test_means_and_counts_in_the_order_of_the_first_windows():
    windows = [[50, 50, 20, 20], [0, 0, 10, 10], [51, 51, 21, 20], [1, 0, 10, 11]]
    found, counts = grouping.group(windows * 2, 1)
    np.testing.assert_array_equal(found, [[50, 50, 20, 20], [0, 0, 10, 10]])
    np.testing.assert_array_equal(counts, [4, 4])


def test_small_groups_and_those_inside_better_ones_are_dropped():
    outer, inner = [0, 0, 100, 100], [30, 30, 20, 20]
    found, _ = grouping.group([outer] * 5 + [inner] * 2, 1)
    np.testing.assert_array_equal(found, [outer])
    # Neither counts more here: the inner has 4, and so has the outer.
    found, _ = grouping.group([outer] * 4 + [inner] * 4, 1)
    np.testing.assert_array_equal(found, [outer, inner])
    found, counts = grouping.group([outer, inner], 1)
    assert found.shape == (0, 4) and counts.shape == (0,)
    found, counts = grouping.group(np.zeros((0, 4)), 3)
    assert found.shape == (0, 4) and found.dtype == np.int32


def test_many_windows_need_little_memory():
    generator = np.random.default_rng(1)
    windows = generator.integers(0, 4000, (30000, 4)).astype(np.int32)
    windows[:, 2:] = 24
    found, counts = grouping.group(windows, 1)
    assert counts.sum() <= 30000 and (counts > 1).all()


def test_refuses_no_neighbours():
    with pytest.raises(ValueError, match="min_neighbors is at least 1, received 0"):
        grouping.group([[0, 0, 1, 1]], 0)


def overlap(a, b):
    sides = [min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


@pytest.mark.parametrize("least", [0, 2])
def test_the_best_stand_for_those_that_overlap_them(least):
    generator = np.random.default_rng(2)
    windows = generator.integers(0, 80, (200, 4)).astype(np.int32)
    windows[:, 2:] = generator.integers(10, 40, (200, 2))
    # Many scores are equal: the first counts more.
    scores = generator.integers(0, 9, 200).astype(np.float32)
    left = sorted(range(200), key=lambda i: (-scores[i], i))
    expected = []
    while left:
        best = left[0]
        near = [i for i in left if overlap(windows[best], windows[i]) >= 0.3]
        left = [i for i in left if i not in near]
        expected += [best] if len(near) > least else []
    assert 10 < len(expected) < 60
    np.testing.assert_array_equal(grouping.suppress(windows, scores, least), expected)


def test_an_overlap_of_just_three_tenths():
    windows = [[0, 0, 10, 10], [7, 0, 6, 10], [0, 20, 10, 10], [7, 20, 7, 10]]
    # 30 of 130, and 30 of 140; then 39 and 42 of 130 and 140 pixels.
    scores = np.float32([4, 3, 2, 1])
    assert grouping.suppress(windows, scores, 0).tolist() == [0, 1, 2, 3]
    near = [[0, 0, 10, 10], [0, 7, 10, 3]]
    assert grouping.suppress(near, scores[:2], 0).tolist() == [0]
    assert grouping.suppress(near, scores[:2], 1).tolist() == [0]
    assert grouping.suppress(near, scores[:2], 2).tolist() == []
    assert grouping.suppress(np.zeros((0, 4)), scores[:0], 0).shape == (0,)
