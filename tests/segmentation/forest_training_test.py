"""One seed gives one forest, however it is grown; training goes on after a kill."""

import functools
import json

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import (
    compiled_growth,
    features,
    forest,
    forest_training,
    information,
    training_pixels,
)
from mlcvtf.segmentation.body_parts.candidates import candidates, sample_pool
from mlcvtf.segmentation.body_parts.forest_training import Options, train_forest
from tests.case import child
from tests.segmentation.scenes import CLASSES, scene, scenes
from tests.training.cluster import run_workers

TINY = Options(
    trees=2,
    depth=6,
    features=40,
    thresholds=12,
    pixels_per_image=120,
    minimum_samples=10,
    seed=5,
)


class SlowEngine:
    """Grows by whole pictures and `depth_features`: the oracle."""

    def __init__(self, people, pixels, classes, options, threads, tree, pool=None):
        self.options, self.tree, self.pool = options, tree, pool
        self.pixels, self.classes = pixels, classes
        self.pictures = [np.where(labels > 0, depth, 0) for depth, labels in scenes(8)]
        self.open = [np.arange(len(pixels))]

    def root_counts(self):
        return self.counts(self.open[0])

    def counts(self, own):
        return np.bincount(self.pixels[own, 3], minlength=self.classes)

    def values(self, own, offsets):
        result = np.zeros((len(own), len(offsets)), np.float32)
        for image in np.unique(self.pixels[own, 0]):
            some = self.pixels[own, 0] == image
            _, rows, columns, _ = self.pixels[own[some]].T
            result[some] = features.depth_features(
                self.pictures[image], rows, columns, offsets
            )
        return result

    def search(self, index, paths):
        found = []
        for node, path in zip(index, paths, strict=True):
            own = self.open[node]
            offsets, thresholds = (
                part[0]
                for part in candidates(self.options, self.tree, [path], self.pool)
            )
            bins = (self.values(own, offsets)[..., None] >= thresholds / 512).sum(-1)
            histogram = np.zeros((len(offsets), len(thresholds) + 1, self.classes), int)
            for f in range(len(offsets)):
                np.add.at(histogram[f], (bins[:, f], self.pixels[own, 3]), 1)
            score, f, t = information.best_split(
                histogram[None], information.fixed_point_tables()
            )[0]
            found.append((score, offsets[f], thresholds[t]))
        scores, offsets, thresholds = zip(*found, strict=True) if found else [()] * 3
        return (
            np.array(scores, np.int64),
            np.array(offsets, np.int16).reshape(-1, 4),
            np.array(thresholds, np.int16),
        )

    def split(self, index, offsets, thresholds):
        below = []
        for node, offset, threshold in zip(index, offsets, thresholds, strict=True):
            own = self.open[node]
            right = self.values(own, offset[None])[:, 0] >= threshold / 512
            below += [own[~right], own[right]]
        self.open = below
        return np.array([self.counts(own) for own in below]).reshape(
            -1, 2, self.classes
        )


