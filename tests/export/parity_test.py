import re
import shutil

import numpy as np
import pytest

from mlcvtf import card
from mlcvtf.export import parity
from mlcvtf.video import predictor
from tests.export import tiny_models

RUNTIMES = {"litert", "litert_float16", "saved_model", "keras"}


def detections(boxes, scores, labels=None):
    boxes = np.float32(boxes).reshape(-1, 4)
    return {
        "boxes": boxes,
        "scores": np.float32(scores),
        "labels": np.int32([0] * len(boxes) if labels is None else labels),
        "landmarks": np.repeat(boxes[:, None, :2], 5, axis=1),
    }


A, B, C = [0, 0, 10, 10], [50, 50, 70, 70], [200, 100, 240, 150]


def test_near_ties_may_swap_places():
    expected = detections([A, B, C], [0.9, 0.8, 0.79999])
    received = detections([A, C, B], [0.9, 0.8, 0.79999])
    found, _ = parity.differences(expected, received, 0.5)
    assert found["boxes"].shape == (3, 4)
    assert found["boxes"].max() == 0
    assert found["landmarks"].max() == 0
    np.testing.assert_allclose(found["scores"].max(), 1e-5, rtol=0.1)


def test_differences_are_those_of_the_matched_boxes():
    expected = detections([A, B], [0.9, 0.8])
    received = detections([B, [0, 0, 10, 12]], [0.81, 0.79])
    found, _ = parity.differences(expected, received, 0.5)
    np.testing.assert_allclose(found["boxes"].max(axis=1), [2, 0])
    np.testing.assert_allclose(found["scores"], [0.11, 0.01], atol=1e-6)


def test_what_is_under_the_threshold_does_not_count():
    expected = detections([A, B], [0.9, 0.3])
    received = detections([A, C], [0.9, 0.3])
    assert parity.differences(expected, received, 0.5)[0]["boxes"].shape == (1, 4)
    with pytest.raises(parity.ParityError, match="1 are missing"):
        parity.differences(expected, detections([A], [0.9]), 0.2)


def test_a_score_may_cross_the_threshold_by_a_hair():
    expected = detections([A, B], [0.9, 0.5001])
    received = detections([A, B], [0.9, 0.4999])
    for one, other in ((expected, received), (received, expected)):
        assert parity.differences(one, other, 0.5)[0]["boxes"].shape == (2, 4)


@pytest.mark.parametrize("swap", [False, True])
def test_missing_and_additional_boxes_fail(swap):
    pair = detections([A, B], [0.9, 0.8]), detections([A], [0.9])
    message = "0 are missing and 1 too many" if swap else "1 are missing and 0 too many"
    with pytest.raises(parity.ParityError, match=message):
        parity.differences(*(pair[::-1] if swap else pair), 0.5)


def test_of_full_lists_the_last_ones_may_be_others():
    boxes = [[i, 0, i + 1, 1] for i in range(100)]
    scores = np.linspace(0.9, 0.8, 100)
    received = detections(boxes[:99] + [A], scores)
    found, _ = parity.differences(detections(boxes, scores), received, 0.5)
    assert 95 <= len(found["boxes"]) < 100
    assert found["boxes"].max() == 0


def test_a_lossy_comparison_counts_what_has_no_partner():
    expected = detections([A, B], [0.9, 0.8])
    received = detections([[0, 0, 10, 11], C], [0.85, 0.7])
    found, lost = parity.differences(expected, received, 0.5, 0.2, lossy=True)
    assert found["boxes"].tolist() == [[0, 0, 0, 1]]
    np.testing.assert_allclose(found["scores"], [0.05], atol=1e-6)
    assert lost == 2, "B is missing and C too many"


@pytest.mark.parametrize("change, message", [
    (lambda d: d.pop("landmarks"), "outputs are"),
    (lambda d: d["landmarks"].fill(np.nan), "landmarks must be finite"),
    (lambda d: d["labels"].fill(1), "equal labels"),
    (lambda d: d["scores"].sort(), "scores must descend"),
])
def test_malformed_answers_fail(change, message):
    received = detections([A, B], [0.9, 0.8])
    change(received)
    with pytest.raises(parity.ParityError, match=message):
        parity.differences(detections([A, B], [0.9, 0.8]), received, 0.5)


