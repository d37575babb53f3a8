"""What a forest says of pixels, by all its paths, and its files."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import forest as forests
from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
from mlcvtf.segmentation.body_parts.forest import Forest, Tree, classify, join
from mlcvtf.segmentation.body_parts.forest_training import Options, train_forest
from tests.segmentation.scenes import CLASSES, scene, scenes

# Two splits: on what is a pixel metre to the right, then on what is below.
BY_HAND = Tree(
    np.array([[128, 0, 0, 0], [0, 128, 0, 0]], np.int16),
    np.array([51, -51], np.int16),
    np.array([[1, -1], [-2, -3]], np.int32),
    np.array([[0, 0, 7], [3, 1, 0], [0, 2, 2]], np.int32),
)


@pytest.fixture(scope="module")
def grown():
    options = Options(
        depth=9, features=40, thresholds=10, pixels_per_image=150, minimum_samples=4
    )
    return train_forest(scenes(12), CLASSES, options, threads=1)


def pictures():
    filled = scene(40)[0]
    return {
        "figure": scene(30)[0],
        "everywhere": np.where(filled > 0, filled, 3.1).astype(np.float32),
        "one pixel": np.full((1, 1), 2.0, np.float32),
        "one column": np.linspace(0.5, 4, 50, dtype=np.float32)[:, None],
        "empty": np.zeros((7, 9), np.float32),
        "near": (filled / 40).astype(np.float32),
        "double": filled.astype(np.float64),
    }


@pytest.mark.parametrize("name", pictures())
@pytest.mark.parametrize("threads", [1, 3])
def test_the_compiled_path_equals_the_slow_one(grown, name, threads, monkeypatch):
    from mlcvtf.segmentation.body_parts import compiled_forest

    monkeypatch.setattr(compiled_forest, "WORTH_A_THREAD", 100)
    depth = pictures()[name]
    parts, sums = classify(grown, depth)
    fast_parts, fast_sums = CompiledForest(grown, threads).classify(depth)
    np.testing.assert_array_equal(fast_parts, parts)
    np.testing.assert_array_equal(fast_sums, sums)
    assert sums.dtype == fast_sums.dtype == np.uint16
    assert ((parts > 0) == (depth > 0)).all() and len(sums) == (depth > 0).sum()


def test_by_hand():
    forest = join([BY_HAND, BY_HAND._replace(thresholds=np.array([51, 51], np.int16))])
    depth = np.full((3, 3), 1.0, np.float32)
    depth[1, 2], depth[2, 1] = 1.2, 0.9
    parts, sums = classify(forest, depth)
    # The centre: 0.2 m to the right is beyond 51/512, so right, the leaf of part 3.
    assert parts[1, 1] == 3 and sums[4].tolist() == [0, 0, 2 * 255]
    # Left of the centre: 0 to the right, then 0 below: beyond -51/512 only.
    assert sums[3].tolist() == [191, 64 + 128, 128] and parts[1, 0] == 2
    assert forest.depth == 2 and forest.classes == 3


def test_equal_leaves_are_stored_once_and_ties_go_to_the_first():
    double = BY_HAND._replace(counts=BY_HAND.counts * np.array([[3], [1], [5]]))
    forest = join([BY_HAND, double])
    assert len(forest.leaves) == 3
    assert sorted(forest.leaves.tolist()) == [[0, 0, 255], [0, 128, 128], [191, 64, 0]]
    _, sums = classify(forest, np.array([[1.0, 0.0]]))
    # Nothing to the right is far away: the leaf of part 3.
    assert sums.tolist() == [[0, 0, 510]]


def test_trees_without_splits():
    leaf = Tree(
        np.zeros((0, 4), np.int16),
        np.zeros(0, np.int16),
        np.zeros((0, 2), np.int32),
        np.array([[1, 3, 0]], np.int32),
    )
    for forest in (join([leaf]), join([BY_HAND, leaf, BY_HAND])):
        parts, sums = classify(forest, pictures()["one column"])
        fast = CompiledForest(forest).classify(pictures()["one column"])
        np.testing.assert_array_equal(sums, fast[1])
        np.testing.assert_array_equal(parts, fast[0])
        assert (sums[:, 1] >= 191).all()


def test_a_file_gives_the_same_forest(grown, tmp_path):
    forests.save(grown, tmp_path / "forest.npz")
    again = forests.load(tmp_path / "forest.npz")
    for name, dtype in forests.DTYPES.items():
        np.testing.assert_array_equal(getattr(again, name), getattr(grown, name))
        assert getattr(again, name).dtype == dtype
    assert [path.name for path in tmp_path.iterdir()] == ["forest.npz"]


def test_the_largest_forest_of_the_default_options_fits():
    leaves = Options().trees * Options().most_leaves
    n = leaves - Options().trees
    size = Forest(
        np.zeros((n, 4), np.int16),
        np.zeros(n, np.int16),
        np.zeros((n, 2), np.int32),
        np.zeros(3, np.int32),
        np.zeros((leaves, 31), np.uint8),
    ).size
    assert 14.6e6 < size < 14.8e6


BROKEN = {
    "children": (lambda a: np.where(a == a.max(), len(a), a), "a child is a split"),
    "leaves": (lambda a: a[:-1], "a child is a split or a leaf that is there"),
    "roots": (lambda a: a - 10_000, "a child is a split or a leaf that is there"),
    "offsets": (lambda a: a[:, :3], "shapes do not fit together"),
    "thresholds": (lambda a: a.astype(np.float32), "thresholds is int16, received flo"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_forest_is_refused(grown, tmp_path, name):
    change, words = BROKEN[name]
    forests.save(
        grown._replace(**{name: change(getattr(grown, name))}), tmp_path / "forest.npz"
    )
    with pytest.raises(InputError, match=words):
        forests.load(tmp_path / "forest.npz")


def test_a_circle_is_refused(grown, tmp_path):
    children = grown.children.copy()
    children[3] = 3
    forests.save(grown._replace(children=children), tmp_path / "forest.npz")
    with pytest.raises(InputError, match="a child comes after its parent"):
        forests.load(tmp_path / "forest.npz")


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 no archive", b"pickle"])
def test_what_is_no_forest_is_one_line(tmp_path, content):
    path = tmp_path / "forest.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="a forest is a .npz with offsets") as raised:
        forests.load(path)
    assert "\n" not in str(raised.value)
    np.savez(path, offsets=np.zeros(3))
    with pytest.raises(InputError, match="a forest is a .npz with offsets"):
        forests.load(path)


@pytest.mark.parametrize(
    "depth",
    [
        np.full((4, 4), 2000.0),
        np.full((2, 2), np.nan),
        np.ones(4),
        np.ones((4, 4), np.uint16),
    ],
)
def test_bad_depth_is_refused_by_both_paths(grown, depth):
    for run in (lambda d: classify(grown, d), CompiledForest(grown).classify):
        with pytest.raises(InputError, match="depth"):
            run(depth)


def test_a_pruned_tree_is_the_one_that_stopped_there(tmp_path):
    """Growing is level by level, so a shallow training is the oracle."""
    options = Options(
        trees=1, depth=7, features=40, thresholds=10, pixels_per_image=150,
        minimum_samples=4,
    )  # fmt: skip
    kept = {}
    for depth in (0, 1, 4, 7):
        folder = tmp_path / str(depth)
        shallow = options._replace(depth=max(depth, 1))
        train_forest(scenes(12), CLASSES, shallow, folder, 1)
        with np.load(folder / "tree_0.npz") as stored:
            kept[depth] = forests.Tree(*(stored[name] for name in forests.Tree._fields))
    for depth in (1, 4, 7):
        found = forests.join([forests.pruned(kept[7], depth)])
        expected = forests.join([kept[depth]])
        assert found.depth == expected.depth == depth
        picture = scenes(1, 40)[0][0]
        for one, other in zip(
            forests.classify(found, picture),
            forests.classify(expected, picture),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    single = forests.pruned(kept[7], 0)
    assert len(single.children) == 0 and len(single.counts) == 1
    np.testing.assert_array_equal(single.counts.sum(0), kept[7].counts.sum(0))
