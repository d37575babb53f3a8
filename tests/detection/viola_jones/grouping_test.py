"""Groups of windows by OpenCV's rule."""

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
