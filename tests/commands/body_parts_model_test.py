"""A model folder of body parts: every runtime answers alike, damage is one line."""

import json
import shutil

import numpy as np
import pytest

from mlcvtf.commands.body_parts_model import load_model, save_model
from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import joints as joint_models
from mlcvtf.video import predictor
from tests.case import child
from tests.segmentation.scenes import CLASSES, scene, small_forest

CARD = {
    "labels": [f"part {i}" for i in range(CLASSES)],
    "licence": "none",
    "data": [],
    "recipe": "tests/commands/body_parts_model_test.py",
    "figures": {},
}
NAMES = ("trunk", "legs")


@pytest.fixture(scope="module")
def forest():
    return small_forest()


@pytest.fixture(scope="module")
def joints():
    return joint_models.default_model([(1,), (5, 6)], CLASSES)._replace(
        push_backs=np.float32([0.1, 0.02])
    )


@pytest.fixture(scope="module")
def folder(forest, joints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "body_parts"
    save_model(forest, joints, NAMES, folder, CARD)
    return folder


def test_the_folder_and_its_card(folder, forest):
    card = json.loads((folder / "card.json").read_text())
    assert card["task"] == "body_parts" and card["labels"] == CARD["labels"]
    assert card["input"] == {
        "name": "depth",
        "dtype": "float32",
        "unit": "metres",
        "shape": [None, None],
    }
    assert card["joints"][1]["labels"] == [5, 6]
    assert set(card["parity"]["runtimes"]) == {"saved_model", "keras", "litert"}
    for outputs in card["parity"]["runtimes"].values():
        assert outputs["parts"]["largest"] == 0
        assert outputs["probabilities"]["largest"] < 1e-6
    names = {name.split("/")[0] for name in card["files"]}
    assert names == {"forest.npz", "model.keras", "saved_model", "float32.tflite"}
    assert card["evaluation"]["bytes"] == forest.size


def test_loaded_without_tensorflow(folder, forest, joints):
    compiled, model, card = load_model(folder)
    for one, other in zip(compiled.forest, forest, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(model, joints, strict=True):
        np.testing.assert_array_equal(one, other)
    assert card["name"] == "body_parts"
    code = (
        "import sys; from mlcvtf.commands.body_parts_model import load_model; "
        "load_model(sys.argv[1]); print('tensorflow' in sys.modules, "
        "'keras' in sys.modules)"
    )
    result = child(["-c", code, folder])
    assert result.stdout.split() == ["False", "False"], result.stderr


@pytest.mark.parametrize("runtime", ["litert", "keras"])
def test_the_predictor_takes_depth(folder, forest, runtime):
    model = predictor.load(folder, runtime, "body_parts")
    depth = scene(40)[0]
    parts, _ = load_model(folder)[0].classify(depth)
    np.testing.assert_array_equal(model(depth)["parts"], parts)
    np.testing.assert_array_equal(model.batch(depth[None])["parts"][0], parts)
    for wrong in (
        depth.astype(np.float64),
        depth[None],
        depth[:0],
        np.zeros((4, 4, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"float32 array \[height, width\] in met"):
            model(wrong)


def test_bad_folders(folder, forest, joints, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    content = bytearray((copy / "forest.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "forest.npz").write_bytes(content)
    with pytest.raises(InputError, match="SHA-256 in its card.*is damaged or was"):
        load_model(copy)
    (copy / "forest.npz").unlink()
    with pytest.raises(InputError, match="holds forest.npz, there is none in"):
        load_model(copy)
    with pytest.raises(InputError, match="holds a card.json, there is none in"):
        load_model(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"task": "detection"}))
    with pytest.raises(InputError, match="expected a model for body_parts"):
        load_model(copy)
    with pytest.raises(InputError, match="each of the 6 parts, received 2"):
        save_model(
            forest, joints, NAMES, tmp_path / "new", CARD | {"labels": ["a"] * 2}
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"labels": []},
        {"labels": [7]},
        {"bandwidth": 0},
        {"threshold": "high"},
        {"push_back": float("nan")},
        {"labels": 3},
    ],
)
def test_joints_of_a_card_are_checked(joints, change):
    entries = joint_models.to_card(joints, NAMES)
    with pytest.raises(InputError, match="a card's joints have"):
        joint_models.from_card([entries[0], entries[1] | change], CLASSES)
    del entries[0]["labels"]
    with pytest.raises(InputError, match="a card's joints have labels"):
        joint_models.from_card(entries, CLASSES)
