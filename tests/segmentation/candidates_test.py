"""What is tried at a node is random, and the same wherever it is drawn."""

import math

import numpy as np

from mlcvtf.segmentation.body_parts.candidates import candidates, mix, sample_pool
from mlcvtf.segmentation.body_parts.forest_training import Options

OPTIONS = Options(features=300, thresholds=40, seed=7)


def test_the_hash_is_splitmix64():
    # The first numbers of the published generator from seed 1234567.
    state = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    assert mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_a_node_draws_the_same_alone_and_among_others():
    offsets, thresholds = candidates(OPTIONS, 2, np.arange(1, 40))
    one, at = candidates(OPTIONS, 2, [17])
    np.testing.assert_array_equal(one[0], offsets[16])
    np.testing.assert_array_equal(at[0], thresholds[16])
    assert one.dtype == at.dtype == np.int16


def test_nodes_trees_and_seeds_differ():
    drawn = [candidates(OPTIONS, 0, np.arange(1, 50))[0].reshape(49, -1)]
    drawn.append(candidates(OPTIONS, 1, np.arange(1, 50))[0].reshape(49, -1))
    drawn.append(candidates(OPTIONS._replace(seed=8), 0, [1])[0].reshape(1, -1))
    rows = np.concatenate(drawn).astype(float)
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    # Of 1,200 independent numbers: 1 / sqrt(1200) is 0.03.
    assert np.abs(correlations).max() < 0.16


def test_samples_fill_their_range():
    offsets, thresholds = candidates(OPTIONS, 0, np.arange(1, 200))
    offsets = offsets / 128
    assert -129 <= offsets.min() < -128.9 and 128.9 < offsets.max() <= 129
    np.testing.assert_allclose(offsets.std((0, 1)), 129 / math.sqrt(3), rtol=0.02)
    np.testing.assert_allclose(offsets.mean((0, 1)), 0, atol=1.5)
    within = np.corrcoef(offsets.reshape(-1, 4).T) - np.eye(4)
    assert np.abs(within).max() < 0.02
    assert (np.diff(thresholds) >= 0).all()
    assert thresholds.min() < -500 and thresholds.max() > 500
    # A cubed uniform number is within 1/8 half of the time.
    assert 0.47 < np.mean(np.abs(thresholds) < 64) < 0.53


def test_a_pool_is_drawn_from_evenly():
    pool = sample_pool(3, 25, 60.0)
    assert np.abs(pool).max() <= 60 * 128
    offsets, thresholds = candidates(OPTIONS, 0, np.arange(1, 100), pool)
    assert len(np.unique(pool, axis=0)) == 25
    _, counts = np.unique(offsets.reshape(-1, 4), axis=0, return_counts=True)
    assert len(counts) == 25 and 0.85 < counts.min() / counts.mean()
    np.testing.assert_array_equal(
        thresholds, candidates(OPTIONS, 0, np.arange(1, 100))[1]
    )
