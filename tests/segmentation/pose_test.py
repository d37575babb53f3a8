"""From depth to parts and joints, on figures of boxes."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import joints
from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
from mlcvtf.segmentation.body_parts.pose import estimate
from tests.segmentation.scenes import CLASSES, scene, small_forest


def points_of(depth):
    """Where the pixels of a scene are, as `scenes` drew them."""
    rows, columns = np.mgrid[: depth.shape[0], : depth.shape[1]]
    focal = 285 * depth.shape[1] / 320
    x = (columns - depth.shape[1] / 2) * depth / focal
    y = (rows - depth.shape[0] / 2) * depth / focal
    return np.stack([x, y, depth], -1)


@pytest.fixture(scope="module")
def compiled():
    forest = small_forest(
        20,
        depth=8,
        features=60,
        thresholds=20,
        pixels_per_image=200,
        minimum_samples=6,
    )
    return CompiledForest(forest)


def test_joints_lie_in_the_middle_of_their_parts(compiled):
    model = joints.default_model([(i,) for i in range(1, CLASSES + 1)], CLASSES)
    model = model._replace(push_backs=np.zeros(CLASSES, np.float32))
    errors = []
    for seed in range(100, 108):
        depth, labels = scene(seed)
        found = estimate(compiled, model, depth, points_of(depth))
        assert (found["parts"][depth > 0] == labels[depth > 0]).mean() > 0.7
        for part in (2, 3, 4):
            own = points_of(depth)[(labels == part) & (depth > 0)]
            # A box is flat: any place in it is a mode; the head and arms are small.
            errors.append(np.linalg.norm(found["joints"][part - 1, :3] - own.mean(0)))
    assert np.median(errors) < 0.1


def test_an_empty_picture_has_no_joints(compiled):
    model = joints.default_model([(1,), (2, 3)], CLASSES)
    depth = np.zeros((5, 7))
    found = estimate(compiled, model, depth, points_of(depth))
    assert not found["parts"].any() and np.isnan(found["joints"][:, :3]).all()
    assert found["joints"].shape == (2, 4) and (found["joints"][:, 3] == 0).all()


def test_bad_input(compiled):
    model = joints.default_model([(1,)], CLASSES)
    with pytest.raises(InputError, match="in metres"):
        estimate(compiled, model, np.full((4, 4), 900.0), np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"of the \(4, 4\) pixels, received shape"):
        estimate(compiled, model, np.ones((4, 4)), np.zeros((4, 5, 3)))
