"""The Keras model of a cascade answers as the compiled path, from every file."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.detection.viola_jones import level_graph, scan_graph
from mlcvtf.detection.viola_jones import model as models
from mlcvtf.detection.viola_jones.model import CascadeDetector, cascade_detector
from mlcvtf.export import keras_file, litert, saved_model, signatures
from tests.detection.viola_jones.cascades import WINDOW, random_cascade
from tests.detection.viola_jones.scan_test import picture

STAGES = (3, 5, 4)
KINDS = {
    "stumps": {"seed": 1},
    "trees, tilted": {"seed": 2, "nodes": (1, 3, 2), "tilted": 0.4},
    "fractions": {"seed": 1, "fractions": True, "tilted": 0.2},
}
# Few enough windows pass that all boxes are among the first hundred.
STRICT = {"seed": 4, "nodes": (1, 2), "tilted": 0.3, "slack": 0.4}
PICTURES = {
    "usual": picture(70, 90, 3),
    "smaller than the window": picture(11, 40),
    "large": picture(100, 60, 5),
    "flat": np.full((40, 50), 77, np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "the window": picture(*WINDOW[::-1], 7),
    "again": picture(70, 90, 3),
}


@pytest.fixture(scope="module")
def cascade():
    return random_cascade(stages=STAGES, **STRICT)


@pytest.fixture(scope="module")
def exported(cascade, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    model = cascade_detector(cascade, 1.2, 1)
    endpoints = signatures.endpoints(model, "cascade_detection", freeze=True)
    outputs = saved_model.write(folder, endpoints)
    content = litert.convert(folder, list(endpoints))
    litert.check(content, model.count_params(), weights=model.get_weights())
    return folder, outputs, content


def raw(cascade, gray, scales):
    """Runs the graph for given scales."""
    return models.find_windows(cascade, gray, np.float32(scales))


def expected(cascade, gray):
    boxes, scores = cascade.detect_scores(gray, 1.2, 1, threads=1)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": boxes[:100].astype(np.float32),
        "scores": scores[:100],
        "labels": np.zeros(len(scores[:100]), np.int32),
    }


def assert_equal(answer, wanted):
    assert set(answer) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(np.asarray(answer[name]), value, name)


def colour(gray):
    return np.repeat(gray[..., None], 3, axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_and_scores_to_the_bit(kind):
    cascade = random_cascade(stages=STAGES, **KINDS[kind])
    for gray, sizes in ((picture(), {}), (picture(90, 71, 4), {"min_size": (20, 16)})):
        scales = models._scales(WINDOW, 1.1)[0]
        if not sizes:
            scales = scales[(np.rint(np.outer(scales, WINDOW)) <= (60, 45)).all(1)]
        else:
            scales = scales[4:14]
            sizes["max_size"] = tuple(np.rint(scales[-1] * np.array(WINDOW)))
            sizes["min_size"] = tuple(np.rint(scales[0] * np.array(WINDOW)))
        boxes, scores = cascade.windows(gray, 1.1, **sizes, threads=1)
        assert len(boxes) > 50
        found = raw(cascade, gray, scales)
        np.testing.assert_array_equal(found[0], boxes)
        np.testing.assert_array_equal(found[1], scores)
        assert found[0].dtype == np.int32 and found[1].dtype == np.float32


def test_a_first_stage_of_many_nodes(monkeypatch):
    cascade = random_cascade(2, STAGES, (1, 2), 0.3)
    wanted = raw(cascade, picture(), [1.0, 2.2])
    models._finder.cache_clear()
    monkeypatch.setattr(scan_graph, "DENSE_NODES", 0)
    found = raw(cascade, picture(), [1.0, 2.2])
    assert len(wanted[0]) > 50
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_saved_model(cascade, exported):
    folder, outputs, _ = exported
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    counts = []
    for gray in PICTURES.values():
        wanted = expected(cascade, gray)
        counts.append(len(wanted["scores"]))
        assert_equal(served(image=tf.constant(colour(gray))), wanted)
    assert 2 < counts[0] < 100 and counts[2] > 2 and counts[1] == counts[3] == 0
    assert signatures.card_outputs(outputs)["boxes"] == {
        "dtype": "float32",
        "shape": [None, 4],
    }


def test_litert_sees_sizes_in_turn_and_nothing(cascade, exported):
    """One interpreter for all: nothing is left of what came before."""
    from ai_edge_litert.interpreter import Interpreter

    runtime = Interpreter(model_content=exported[2])
    run = runtime.get_signature_runner("serving_default")
    for gray in PICTURES.values():
        assert_equal(run(image=colour(gray)), expected(cascade, gray))
    run = runtime.get_signature_runner("batch")
    grays = [PICTURES["usual"], np.zeros_like(PICTURES["usual"]), picture(70, 90, 9)]
    found = run(images=np.stack([colour(gray) for gray in grays]))
    assert found["boxes"].shape == (3, 100, 4)
    for number, gray in enumerate(grays):
        there = found["labels"][number] >= 0
        answer = {name: value[number][there] for name, value in found.items()}
        assert_equal(answer, expected(cascade, gray))
        assert not found["scores"][number][~there].any()


def test_colours_become_gray_as_in_opencv():
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        signatures._gray(image), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    )


def test_a_keras_file_holds_the_cascade(cascade, tmp_path):
    model = cascade_detector(cascade, 1.5, 2)
    model.save(tmp_path / "model.keras")
    again = keras_file.load(tmp_path / "model.keras")
    assert isinstance(again, CascadeDetector)
    config = again.get_config()
    assert config["scale_factor"] == 1.5 and config["min_neighbors"] == 2
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_half_precision_changes_no_weight(cascade):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        weights = cascade_detector(cascade).get_weights()
    finally:
        keras.config.set_dtype_policy("float32")
    for one, other in zip(
        weights, cascade_detector(cascade).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_votes_are_whole_numbers_that_stay_exact(cascade):
    model = cascade_detector(cascade)
    scale = 2.0**-model.fraction_bits
    np.testing.assert_array_equal(model.votes.numpy() * scale, cascade.tables)
    # As large as may be: no sum leaves int64.
    huge = dataclasses.replace(cascade, leaves=cascade.leaves * np.float32(1e9))
    votes = cascade_detector(huge).votes.numpy().astype(np.float64)
    assert 2**58 < np.abs(votes).max(1).sum() < 2**62


SHRUNKEN = [((50, 70), (50, 70)), ((70, 50), (33, 21)), ((97, 641), (89, 583))]


@pytest.mark.parametrize("source, target", [*SHRUNKEN, ((40, 333), (31, 257))])
def test_shrinks_as_opencv(source, target):
    gray = picture(*source, seed=source[0])
    wanted = cv2.resize(gray, target[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    found = level_graph.shrink(tf.constant(gray, tf.int32), *target)
    np.testing.assert_array_equal(found, wanted)


def test_shrinks_to_multiples_of_256_but_for_ones():
    gray = picture(20, 281)
    wanted = cv2.resize(gray, (256, 18), interpolation=cv2.INTER_LINEAR_EXACT)
    found = level_graph.shrink(tf.constant(gray, tf.int32), 18, 256)
    assert np.abs(found.numpy() - wanted.astype(int)).max() <= 1


def test_norms_are_rounded_as_float64_rounds_them():
    """Pictures of one window each, with all sorts of spreads."""
    generator = np.random.default_rng(0)
    size = (4000, 12, 14)
    images = generator.normal(120, generator.uniform(0, 80, (4000, 1, 1)), size)
    images = np.clip(np.rint(images), 0, 255).astype(np.int64)
    inner = images[:, 1:-1, 1:-1].reshape(4000, -1)
    spread = inner.shape[1] * np.square(inner).sum(1) - inner.sum(1) ** 2
    wanted = (1 / np.sqrt(np.maximum(spread, 1))).astype(np.float32)
    wanted[(spread <= 0) | (inner.shape[1] * wanted.astype(float) >= 0.1)] = -1
    assert (wanted < 0).sum() > 100
    # Side by side they are the windows of one picture, 14 apart.
    row = np.concatenate(images, axis=1)
    sums = np.pad(row.cumsum(1).cumsum(0), ((1, 0), (1, 0)))
    squares = np.pad(np.square(row).cumsum(1).cumsum(0), ((1, 0), (1, 0)))
    grid = level_graph.Grid(tf.constant(14), tf.constant(1), tf.constant(4000))
    found = level_graph.norms(
        tf.constant(sums, tf.int32), tf.constant(squares), grid, (14, 12)
    )
    np.testing.assert_array_equal(found, wanted)


def test_after_a_window_turned_down_the_next_is_skipped():
    generator = np.random.default_rng(3)
    low, good = generator.random((2, 30, 17)) < [[[0.7]], [[0.8]]]
    wanted = np.ones((30, 17), bool)
    for row in range(30):
        for column in range(1, 17):
            before = row, column - 1
            wanted[row, column] = not (wanted[before] and low[before] and good[before])
    found = scan_graph.seen(tf.constant(low.ravel()), good.ravel(), 30, 17)
    np.testing.assert_array_equal(found.numpy().reshape(30, 17), wanted)


@pytest.mark.parametrize("wrong", [{"scale_factor": 1.0}, {"min_neighbors": -1}])
def test_bad_arguments(cascade, wrong):
    with pytest.raises(ValueError, match="above 1 and min_neighbors at least 0"):
        cascade_detector(cascade, **wrong)