def assert_same(one, other):
    for name, left, right in zip(one._fields, one, other, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.fixture(scope="module")
def grown():
    return train_forest(scenes(8), CLASSES, TINY, threads=1)


def test_equals_the_slow_definition(grown):
    assert grown.depth == 6 and len(grown.offsets) > 40
    assert_same(grown, train_forest(scenes(8), CLASSES, TINY, engine=SlowEngine))


def test_threads_and_blocks_change_nothing(grown, monkeypatch):
    monkeypatch.setattr(compiled_growth, "PIECES", 50)
    monkeypatch.setattr(compiled_growth, "MOST_NODES", 3)
    assert_same(grown, train_forest(scenes(8), CLASSES, TINY, threads=2))


def test_tensorflow_grows_the_same_forest(grown, monkeypatch):
    from mlcvtf.segmentation.body_parts import forest_tensorflow

    # Several blocks, several nodes at a time, and a node's features in two passes.
    monkeypatch.setattr(forest_tensorflow, "BLOCK", 300)
    monkeypatch.setattr(forest_tensorflow, "FEATURES", 7)
    monkeypatch.setattr(forest_tensorflow, "HISTOGRAMS", 25 * 13 * CLASSES)
    engine = forest_tensorflow.TensorFlowEngine
    one = TINY._replace(trees=1, depth=4)
    assert_same(
        train_forest(scenes(8), CLASSES, one),
        train_forest(scenes(8), CLASSES, one, engine=engine),
    )


SHORT = TINY._replace(trees=1, depth=4)


def growing(strategy, path):
    """Gives the arguments of a child that grows on eight scenes."""
    options = json.dumps(SHORT)
    return ["-m", "tests.segmentation.distributed_growth", strategy, path, 8, options]


def test_two_replicas_grow_the_same_forest(tmp_path):
    result = child(growing("mirrored", tmp_path / "forest.npz"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same(
        train_forest(scenes(8), CLASSES, SHORT), forest.load(tmp_path / "forest.npz")
    )


@pytest.mark.slow
def test_two_workers_grow_the_same_forest(tmp_path):
    ends = run_workers(
        tmp_path, lambda i: growing("multi_worker", tmp_path / f"{i}.npz"), 240
    )
    assert [code for code, _, _ in ends] == [0, 0], ends[0][1][-3000:]
    expected = train_forest(scenes(8), CLASSES, SHORT)
    for worker in range(2):
        assert_same(expected, forest.load(tmp_path / f"{worker}.npz"))


def test_seeds_trees_and_bagging_differ(grown):
    other = train_forest(scenes(8), CLASSES, TINY._replace(seed=6))
    assert not np.array_equal(grown.offsets, other.offsets)
    first, second = grown.roots
    assert not np.array_equal(grown.offsets[first], grown.offsets[second])


def test_learns(grown):
    right = np.zeros(0, bool)
    for depth, labels in scenes(5, first=100):
        parts, _ = forest.classify(grown, np.where(labels > 0, depth, 0))
        right = np.append(right, (parts == labels)[(labels > 0) & (depth > 0)])
    assert right.mean() > 0.85


def test_few_samples_make_leaves():
    large = train_forest(scenes(8), CLASSES, TINY._replace(minimum_samples=300))
    small = train_forest(scenes(8), CLASSES, TINY._replace(minimum_samples=2))
    assert len(large.offsets) < len(small.offsets)
    leaf = train_forest(scenes(8), CLASSES, TINY._replace(minimum_samples=10**6))
    assert len(leaf.offsets) == 0 and leaf.depth == 0 and len(leaf.roots) == 2


@pytest.mark.parametrize("seed", range(4))
def test_nothing_to_tell_apart_makes_leaves(seed):
    # No offset leaves the pixel: every value is 0, on one side of the one threshold.
    labels = np.ones((8, 8), np.uint8)
    labels[:, 4:] = 2
    options = TINY._replace(thresholds=1, largest_offset=1 / 128, seed=seed)
    picture = np.full((8, 8), 2.0), labels
    found = train_forest([picture], 2, options)
    assert len(found.offsets) == 0 and found.leaves.tolist() == [[128, 128]]


@pytest.mark.parametrize("most", [1, 2, 13])
def test_leaves_are_limited_to_the_splits_that_gain_most(grown, most):
    found = train_forest(scenes(8), CLASSES, TINY._replace(most_leaves=most))
    # A tree has one split less than leaves.
    assert len(found.offsets) == 2 * (most - 1) and len(grown.offsets) > 50
    if most == 13:
        # What fits is as without a limit.
        np.testing.assert_array_equal(found.offsets[:3], grown.offsets[:3])
    gains = np.array([5, -1, 9, 5, 0, 7])
    kept = forest_training._largest(gains, 3)
    assert kept.tolist() == [True, False, True, False, False, True]
    assert not forest_training._largest(gains, -2).any()


def test_a_pool_is_all_that_is_tried():
    pool = sample_pool(0, 9, 129.0)
    found = train_forest(scenes(8), CLASSES, TINY, pool=pool)
    assert {tuple(o) for o in found.offsets.tolist()} <= {
        tuple(o) for o in pool.tolist()
    }


class Killed(Exception):
    pass


class CountingEngine(compiled_growth.CompiledEngine):
    searched = 0

    def search(self, index, paths):
        type(self).searched += 1
        return super().search(index, paths)


@pytest.mark.parametrize("lines", [1, 4, 6, 9])
def test_goes_on_after_a_kill(tmp_path, grown, lines):
    left = [lines]

    def kill(line):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with pytest.raises(Killed):
        train_forest(scenes(8), CLASSES, TINY, tmp_path, report=kill)
    CountingEngine.searched = 0
    # The pictures are in the store: the stream is not touched again.
    again = train_forest(None, CLASSES, TINY, tmp_path, engine=CountingEngine)
    assert_same(grown, again)
    assert CountingEngine.searched == 2 * TINY.depth - lines
    assert not list(tmp_path.glob("*.partial"))


def test_another_training_in_the_folder_is_refused(tmp_path):
    train_forest(scenes(8), CLASSES, TINY, tmp_path)
    with pytest.raises(InputError, match="same pictures and options"):
        train_forest(None, CLASSES, TINY._replace(features=41), tmp_path)
    with pytest.raises(InputError, match="show 6 parts, received 5"):
        train_forest(None, 5, TINY, tmp_path)
    (tmp_path / "tree_1.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="tree_1.npz, which is damaged"):
        train_forest(None, CLASSES, TINY, tmp_path)
    with open(tmp_path / "depth.f32", "r+b") as file:
        file.truncate(400)
    with pytest.raises(InputError, match="is cut off"):
        train_forest(None, CLASSES, TINY, tmp_path)


def test_work_is_shared_by_pixels():
    sizes = np.array([5000, 3, 4, 5, 800, 2, 2, 2])
    found = compiled_growth.pieces(sizes, 100, 2)
    tried = np.zeros((8, 100), int)
    for nodes, low, high in found:
        tried[nodes, low:high] += 1
    assert (tried == 1).all()
    costs = [
        (sizes[nodes] + compiled_growth.NODE_COST).sum() * (high - low)
        for nodes, low, high in found
    ]
    # The largest node is cut by features; nothing weighs much more than the rest.
    assert sum(nodes == slice(0, 1) for nodes, _, _ in found) > 8
    assert max(costs) < 0.15 * sum(costs)


def test_bagging_draws_with_replacement(tmp_path):
    people = training_pixels.store_people(scenes(30), CLASSES, tmp_path)
    draw = functools.partial(training_pixels.draw_pixels, people, 100, 3)
    pixels = draw(0, True)
    counts = np.bincount(pixels[:, 0], minlength=30)
    assert len(pixels) == 3000 and set(counts % 100) == {0}
    # 1 - 1/e of the pictures are drawn, some more than once.
    assert 14 <= (counts > 0).sum() <= 24 and counts.max() >= 200
    assert not np.array_equal(pixels, draw(1, True))
    all_of_them = draw(0, False)
    assert (np.bincount(all_of_them[:, 0]) == 100).all()
    for image, row, column, part in pixels[::50].tolist():
        depth, labels = scene(image)
        assert labels[row, column] == part + 1 and depth[row, column] > 0
    assert len(np.unique(all_of_them[:, :3], axis=0)) == 3000


def test_pixels_are_spread_evenly_over_parts(tmp_path):
    people = training_pixels.store_people(scenes(10), CLASSES, tmp_path)
    for image in range(10):
        sizes = np.bincount(people.labels_of(image).ravel(), minlength=256)[:CLASSES]
        for count in (3, 60, int(sizes.sum()) - 5, 10**6):
            pixels = training_pixels.draw_pixels(people, count, image, 0, False)
            pixels = pixels[pixels[:, 0] == image]
            drawn = np.bincount(pixels[:, 3], minlength=CLASSES)
            assert drawn.sum() == min(count, sizes.sum())
            # A part that could give more gives as much as any other, but for one.
            assert (drawn[drawn < sizes] >= drawn.max() - 1).all()
            assert len(np.unique(pixels, axis=0)) == len(pixels)
        pixels = training_pixels.draw_pixels(people, 200, image, 0, False, False)
        drawn = np.bincount(pixels[pixels[:, 0] == image, 3], minlength=CLASSES)
        # Without it a part has its share, within four standard deviations.
        share = sizes / sizes.sum()
        assert drawn.sum() == min(200, sizes.sum())
        assert (abs(drawn / drawn.sum() - share) < 4 * np.sqrt(share / 200)).all()


DEPTH, LABELS = scene(0)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ((1000 * DEPTH, LABELS), "training picture 1: .*millimetres"),
        ((DEPTH, LABELS[:, 1:]), "training picture 1: labels are uint8 of the depth's"),
        (
            (DEPTH, LABELS + np.uint8(200)),
            "training picture 1: .*1 to 6.* received 206",
        ),
        ((np.where(LABELS, np.nan, DEPTH), LABELS), "training picture 1: .*NaN"),
    ],
)
def test_a_bad_picture_is_named(picture, words):
    with pytest.raises(InputError, match=words):
        train_forest([scene(0), picture], CLASSES, TINY)


@pytest.mark.parametrize(
    "pictures", [[], [(DEPTH, np.zeros_like(LABELS))], [(DEPTH, np.minimum(LABELS, 1))]]
)
def test_less_than_two_parts_are_refused(pictures):
    with pytest.raises(InputError, match="at least two parts, received"):
        train_forest(pictures, CLASSES, TINY)


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 31},
        {"trees": 0},
        {"features": 0},
        {"largest_offset": 300.0},
        {"seed": -1},
    ],
)
def test_options_out_of_range(change):
    with pytest.raises(InputError, match=f"{next(iter(change))} is .*, received"):
        train_forest(scenes(1), CLASSES, TINY._replace(**change))
    with pytest.raises(InputError, match="2 to 254 classes apart, received 1"):
        train_forest(scenes(1), 1, TINY)
