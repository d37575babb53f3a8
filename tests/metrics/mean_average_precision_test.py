"""The Keras metric gives what the plain function gives, batch by batch."""

import json

import keras
import numpy as np
import pytest

from mlcvtf.metrics.mean_average_precision import MeanAveragePrecision
from tests.metrics.make_coco_cases import FIXTURE, NAMES


def padded(pictures, keys, rows):
    batch = {"labels": np.full((len(pictures), rows), -1)}
    for key in keys:
        width = (4,) if key == "boxes" else ()
        batch[key] = np.zeros((len(pictures), rows, *width), "float32")
    for i, picture in enumerate(pictures):
        for key in ("labels", *keys):
            if picture[key]:
                batch[key][i, :len(picture[key])] = picture[key]
    return batch


@pytest.fixture(scope="module")
def case():
    return json.loads(FIXTURE.read_text())[0]


def add(metric, case):
    for rows in (slice(0, 2), slice(2, 6)):
        truths = padded(case["truths"][rows], ("boxes", "crowd", "area"), 20)
        truths["crowd"] = truths["crowd"] > 0
        found = padded(case["detections"][rows], ("boxes", "scores"), 60)
        metric.update_state({k: keras.ops.convert_to_tensor(v)
                             for k, v in truths.items()}, found)


def test_batches_give_the_numbers_of_pycocotools(case):
    metric = MeanAveragePrecision()
    add(metric, case)
    assert metric.results() == pytest.approx(case["pycocotools"], abs=1e-6)
    assert float(metric.result()) == pytest.approx(case["pycocotools"]["AP"], abs=1e-6)


def test_reset_forgets(case):
    metric = MeanAveragePrecision("AP50")
    assert float(metric.result()) == -1
    add(metric, case)
    first = float(metric.result())
    metric.reset_state()
    assert float(metric.result()) == -1
    add(metric, case)
    assert float(metric.result()) == first == pytest.approx(
        case["pycocotools"]["AP50"], abs=1e-6)


def test_config_goes_round():
    metric = MeanAveragePrecision("AR10", name="recall")
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (copy.kind, copy.name) == ("AR10", "recall")
    assert MeanAveragePrecision("AP75").name == "AP75"
    assert MeanAveragePrecision.KINDS == NAMES


def test_wrong_use_is_refused(case):
    with pytest.raises(ValueError, match="received AP51"):
        MeanAveragePrecision("AP51")
    metric = MeanAveragePrecision()
    truths = padded(case["truths"][:2], ("boxes",), 20)
    found = padded(case["detections"][:1], ("boxes", "scores"), 60)
    with pytest.raises(ValueError, match="2 and 1"):
        metric.update_state(truths, found)
    with pytest.raises(ValueError, match="weights"):
        metric.update_state(truths, found, sample_weight=[1.0])


def test_a_compiled_graph_is_refused_with_the_way_out(case):
    tensorflow = pytest.importorskip("tensorflow")
    metric = MeanAveragePrecision()
    truths = padded(case["truths"][:1], ("boxes",), 20)
    found = padded(case["detections"][:1], ("boxes", "scores"), 60)
    with pytest.raises(RuntimeError, match="callback"):
        tensorflow.function(metric.update_state)(
            {k: tensorflow.constant(v) for k, v in truths.items()}, found)
