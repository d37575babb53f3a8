"""Windows that are mined are the detector's, and there are enough or all of them."""

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import features, mining, pyramid, stage, training
from tests.detection.viola_jones import made_faces


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    """Two stages, which let a few windows pass."""
    faces = training.Faces(made_faces.faces(80), made_faces.faces(40, 1))
    settings = training.Settings(made_faces.WINDOW, 2, negatives=150)
    folder = tmp_path_factory.mktemp("mining")
    return training.Training(
        faces, made_faces.backgrounds(2), settings, folder, 1
    ).run()


def mine(cascade, count, pictures=None, **options):
    pictures = made_faces.backgrounds(3) if pictures is None else pictures
    return mining.mine(cascade, pictures, made_faces.WINDOW, count, **options)


def test_without_a_cascade_windows_are_of_all_pictures_and_not_flat():
    pictures = [np.full((40, 50), 20 * i, np.uint8) for i in range(4)]
    for i, picture in enumerate(pictures):
        picture[::2] += 100 + i
    pictures.append(np.full((40, 50), 7, np.uint8))
    mined = mine(None, 60, pictures)
    assert mined.windows.shape == (60, 12, 12)
    assert (features.integrate(mined.windows).norms != 0).all()
    # Levels are blends of a picture's two values.
    low, high = mined.windows.min((1, 2)), mined.windows.max((1, 2))
    seen = {
        i
        for i in range(4)
        for a, b in zip(low, high, strict=True)
        if a >= 20 * i and b <= 120 + 21 * i
    }
    assert seen == set(range(4))
    assert mined.passed == mined.scanned > 0


def test_every_window_passes_the_cascade(cascade):
    mined = mine(cascade, 100)
    assert len(mined.windows) == 100 <= mined.passed < mined.scanned / 10
    assert len(stage.passing(cascade, mined.windows)) == 100
    rejected = mine(None, 100).windows
    assert len(stage.passing(cascade, rejected)) < 50


def test_all_are_found_where_there_are_not_enough(cascade):
    picture = made_faces.backgrounds(1)[0]
    mined = mine(cascade, 10**6, [picture])
    assert len(mined.windows) == mined.passed > 0
    # By running the detector on all views and offsets.
    expected = 0
    for view in range(mining.VIEWS):
        for level in mining.levels(mining.turned(picture, view), (12, 12), 1.1):
            for x, y in mining.OFFSETS:
                expected += len(cascade.windows(level[y:, x:].copy(), 1e9)[0])
    assert mined.passed == expected


def test_scanned_counts_the_places_of_windows():
    mined = mine(None, 10**4, [made_faces.backgrounds(1)[0][:14, :16]])
    sizes = [
        level.shape
        for level in mining.levels(np.zeros((14, 16), np.uint8), (12, 12), 1.1)
    ]
    assert sizes == [(14, 16), (13, 15)]
    # Rows times columns at steps of 2, for each offset.
    first, second = 2 * 3 + 2 * 2 + 1 * 3 + 1 * 2, 4 * (1 * 2)
    assert mined.scanned == mining.VIEWS * (first + second)


def test_threads_change_nothing_and_seeds_do(cascade):
    one, two, other = (
        mine(cascade, 60, threads=t, seed=s) for t, s in ((1, 5), (3, 5), (1, [5, 1]))
    )
    np.testing.assert_array_equal(one.windows, two.windows)
    assert one[1:] == two[1:]
    assert not np.array_equal(one.windows, other.windows)


def test_few_windows_of_a_scene_where_there_are_many_scenes(cascade):
    pictures = (
        made_faces.backgrounds(1) + [made_faces.backgrounds(1, 7)[0][:20, :20]] * 9
    )
    calls = []

    class Seen(list):
        def __getitem__(self, i):
            calls.append(i)
            return super().__getitem__(i)

    mine(None, 20, Seen(pictures), threads=1)
    assert 0 < len(calls) < len(pictures) * mining.SCENES


def test_no_scene_gives_most_where_there_are_many(cascade, monkeypatch):
    monkeypatch.setattr(mining, "CHUNK", 1)
    picture, calls = made_faces.scene()[0], []

    class Seen(list):
        def __getitem__(self, i):
            calls.append(i)
            return super().__getitem__(i)

    mined = mine(cascade, 20, Seen([picture] * 5), threads=1)
    assert len(mined.windows) == 20 and mined.passed > 40
    assert len(calls) == 20 / mining.LEAST_OF_SCENE


def test_pictures_smaller_than_the_window_give_none():
    mined = mine(None, 5, [np.zeros((11, 300), np.uint8)])
    assert mined.windows.shape == (0, 12, 12) and mined.scanned == 0


def test_eight_views_are_different():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    views = {
        mining.turned(picture, v).tobytes() + bytes(mining.turned(picture, v).shape)
        for v in range(8)
    }
    assert len(views) == 8
    np.testing.assert_array_equal(mining.turned(picture, 4), picture[:, ::-1])


def test_levels_are_the_detector_s(cascade):
    picture = made_faces.scene()[0]
    # Below twice the window's size the detector takes every second pixel too.
    found = cascade.windows(picture, 1.1, max_size=(23, 23))[0]
    scales = pyramid.scales(picture.shape[::-1], made_faces.WINDOW, 1.1)
    expected = set()
    for scale, level in zip(
        scales, mining.levels(picture, made_faces.WINDOW, 1.1), strict=True
    ):
        side = np.rint(np.float32(12) * scale)
        for x, y in cascade.windows(level, 1e9)[0][:, :2].astype(np.float32):
            if scale < 2:
                expected.add((*np.rint(np.array([x, y]) * scale), side, side))
    # Of some pictures the detector leaves out the last row.
    assert len(found) > 20
    assert set(map(tuple, found.tolist())) <= expected
    assert len(expected) <= len(found) * 1.1
