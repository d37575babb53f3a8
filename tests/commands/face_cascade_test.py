"""What the card of the face cascade says, fitted on pictures of dark squares."""

import numpy as np
import pytest

from mlcvtf.commands import cascade_faces, face_cascade
from mlcvtf.embedding import alignment
from mlcvtf.errors import InputError
from tests.commands import dark_squares

PLACES = [(40, 30, 24), (20, 50, 30), (60, 20, 40), (70, 60, 18)]


def pictures():
    """Pictures of a square each, and landmarks as `dark_squares.POINTS` implies."""
    images = [dark_squares.scene(160, 120, place) for place in PLACES]
    squares = [(x - s / 2, y - s / 2, 2 * s, 2 * s) for x, y, s in PLACES]
    return images, cascade_faces.implied(squares, dark_squares.POINTS)


def test_the_points_are_fitted_on_faces_that_are_found():
    images, landmarks = pictures()
    # Of one there is nothing to see, and in one the surest square is elsewhere.
    images += [dark_squares.scene(160, 120), images[0]]
    landmarks = [*landmarks, landmarks[0], landmarks[0] + 300]
    points = face_cascade.fit_points(dark_squares.cascade(), images, landmarks)
    for name, tolerance in (("x", 0.05), ("y", 0.05), ("scale", 0.002)):
        assert points[name] == pytest.approx(dark_squares.POINTS[name], abs=tolerance)


def test_without_a_face_nothing_is_fitted():
    images = [dark_squares.scene(160, 120)] * 3
    with pytest.raises(InputError, match="faces that the cascade finds, .*none of 3"):
        face_cascade.fit_points(
            dark_squares.cascade(), images, [alignment.TEMPLATE] * 3
        )


def test_thresholds_by_false_boxes_of_backgrounds():
    images, _ = pictures()
    shown = [image[..., 0] for image in images]
    empty = dark_squares.scene(160, 120)[..., 0]
    scores = np.sort(
        np.concatenate(
            [
                cascade_faces.squares_of(dark_squares.cascade(), gray)[1]
                for gray in shown
            ]
        )
    )[::-1]
    # Four false boxes in forty pictures, of which two are allowed.
    backgrounds = [*shown, *[empty] * 36]
    score, certain, count = face_cascade.choose_thresholds(
        dark_squares.cascade(), backgrounds
    )
    assert count == 40 and (scores >= score).sum() <= 2
    assert scores[0] < certain <= scores[0] + 2e-4
    nothing = face_cascade.choose_thresholds(dark_squares.cascade(), [empty] * 3)
    assert nothing[0] == nothing[1] == pytest.approx(1e-4)
