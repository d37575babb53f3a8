"""Boosting against the course's example, against loops, and split by split."""

import math

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import boosting

# The course's eight mails are in a figure that is lost. These give its learners
# (x1 > 3, x1 > 10, x2 > 20) and its errors.
LINKS = [1, 2, 4, 5, 7, 9, 11, 15]
CAPITALS = [5, 27, 21, 19, 30, 25, 12, 40]
SPAM = [False, False, True, False, True, False, True, True]


def booster(values, positive, **options):
    values = np.asarray(values, np.float32)
    search = boosting.HistogramSearch(boosting.bin_values(values), values.shape[1])
    return boosting.Booster(search, positive, **options)


def noise(features=40, samples=203, seed=0):
    random = np.random.default_rng(seed)
    positive = random.random(samples) < 0.4
    values = random.normal(size=(features, samples)).astype(np.float32)
    values[7] += positive
    values[23] -= 0.8 * positive
    # Ties between values, and between features.
    values[3] = np.rint(values[3])
    values[30] = values[7]
    return values, positive


def slow_best(bins, packed, gentle):
    """The best split by loops over everything, in Python's whole numbers."""
    best = (-2.0, None, None)
    pairs = [boosting.unpack(p) for p in packed]
    for feature, row in enumerate(bins):
        for split in range(1, 256):
            sides = [[0, 0], [0, 0]]
            for b, (weight, signed) in zip(row, pairs, strict=True):
                side = sides[int(b >= split)]
                side[0] += weight
                side[1] += signed
            (w, s), (v, t) = sides
            if gentle:
                score = t * t / v + s * s / w if w and v else -1.0
            else:
                score = float(abs(t - s))
            if score > best[0] * (1 + 1e-12):
                best = (score, feature, split)
    return best


def test_the_course_s_mails():
    values = np.array([LINKS, CAPITALS], np.float32)
    boosted = booster(values, SPAM)
    np.testing.assert_array_equal(boosted.weights, [1 / 8] * 8)
    rounds = [boosted.round() for _ in range(3)]
    assert [r.error for r in rounds] == pytest.approx([2 / 8, 2 / 12, 5 / 20], abs=1e-9)
    assert [r.beta for r in rounds] == pytest.approx([3, 5, 3], abs=1e-7)
    learners = []
    for r in rounds:
        feature = r.tree.features[0]
        bins = boosted.search.bins[feature]
        at = boosting.threshold(values[feature], bins, r.tree.bins[0])
        learners.append((feature, at))
        # Above the threshold a mail is spam, with the weight ln(beta).
        np.testing.assert_allclose(r.tree.leaves, np.log(r.beta) * np.array([-1, 1]))
    assert learners == [(0, 3), (0, 10), (1, 20)]
    total = sum(r.tree.votes(boosted.below(r.tree)) for r in rounds)
    # ln 3 - ln 5 - ln 3 < 0: the mail with nothing but capitals is no spam.
    assert (total > 0).sum() == 5
    np.testing.assert_allclose(total[1], -math.log(3) - math.log(5) + math.log(3))


def test_the_weights_after_the_course_s_first_rounds():
    boosted = booster([LINKS, CAPITALS], SPAM)
    boosted.round()
    np.testing.assert_allclose(boosted.weights * 12, [1, 1, 1, 3, 1, 3, 1, 1])
    boosted.round()
    np.testing.assert_allclose(boosted.weights * 20, [1, 1, 5, 3, 5, 3, 1, 1])
    np.testing.assert_allclose(boosted.weights.sum(), 1)


@pytest.mark.parametrize("gentle", [False, True])
def test_the_search_equals_loops_over_every_split(gentle):
    values, positive = noise(31, 43)
    bins = boosting.bin_values(values[:, :43])
    weights = np.random.default_rng(1).random(43)
    packed = boosting.pack(weights / weights.sum(), np.where(positive, 1, -1))
    packed[::5] = 0
    found = boosting.HistogramSearch(bins, 43).best(packed, None, gentle)
    score, feature, split = slow_best(bins[:, :43], packed, gentle)
    assert (found.feature, found.bin) == (feature, split)
    assert found.score == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("gentle", [False, True])
def test_threads_and_the_order_of_samples_change_nothing(gentle, monkeypatch):
    monkeypatch.setattr(boosting, "PIECE", 5)
    values, positive = noise()
    order = np.random.default_rng(2).permutation(len(positive))
    weights = np.random.default_rng(3).random(len(positive))
    packed = boosting.pack(weights / weights.sum(), np.where(positive, 1, -1))
    found = set()
    for threads in (1, 2):
        for chosen in (slice(None), order):
            bins = boosting.bin_values(values[:, chosen])
            search = boosting.HistogramSearch(bins, len(positive), threads)
            found.add(search.best(packed[chosen], None, gentle))
    assert len(found) == 1
    # Features 7 and 30 are equal: the lower one wins.
    assert found.pop().feature == 7


def test_equal_splits_give_the_lowest_bin():
    # Between bins 1 and 5 no sample lies, so that all splits there are equal.
    bins = boosting.empty_bins(1, 4)
    bins[0, :4] = [0, 1, 5, 6]
    packed = boosting.pack(np.full(4, 0.25), np.array([-1, -1, 1, 1]))
    for gentle in (False, True):
        found = boosting.HistogramSearch(bins, 4).best(packed, None, gentle)
        assert (found.feature, found.bin) == (0, 2)


