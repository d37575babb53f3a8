"""From pictures to faces and embeddings, on coloured squares of known place."""

import numpy as np
import pytest

from mlcvtf.commands import face_pipeline
from mlcvtf.embedding import alignment
from mlcvtf.errors import InputError
from tests.video import stand_in

COLOURS = list(stand_in.COLOURS)


@pytest.fixture(scope="module")
def pipeline():
    return face_pipeline.FacePipeline(stand_in.models(), "litert", threads=1)


def expected_embedding(name):
    vector = np.zeros(stand_in.DIMENSIONS)
    vector[COLOURS.index(name)] = 1
    vector[len(COLOURS)] = 0.05
    return vector / np.linalg.norm(vector)


def test_faces_above_the_threshold_of_the_card(pipeline):
    squares = {"Gelb": (10, 20, 50), "Rosa": (200, 100, 60), "Blau": (0, 0, 9)}
    scene = stand_in.scene(300, 200, **squares)
    faces = pipeline.detect(scene)
    np.testing.assert_array_equal(
        faces.boxes, [[200, 100, 260, 160], [10, 20, 60, 70]]
    )
    np.testing.assert_allclose(faces.scores, [0.9, 0.87], atol=1e-6)
    expected = alignment.TEMPLATE - (18, 18)
    expected = expected / (76, 98) * 60 + (200, 100)
    np.testing.assert_allclose(faces.landmarks[0], expected, atol=1e-3)


class TwoPeaks:
    """A detector that finds one face in two neighbouring cells, and another face."""

    card = {"input": {"longest_side": 640}, "thresholds": {"score": 0.5}}

    def __call__(self, image):
        boxes = [[10, 10, 50, 60], [100, 10, 140, 60], [12, 10, 52, 60], [0, 0, 9, 9]]
        return {
            "boxes": np.float32(boxes),
            "scores": np.float32([0.9, 0.8, 0.7, 0.2]),
            "landmarks": np.arange(40, dtype=np.float32).reshape(4, 5, 2),
        }


def test_a_face_is_found_once():
    faces = face_pipeline.detect(TwoPeaks(), np.zeros((100, 200, 3), np.uint8))
    assert faces.boxes.tolist() == [[10, 10, 50, 60], [100, 10, 140, 60]]
    np.testing.assert_allclose(faces.scores, [0.9, 0.8])
    np.testing.assert_array_equal(faces.landmarks.reshape(-1), np.arange(20))


def test_no_face(pipeline):
    scene = stand_in.scene(300, 200)
    faces = pipeline.detect(scene)
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks.shape == (0, 5, 2)
    vectors = pipeline.embed(scene, faces.landmarks)
    assert vectors.shape == (0, stand_in.DIMENSIONS)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("size", [(1280, 960), (640, 2000), (5000, 1)])
def test_large_pictures_are_shrunk_and_results_scaled_back(pipeline, size):
    width, height = size
    side = min(width, height) // 3
    squares = {"Grün": (width // 2, height // 4, side)} if side else {}
    faces = pipeline.detect(stand_in.scene(width, height, **squares))
    assert len(faces.boxes) == len(squares)
    if squares:
        left, top, _ = squares["Grün"]
        expected = [left, top, left + side, top + side]
        factor = max(size) / 640
        np.testing.assert_allclose(faces.boxes[0], expected, atol=factor)
        inside = (faces.landmarks[0] - (left, top)) / side
        assert inside.min() > 0 and inside.max() < 1


def test_embeddings_tell_the_faces_apart_and_keep_their_order(pipeline):
    scene = stand_in.scene(300, 200, Magenta=(10, 20, 50), Blau=(200, 100, 60))
    faces = pipeline.detect(scene)
    vectors = pipeline.embed(scene, faces.landmarks)
    expected = [expected_embedding("Blau"), expected_embedding("Magenta")]
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    vectors = pipeline.embed(scene, faces.landmarks[::-1])
    np.testing.assert_allclose(vectors, expected[::-1], atol=1e-3)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_landmarks_that_coincide_are_like_nobody(pipeline, bad):
    scene = stand_in.scene(300, 200, Magenta=(10, 20, 50))
    landmarks = pipeline.detect(scene).landmarks
    both = np.concatenate([np.full_like(landmarks, bad), landmarks])
    vectors = pipeline.embed(scene, both)
    assert not vectors[0].any()
    np.testing.assert_allclose(vectors[1], expected_embedding("Magenta"), atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (50, 80), (900, 700)])
def test_whole_pictures(pipeline, size):
    scene = np.empty((*size, 3), np.uint8)
    scene[:] = stand_in.COLOURS["Zyan"]
    vector = pipeline.embed_whole(scene)
    np.testing.assert_allclose(vector, expected_embedding("Zyan"), atol=1e-3)


def test_gallery_pictures_have_one_face(pipeline):
    one = stand_in.scene(100, 100, Gelb=(20, 20, 50))
    count, vector = pipeline.embed_picture(one)
    assert count == 1
    np.testing.assert_allclose(vector, expected_embedding("Gelb"), atol=1e-3)
    assert pipeline.embed_picture(stand_in.scene(100, 100)) == (0, None)
    two = stand_in.scene(100, 100, Gelb=(0, 0, 40), Rosa=(50, 50, 40))
    assert pipeline.embed_picture(two) == (2, None)


def test_the_hash_is_of_both_models(pipeline, tmp_path):
    again = face_pipeline.FacePipeline(stand_in.models(), "litert", threads=1)
    assert again.model_hash == pipeline.model_hash
    assert len(pipeline.model_hash) == 64
    assert pipeline.model_hash != pipeline.detector.model_hash


def test_a_model_of_another_task(tmp_path):
    (tmp_path / "face_detector").symlink_to(stand_in.models() / "face_embedder")
    with pytest.raises(InputError, match="face_detection"):
        face_pipeline.FacePipeline(tmp_path)


def test_no_models(tmp_path):
    with pytest.raises(InputError, match="card.json"):
        face_pipeline.FacePipeline(tmp_path)
