"""Mining finds the poses that training has not seen, and learns them."""

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import hard_poses
from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
from mlcvtf.segmentation.body_parts.forest_training import Options, train_forest
from mlcvtf.segmentation.body_parts.hard_poses import mine_hard_poses, picture_error
from tests.segmentation.scenes import CLASSES, scene

OPTIONS = Options(
    trees=2,
    depth=8,
    features=40,
    thresholds=10,
    pixels_per_image=150,
    minimum_samples=6,
)
# Every eighth figure stands on its head, and none of the first eight.
HARD = list(range(15, 48, 8))


class Pictures:
    """A set that counts how often it is read."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 48

    def __getitem__(self, i):
        self.reads += 1
        depth, labels = scene(i)
        return (depth[::-1], labels[::-1]) if i in HARD else (depth, labels)


def mean_error(forest, seeds):
    compiled = CompiledForest(forest)
    return np.mean(
        [picture_error(compiled, *(a[::-1] for a in scene(seed))) for seed in seeds]
    )


def test_the_hard_pictures_are_chosen_and_learned():
    mined = mine_hard_poses(Pictures(), CLASSES, 8, 3, 2, OPTIONS, threads=1)
    assert mined.chosen[:8].tolist() == list(range(8))
    assert set(mined.chosen[8:]) <= set(HARD) and len(mined.chosen) == 11
    assert len(mined.errors) == 1 and 0 < mined.errors[0] < 1
    # As many pictures without mining do not know the pose.
    plain = train_forest([scene(i) for i in range(11)], CLASSES, OPTIONS)
    unseen = range(100, 106)
    assert mean_error(mined.forest, unseen) < 0.7 * mean_error(plain, unseen)


def test_goes_on_after_a_kill(tmp_path, monkeypatch):
    whole = mine_hard_poses(Pictures(), CLASSES, 8, 3, 3, OPTIONS, threads=1)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # In the second round's search for hard pictures.
        hardest = hard_poses._hardest
        calls = []
        patch.setattr(
            hard_poses,
            "_hardest",
            lambda *args: killed() if calls else calls.append(1) or hardest(*args),
        )
        with pytest.raises(KeyboardInterrupt):
            mine_hard_poses(Pictures(), CLASSES, 8, 3, 3, OPTIONS, tmp_path, 1)
    pictures = Pictures()
    again = mine_hard_poses(pictures, CLASSES, 8, 3, 3, OPTIONS, tmp_path, 1)
    np.testing.assert_array_equal(again.chosen, whole.chosen)
    assert again.errors == whole.errors
    for one, other in zip(again.forest, whole.forest, strict=True):
        np.testing.assert_array_equal(one, other)
    # The search over the 37 others, and the 14 of the last training.
    assert pictures.reads == 37 + 14


def test_an_error_is_a_mean_over_parts():
    class Fixed:
        def classify(self, depth):
            return np.array([[1, 1, 1, 2, 0]], np.uint8), None

    labels = np.array([[1, 1, 2, 2, 2]], np.uint8)
    assert picture_error(Fixed(), np.ones((1, 5)), labels) == pytest.approx(0.25)
    assert picture_error(Fixed(), np.ones((1, 5)), np.array([[1, 1, 1, 2, 0]])) == 0


@pytest.mark.parametrize("numbers", [(8, 21, 3), (0, 1, 1), (8, 0, 2), (8, 1, 0)])
def test_too_few_pictures(numbers):
    with pytest.raises(InputError, match="rounds of .* received 48"):
        mine_hard_poses(Pictures(), CLASSES, *numbers, OPTIONS)