def test_packed_sums_hold_both_parts_at_their_extremes():
    for weight, signed in ((2**31 - 1, -(2**31) + 1), (2**31 - 1, 2**31 - 1), (5, -5)):
        assert boosting.unpack((weight << 32) + signed) == (weight, signed)


@pytest.mark.parametrize("method", boosting.METHODS)
@pytest.mark.parametrize("depth", [1, 2])
def test_rounds_lower_the_training_error(method, depth):
    values, positive = noise()
    boosted = booster(values, positive, method=method, depth=depth)
    total, wrong = np.zeros(len(positive)), []
    for _ in range(30):
        tree = boosted.round().tree
        total += tree.votes(boosted.below(tree))
        wrong.append(((total > 0) != positive).mean())
    assert wrong[0] > 0.2 and wrong[-1] < (0.15 if depth == 1 else 0.01)
    np.testing.assert_allclose(boosted.weights.sum(), 1)


def test_a_tree_learns_what_no_stump_can():
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 400)).astype(np.float32)
    positive = (values[0] > 0) ^ (values[1] > 0)
    errors = []
    for depth in (1, 2):
        tree = booster(values, positive, depth=depth, method="gentle").round()
        errors.append(tree.error)
    assert errors[0] > 0.35 and errors[1] < errors[0] - 0.1


def test_a_branch_that_gains_nothing_is_a_leaf():
    # One split says it all; a second level has nothing to do.
    values = np.arange(20, dtype=np.float32)[None]
    for method in boosting.METHODS:
        boosted = booster(values, np.arange(20) >= 12, method=method, depth=3)
        tree = boosted.round().tree
        assert len(tree.features) == 1 and tree.bins[0] == 12
        np.testing.assert_array_equal(tree.children, [[0, -1]])


def test_gentle_leaves_are_weighted_means():
    values, positive = noise()
    boosted = booster(values, positive, method="gentle")
    tree = boosted.round().tree
    below = boosted.below(tree)[0]
    means = [np.where(positive, 1, -1)[part].mean() for part in (below, ~below)]
    np.testing.assert_allclose(tree.leaves, means, atol=1e-6)


def test_a_learner_no_better_than_chance_ends_boosting():
    # The classes have the same values.
    boosted = booster([[1, 2, 1, 2]], [True, True, False, False])
    assert boosted.round() is None
    boosted = booster([[1, 2, 1, 2]], [True, True, False, False], method="gentle")
    assert boosted.round() is None


@pytest.mark.parametrize("method", boosting.METHODS)
def test_a_perfect_learner_is_found_once(method):
    positive = [False, False, True, True]
    values = [[1, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]]
    boosted = booster(values, positive, method=method)
    rounds = [boosted.round() for _ in range(3)]
    assert [r.tree.features[0] for r in rounds] == [0, 1, 2]
    assert [r.error for r in rounds] == pytest.approx([0, 0, 0.25])
    # As if half of the four samples' mean weight was wrong.
    vote = 1 if method == "gentle" else math.log(7)
    np.testing.assert_allclose(rounds[0].tree.leaves, [-vote, vote])
    assert booster(values[:1], positive, method=method).round() is not None
    alone = booster(values[:1], positive, method=method)
    assert [alone.round() is None for _ in range(2)] == [False, True]


def test_subsampling_draws_other_features_each_round():
    values, positive = noise()
    chosen = [
        [booster(values, positive, subsample=0.1, seed=seed).round().tree.features[0]]
        for seed in range(12)
    ]
    assert len(np.unique(chosen)) > 3
    one, two = (booster(values, positive, subsample=0.5, seed=4) for _ in range(2))
    for _ in range(5):
        np.testing.assert_array_equal(
            one.round().tree.features, two.round().tree.features
        )


def test_a_threshold_divides_as_its_bins_do():
    random = np.random.default_rng(0)
    values = random.normal(size=5000).astype(np.float32)
    bins = boosting.bin_values(values[None])[0]
    assert len(np.unique(bins)) == 256
    assert np.ptp(np.bincount(bins)) <= 1
    for split in (1, 77, 255):
        at = boosting.threshold(values, bins, split)
        np.testing.assert_array_equal(values < at, bins < split)
    # Neighbours among float32, and everything on one side.
    low = np.float32(1)
    pair = np.array([low, np.nextafter(low, np.float32(2))])
    for bins, split in (([0, 1], 1), ([0, 0], 1), ([1, 1], 1)):
        at = boosting.threshold(pair, np.array(bins), split)
        np.testing.assert_array_equal(pair < at, np.array(bins) < split)


@pytest.mark.parametrize(
    "change",
    [
        {"positive": [True] * 8},
        {"positive": [True, False]},
        {"method": "real"},
        {"depth": 0},
        {"depth": 4},
        {"subsample": 0},
        {"subsample": 1.5},
    ],
)
def test_arguments_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="received"):
        booster([LINKS, CAPITALS], **({"positive": SPAM} | change))


def test_bins_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        boosting.HistogramSearch(np.zeros((3, 9), np.uint8), 9)
