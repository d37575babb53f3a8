"""The shipped body-part forest on a picture that is rendered here.

This proves that everything fits together, not how accurate it is: that is in the card,
measured by body_train on people it has not seen.
"""

import json

import numpy as np
import pytest

from mlcvtf.commands import body_parts_model
from mlcvtf.segmentation.body_parts import pose, rendering, synthetic_motion
from mlcvtf.segmentation.body_parts.body import mean_build
from mlcvtf.segmentation.body_parts.camera import Camera, Placement
from mlcvtf.segmentation.body_parts.parts import JOINTS, PARTS
from tests.case import ROOT, child

FOLDER = ROOT / "saved_models" / "body_parts"
pytestmark = pytest.mark.skipif(
    not (FOLDER / "card.json").exists(), reason="saved_models has no body parts yet"
)


@pytest.fixture(scope="module")
def model():
    return body_parts_model.load_model(FOLDER)


def test_the_card_says_what_it_is(model):
    forest, _, card = model
    assert card["labels"] == list(PARTS)
    assert [joint["name"] for joint in card["joints"]] == list(JOINTS)
    assert forest.trees == 3 and 18 <= forest.forest.depth <= 20
    assert forest.forest.size <= 16e6
    assert (FOLDER / "float32.tflite").stat().st_size <= 16e6
    assert "CC BY-NC" in card["licence"] and "research" in card["licence"]
    assert any(
        "Bandai" in line and "tested on CMU subject 02" in line for line in card["data"]
    )
    figures = {row["figure"]: row["value"] for row in card["figures"]}
    # Guessing is 0.03; the figures themselves are in docs/body_parts.md.
    assert figures["class_accuracy"] > 0.35 and figures["joint_map_10cm"] > 0.55
    assert figures["test_pictures"] >= 300


def test_a_person_who_faces_the_camera(model):
    forest, joints, _ = model
    place = Placement(0.2, 0.0, np.array([0.1, 0.1, 2.7]), 1.0)
    right, seen = 0, 0
    for seconds in (0.0, 0.4, 0.8):
        picture = rendering.clean_picture(
            synthetic_motion.pose_at(seconds), mean_build(), place
        )
        # What a sensor gives: whole millimetres.
        depth = np.round(picture.depth, 3)
        found = pose.estimate(forest, joints, depth, Camera().points(depth))
        errors = np.linalg.norm(found["joints"][:, :3] - picture.joints, axis=1)
        right += int((errors < 0.1).sum())
        seen += len(errors)
        assert errors[JOINTS.index("head")] < 0.1
        assert errors[JOINTS.index("neck")] < 0.1
        assert (found["parts"] > 0).sum() == (depth > 0).sum()
    assert right > 0.5 * seen


def test_the_app_finds_the_made_person():
    result = child(
        [
            ROOT / "apps" / "body_pose",
            "--source=synthetic",
            "--max-frames=4",
            "--json=-",
        ]
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    names = [{joint["name"] for joint in line["joints"]} for line in lines]
    assert len(lines) == 4 and all({"head", "neck"} <= one for one in names)
