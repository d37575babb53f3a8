"""Similarity alignment against a general solver and real geometry."""

import numpy as np
import pytest

from mlcvtf.embedding import alignment


def test_equals_least_squares():
    generator = np.random.default_rng(0)
    for _ in range(20):
        source, target = generator.normal(size=(2, 5, 2)) * 10
        rows, right = [], []
        for (x, y), (u, v) in zip(source, target, strict=True):
            rows += [[x, -y, 1, 0], [y, x, 0, 1]]
            right += [u, v]
        a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
        np.testing.assert_allclose(
            alignment.similarity(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-9
        )


def test_degenerate_points_are_refused():
    with pytest.raises(ValueError, match="two different finite points"):
        alignment.similarity(np.ones((5, 2)), alignment.TEMPLATE)
    with pytest.raises(ValueError, match="two different finite points"):
        alignment.similarity(np.full((5, 2), np.nan), alignment.TEMPLATE)


@pytest.mark.parametrize(
    "scale, angle", [(1.0, 0.0), (0.5, 30.0), (3.0, -20.0), (8.0, 5.0)]
)
def test_aligned_landmarks_lie_on_the_template(scale, angle):
    turn = np.deg2rad(angle)
    rotation = scale * np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    points = alignment.TEMPLATE @ rotation.T + 60 * scale
    side = int(200 * scale)
    image = np.zeros((side, side, 3), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for x, y in points:
        distance = (columns - x) ** 2 + (rows - y) ** 2
        spot = 255 * np.exp(-distance / (2 * (2.0 * scale) ** 2))
        image = np.maximum(image, spot[..., None].astype(np.uint8))
    crop = alignment.align(image, points).astype(float).sum(-1)
    rows, columns = np.mgrid[:112, :112]
    for x, y in alignment.TEMPLATE:
        weight = crop * ((columns - x) ** 2 + (rows - y) ** 2 < 49)
        centre = np.array([(weight * columns).sum(), (weight * rows).sum()])
        centre /= weight.sum()
        np.testing.assert_allclose(centre, (x, y), atol=0.35)


def test_face_box_follows_the_face():
    moved = alignment.TEMPLATE * 2 + [100, 50]
    np.testing.assert_allclose(
        alignment.face_box(moved),
        alignment.face_box(alignment.TEMPLATE) * 2 + [100, 50, 100, 50],
        atol=1e-3,
    )
    width = np.diff(alignment.face_box(moved)[[0, 2]])[0]
    assert abs(width - 2 * alignment.BOX_SIZE[0]) < 1e-3