def test_embeddings_are_compared_number_by_number():
    expected = {"embedding": np.float32([0.6, 0.8])}
    found, _ = parity.differences(expected, {"embedding": np.float32([0.6, 0.75])}, 0.0)
    np.testing.assert_allclose(found["embedding"], [0, 0.05], atol=1e-7)
    with pytest.raises(parity.ParityError, match="shape"):
        parity.differences(expected, {"embedding": np.float32([1.0])}, 0.0)


def test_every_runtime_of_the_detector_agrees():
    result = card.read(tiny_models.folder("face_detection"))["parity"]
    assert set(result["runtimes"]) == RUNTIMES
    assert result["pictures"] == len(tiny_models.PICTURES)
    assert result["matched"] > 100
    for runtime, outputs in result["runtimes"].items():
        assert set(outputs) == {"boxes", "landmarks", "scores"}
        precision = "float16" if "16" in runtime else "float32"
        for name, value in outputs.items():
            assert value["mean"] <= value["largest"] <= parity.BOUNDS[precision][name]
        assert result["milliseconds"][runtime] > 0
    assert set(result["unmatched"].values()) == {0}
    # The weights of the smaller file are others: the comparison does see something.
    assert result["runtimes"]["litert_float16"]["boxes"]["largest"] > 1e-4


def test_every_runtime_of_the_embedder_agrees():
    result = card.read(tiny_models.folder("face_embedding"))["parity"]
    assert set(result["runtimes"]) == RUNTIMES
    for runtime in ("litert", "saved_model", "keras"):
        assert result["runtimes"][runtime]["embedding"]["largest"] <= 1e-4
    assert result["runtimes"]["litert_float16"]["embedding"]["largest"] > 1e-6
    lines = parity.text(result).splitlines()
    assert len(lines) == 2 + 4 + 1
    assert re.fullmatch(r"ms for the first picture: litert \d+\.\d, .*", lines[-1])
    assert lines[2].split()[:2] == ["litert", "embedding"]


def answers(folder):
    """Returns the answers of the predictor as if they came from fresh processes."""

    def run(folder, runtimes, pictures):
        model = predictor.load(folder, "litert")
        found = [model(picture) for picture in pictures]
        return {name: (found, found) for name in runtimes}, {}

    return run


def test_a_model_with_other_weights_fails(monkeypatch):
    folder = tiny_models.folder("face_embedding")
    monkeypatch.setattr(parity, "_in_fresh_process", answers(folder))
    other = tiny_models.embedder(seed=1)

    def reference(picture):
        vectors = other.embed(picture[None].astype(np.float32))
        return {"embedding": np.asarray(vectors)[0]}

    face = tiny_models.spots(112, 112, 5)
    with pytest.raises(parity.ParityError, match="embedding of litert may differ by"):
        parity.report(folder, reference, [face], 0.0)
    same = predictor.load(folder, "litert")
    assert parity.report(folder, same, [face], 0.0)["runtimes"]["litert"] == {
        "embedding": {"largest": 0.0, "mean": 0.0}}


def test_a_detector_that_finds_nothing_fails():
    # So do zeroed weights of a heat map: nothing would be compared.
    folder = tiny_models.folder("face_detection")
    with pytest.raises(parity.ParityError, match="finds nothing that scores 0.4"):
        parity.report(folder, lambda picture: detections([A], [0.3]),
                      [tiny_models.spots(9, 9, 1)], 0.4)


def test_a_file_that_does_not_load_fails(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models.folder("face_embedding"), folder)
    (folder / "float16.tflite").unlink()
    with pytest.raises(parity.ParityError, match="(?s)fresh process.*float16.tflite"):
        parity.report(folder, lambda picture: {}, [tiny_models.spots(9, 9, 1)], 0.0)
