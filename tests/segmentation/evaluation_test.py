"""The figures of a forest on pictures whose truth is known."""

import cv2
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import evaluation, picture_folder, pose_sets
from mlcvtf.segmentation.body_parts.parts import PARTS, mirrored
from mlcvtf.segmentation.body_parts.picture_folder import PictureFolder
from tests.segmentation.made_mocap import write_people


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    poses = pose_sets.read_poses([write_people(path / "mocap", ("01",), 4)])
    (path / "test").mkdir()
    picture_folder.write_pictures(
        path / "test", poses, picture_folder.render_pictures(poses, 12, 3)
    )
    return PictureFolder(path / "test")


class Oracle:
    """A forest of one tree that is always sure, and says what a function makes of the
    true labels."""

    trees = 1

    def __init__(self, folder, change):
        self.truths = [labels for _, labels in evaluation.people(folder)]
        self.change = change

    def probabilities(self, sums):
        return sums / np.float32(255)

    def classify(self, depth):
        labels = self.change(self.truths.pop(0))
        sums = np.zeros((int((depth > 0).sum()), len(PARTS)), np.uint16)
        sums[np.arange(len(sums)), labels[depth > 0] - 1] = 255
        return labels, sums


def test_true_parts_give_true_joints(folder):
    model = evaluation.joints_of_parts()
    whole, near = evaluation.evaluate(model, evaluation.examples(None, folder))
    assert whole.pictures == 12 and whole.class_accuracy == 1
    assert near.pictures == (abs(folder.yaw) <= 120).sum() < 12
    assert whole.precision > 0.95 and near.precision > 0.95
    assert (whole.confusion == np.diag(whole.confusion.diagonal())).all()
    oracle = Oracle(folder, lambda labels: labels)
    same, _ = evaluation.evaluate(model, evaluation.examples(oracle, folder))
    assert same.class_accuracy == 1 and same.precision == whole.precision


def test_left_taken_for_right(folder):
    swap = np.concatenate([[0], mirrored(PARTS) + 1]).astype(np.uint8)
    oracle = Oracle(folder, lambda labels: swap[labels])
    model = evaluation.joints_of_parts()
    found, _ = evaluation.evaluate(model, evaluation.examples(oracle, folder))
    seen = (found.confusion.sum(1) > 0).sum()
    # Of all parts the neck alone has no side.
    assert found.class_accuracy == pytest.approx(1 / seen)
    # Head and neck are found as before, hands at the other one.
    assert found.joints[:2].min() > 0.9 and found.joints[8:10].max() < 0.5


def test_one_part_everywhere_is_its_share(folder):
    neck = PARTS.index("neck") + 1
    oracle = Oracle(folder, lambda labels: np.where(labels > 0, neck, 0))
    model = evaluation.joints_of_parts()
    found, _ = evaluation.evaluate(model, evaluation.examples(oracle, folder))
    seen = found.confusion.sum(1) > 0
    assert found.class_accuracy == pytest.approx(1 / seen.sum())
    assert found.confusion[:, neck - 1].sum() == found.confusion.sum()


def test_what_is_refused(folder, tmp_path):
    model = evaluation.joints_of_parts()
    with pytest.raises(InputError, match="with people, received none"):
        evaluation.evaluate(model, evaluation.examples(None, folder, []))
    path = folder.folder / f"{folder.names[2]}_depth.png"
    before = path.read_bytes()
    metres = np.rint(cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 1000)
    try:
        cv2.imwrite(str(path), metres.astype(np.uint16))
        with pytest.raises(
            InputError, match="millimetres, of people .* 000002 .* 0.00"
        ):
            list(evaluation.people(folder))
        assert len(list(evaluation.people(folder, [0, 1]))) == 2
    finally:
        path.write_bytes(before)
