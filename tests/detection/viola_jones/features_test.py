"""Haar features: how many there are, their sums by loops, and the detector's view."""

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import boosting, boosting_kernels, features
from mlcvtf.detection.viola_jones.cascade import Cascade


def pictures(count=5, height=24, width=24, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width), dtype=np.uint8)


def some(kind="all", window=(24, 24), count=60, seed=1):
    every = features.haar_features(window, kind)
    random = np.random.default_rng(seed)
    return every.select(random.choice(len(every.weights), count, replace=False))


def pixels(rectangle, tilted, shape):
    """The pixels of a rectangle, by the recursive definition of its integral."""
    x, y, w, h = map(int, rectangle)
    height, width = shape
    row, column = np.mgrid[:height, :width]
    if not tilted:
        return (x <= column) & (column < x + w) & (y <= row) & (row < y + h)

    def above(corner_x, corner_y):
        # What a tilted integral image adds up: the cone over its corner.
        return (np.abs(column - corner_x + 1) <= corner_y - row - 1).astype(int)

    inside = (
        above(x, y)
        - above(x - h, y + h)
        - above(x + w, y + w)
        + above(x + w - h, y + w + h)
    )
    assert set(np.unique(inside)) <= {0, 1}
    return inside.astype(bool)


def test_viola_and_jones_count():
    assert len(features.haar_features((24, 24)).weights) == 162336


@pytest.mark.parametrize(
    "kind, window, count",
    [
        # What opencv_traincascade prints for its modes.
        ("all", (24, 24), 261600),
        ("all", (20, 20), 125199),
        ("basic", (20, 20), 78460),
    ],
)
def test_opencv_s_counts(kind, window, count):
    assert len(features.haar_features(window, kind).weights) == count


@pytest.mark.parametrize("window", [(9, 7), (6, 12)])
def test_features_are_different_balanced_and_inside(window):
    found = features.haar_features(window, "all")
    width, height = window
    for rectangles, weights, tilted in zip(*found, strict=True):
        total = np.zeros((height, width))
        for rectangle, weight in zip(rectangles, weights, strict=True):
            if weight:
                inside = pixels(rectangle, tilted, (height, width))
                # No rectangle is cut by the window.
                area = rectangle[2] * rectangle[3] * (2 if tilted else 1)
                assert inside.sum() == area
                total += weight * inside
        assert total.sum() == 0 and total.any()
    rows = np.concatenate(
        [found.rectangles.reshape(-1, 12), found.weights, found.tilted[:, None]], axis=1
    )
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_a_window_without_room_has_no_such_feature():
    assert len(features.haar_features((3, 3)).weights) > 0
    three = features.haar_features((3, 3), "core")
    assert (three.weights[:, 1] == 9).sum() == 1


@pytest.mark.parametrize("window", [(24, 24), (12, 20)])
def test_values_equal_sums_of_pixels(window):
    chosen, shown = some("all", window), pictures(5, window[1], window[0])
    assert 0 < chosen.tilted.sum() < len(chosen.tilted)
    found = features.values(chosen, features.integrate(shown, tilted=True))
    for n, picture in enumerate(shown):
        inner = picture[1:-1, 1:-1].astype(float)
        for f, (rectangles, weights, tilted) in enumerate(zip(*chosen, strict=True)):
            total = sum(
                weight * picture[pixels(r, tilted, picture.shape)].sum(dtype=float)
                for r, weight in zip(rectangles, weights, strict=True)
                if weight
            )
            expected = total / (inner.std() * inner.size)
            np.testing.assert_allclose(found[f, n], expected, rtol=1e-5, atol=1e-6)


def test_light_and_contrast_change_nothing():
    shown = pictures() // 4
    one, two = (
        features.values(some("core"), features.integrate(p))
        for p in (shown, 3 * shown + 20)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_flat_windows_have_no_values():
    shown = pictures()
    shown[1] = 100
    # A border does not count, in the detector neither.
    shown[2, 1:-1, 1:-1] = 0
    windows = features.integrate(shown)
    assert (windows.norms == 0).tolist() == [False, True, True, False, False]
    assert not features.values(some("core"), windows)[:, 1:3].any()


def detects(chosen, f, threshold, picture):
    """Whether a cascade of one stump passes the picture as a window."""
    cascade = Cascade(
        picture.shape[::-1],
        *(part[f : f + 1] for part in chosen),
        stage_trees=np.array([1], np.int32),
        stage_thresholds=np.array([0.5], np.float32),
        tree_nodes=np.array([1], np.int32),
        features=np.array([0], np.int32),
        thresholds=np.array([threshold], np.float32),
        children=np.array([[0, -1]], np.int32),
        leaves=np.array([0, 1], np.float32),
    )
    return len(cascade.detect(picture, min_neighbors=0)) == 1


@pytest.mark.parametrize("window", [(24, 24), (19, 19)])
def test_a_threshold_means_the_same_in_the_detector(window):
    chosen = some("all", window, 40)
    shown = pictures(2, window[1], window[0], seed=2)
    found = features.values(chosen, features.integrate(shown, tilted=True))
    for n, picture in enumerate(shown):
        for f, value in enumerate(found[:, n]):
            assert detects(chosen, f, value, picture)
            higher = np.nextafter(value, np.float32(np.inf))
            assert not detects(chosen, f, higher, picture)


def test_bins_keep_the_order_of_values_and_are_even():
    shown, chosen = pictures(2000, seed=3), some("all", count=10)
    windows = features.integrate(shown, tilted=True)
    values = features.values(chosen, windows)
    bins = boosting.empty_bins(len(values), 1999)
    boosting_kernels.fill_bins(
        (windows.sums[:, :1999].copy(), windows.tilted[:, :1999].copy()),
        features.corners(chosen, windows),
        chosen.weights,
        chosen.tilted,
        windows.norms[:1999],
        bins,
    )
    assert not bins[:, 1999:].any()
    for row, out in zip(values[:, :1999], bins[:, :1999], strict=True):
        sorted_bins = out[np.argsort(row, kind="stable")].astype(int)
        assert (np.diff(sorted_bins) >= 0).all()
        assert np.bincount(sorted_bins).max() < 30
        assert len(np.unique(sorted_bins)) > 200


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 5, 5)), np.zeros((5, 5), np.uint8), np.zeros((1, 2, 9), np.uint8)],
)
def test_windows_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="received"):
        features.integrate(wrong)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="basic, core, all"):
        features.haar_features((24, 24), "lbp")
