"""Faces by a cascade: where landmarks are implied, scores, keys and what is refused."""

import cv2
import numpy as np
import pytest

from mlcvtf.commands import cascade_faces, face_pipeline, video_app
from mlcvtf.embedding import alignment
from mlcvtf.embedding.gallery import Gallery
from mlcvtf.errors import InputError
from tests.commands import dark_squares
from tests.video import stand_in


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return dark_squares.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def detector(models):
    return cascade_faces.load(models)


def test_boxes_and_landmarks_are_implied_by_the_squares(detector):
    faces = detector.detect(dark_squares.scene(160, 120, (40, 30, 24), (110, 60, 12)))
    assert (
        faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32
    )
    assert len(faces.boxes) == 2
    assert (np.diff(faces.scores) <= 0).all() and 0 < faces.scores.min() < 1
    order = np.argsort(faces.landmarks[:, 0, 0])
    for face, (left, top, side) in zip(
        order, ((40, 30, 24), (110, 60, 12)), strict=True
    ):
        # The square of the cascade is twice as wide as what is dark.
        wide = 2 * side
        middle = np.array([left + side / 2, top + side / 2 + 0.05 * wide]) - 0.5
        template = alignment.TEMPLATE - alignment.SIZE / 2
        expected = middle + template * 0.01 * wide
        np.testing.assert_allclose(faces.landmarks[face], expected, atol=0.12 * wide)
        np.testing.assert_allclose(
            faces.boxes[face], alignment.face_box(faces.landmarks[face]), atol=1e-3
        )


def test_nothing_is_found_where_nothing_is(detector):
    for size in ((100, 80), (5, 5), (200, 3)):
        faces = detector.detect(dark_squares.scene(*size))
        assert faces.boxes.shape == (0, 4)
        assert faces.scores.shape == (0,)
        assert faces.landmarks.shape == (0, 5, 2)


def test_the_threshold_is_the_card_s(models, detector, tmp_path):
    picture = dark_squares.scene(160, 120, (40, 30, 24))
    (score,) = detector.detect(picture).scores
    for threshold, count in ((score - 0.01, 1), (score + 0.01, 0)):
        thresholds = {"score": float(threshold), "certain": 1.0}
        other = cascade_faces.load(dark_squares.write(tmp_path, thresholds=thresholds))
        assert len(other.detect(picture).boxes) == count


def test_landmarks_that_were_fitted_are_implied_again():
    random = np.random.default_rng(0)
    squares = np.concatenate(
        [
            random.uniform(0, 90, (30, 2)),
            np.repeat(random.uniform(20, 60, (30, 1)), 2, 1),
        ],
        axis=1,
    )
    points = {"x": 0.47, "y": 0.61, "scale": 0.013}
    landmarks = cascade_faces.implied(squares, points)
    assert cascade_faces.fit(squares, landmarks) == pytest.approx(points, abs=1e-4)
    # One face that was found wrongly does not move a median.
    landmarks[0] += 500
    assert cascade_faces.fit(squares, landmarks) == pytest.approx(points, abs=1e-2)


def test_a_face_counts_once():
    picture = dark_squares.scene(160, 120, (40, 30, 24))[..., 0]
    squares, scores = cascade_faces.squares_of(dark_squares.cascade(), picture)
    assert len(squares) == 1
    # The best window is as much above the stage's threshold as any that passes: 0.5.
    np.testing.assert_allclose(scores, 0.5 / 1.5, rtol=1e-4)


def test_a_square_within_another_goes():
    squares = np.array([[0, 0, 40, 40], [10, 10, 12, 12], [35, 35, 40, 40]])
    assert cascade_faces._once(squares).tolist() == [True, False, True]


def test_vectors_of_two_detectors_do_not_mix(models, detector, tmp_path):
    moved = dark_squares.write(tmp_path, points=dark_squares.POINTS | {"x": 0.4})
    assert cascade_faces.load(moved).model_hash != detector.model_hash
    for name in ("face_detector", "face_embedder"):
        (tmp_path / name).symlink_to(stand_in.models() / name)
    hashes = [
        face_pipeline.FacePipeline(tmp_path, "litert", detector=name).model_hash
        for name in video_app.DETECTORS
    ]
    assert len(set(hashes)) == 2
    people = tmp_path / "people"
    (people / "Ada").mkdir(parents=True)
    picture = dark_squares.scene(100, 100, (30, 30, 30))
    cv2.imwrite(str(people / "Ada" / "a.png"), picture)
    seen = []

    def embed(image):
        seen.append(image)
        return 1, np.eye(1, 4, dtype=np.float32)[0]

    for key in (hashes[0], hashes[1], hashes[1]):
        Gallery(people, embed, key).refresh()
    assert len(seen) == 2


def test_models_that_do_not_serve(models, tmp_path):
    with pytest.raises(InputError, match="card.json, there is none in .*face_cascade"):
        cascade_faces.load(tmp_path)
    with pytest.raises(
        InputError, match="says where landmarks are, that of .* does not"
    ):
        cascade_faces.load(dark_squares.write(tmp_path, points={"x": 0.5}))
    other = tmp_path / "other"
    other.mkdir()
    (other / "face_cascade").symlink_to(stand_in.models() / "face_detector")
    with pytest.raises(InputError, match="expected a model for cascade_detection"):
        face_pipeline.FacePipeline(other, "litert", detector="cascade")
