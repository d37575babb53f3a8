"""A model folder of a cascade: every runtime answers alike, damage is one line."""

import json
import shutil

import numpy as np
import pytest

from mlcvtf.commands import cascade_model
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.errors import InputError
from mlcvtf.video import predictor
from tests.case import child
from tests.detection.viola_jones.cascades import random_cascade
from tests.detection.viola_jones.scan_test import picture

CARD = {
    "labels": ["thing"],
    "licence": "none",
    "data": [],
    "recipe": "tests/commands/cascade_model_test.py",
    "figures": {},
}
PICTURES = [
    np.repeat(gray[..., None], 3, axis=-1)
    for gray in (picture(70, 90, 3), picture(6, 6), picture(40, 30, 8))
]


@pytest.fixture(scope="module")
def cascade():
    return random_cascade(4, (3, 5, 4), (1, 2), 0.3, slack=0.4)


@pytest.fixture(scope="module")
def folder(cascade, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "things"
    cascade_model.save(cascade, folder, CARD, PICTURES, 1.2, 1)
    return folder


def test_the_folder_and_its_card(folder):
    card = json.loads((folder / "card.json").read_text())
    names = {name.split("/")[0] for name in card["files"]}
    assert names == {"cascade.xml", "model.keras", "saved_model", "float32.tflite"}
    assert card["input"] == {
        "name": "image",
        "dtype": "uint8",
        "shape": [None, None, 3],
    }
    assert set(card["outputs"]) == {"boxes", "scores", "labels"}
    assert card["scale_factor"] == 1.2 and card["min_neighbors"] == 1
    assert set(card["parity"]["runtimes"]) == {"saved_model", "keras", "litert"}
    for outputs in card["parity"]["runtimes"].values():
        assert outputs["boxes"]["largest"] == outputs["scores"]["largest"] == 0
    assert card["parity"]["matched"] > 2
    evaluation = card["evaluation"]
    assert evaluation["equal"] == evaluation["pictures"] == len(PICTURES)
    assert evaluation["boxes"] > 2


def test_one_tree_is_a_model_too(tmp_path):
    tree = random_cascade(4, (1,), slack=0.4)
    written = cascade_model.save(tree, tmp_path / "tree", CARD, PICTURES[:2], 1.2, 1)
    assert written["parity"]["matched"] > 0


def test_the_predictor_takes_it(folder, cascade):
    model = predictor.load(folder, "litert", "cascade_detection")
    found = model(PICTURES[0])
    boxes, scores = cascade.detect_scores(PICTURES[0][..., 0], 1.2, 1)
    np.testing.assert_array_equal(found["boxes"][:, :2], boxes[:, :2])
    np.testing.assert_array_equal(found["scores"], scores)
    assert model.batch(PICTURES[0][None])["labels"].shape == (1, 100)


def test_loaded_as_written(folder, cascade):
    again, card = cascade_model.load(folder)
    for name in set(Cascade.arrays()) - {"rectangles"}:
        np.testing.assert_array_equal(getattr(again, name), getattr(cascade, name))
    used = cascade.weights != 0
    np.testing.assert_array_equal(again.rectangles[used], cascade.rectangles[used])
    assert card["task"] == "cascade_detection" and card["name"] == "things"
    assert card["labels"] == ["thing"] and card["window"] == [14, 12]
    code = (
        "import sys; from mlcvtf.commands.cascade_model import load; "
        "load(sys.argv[1]); print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    result = child(["-c", code, folder])
    assert result.stdout.split() == ["False", "False"], result.stderr


def test_bad_folders(folder, cascade, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with open(copy / "cascade.xml", "a") as file:
        file.write("\n")
    with pytest.raises(InputError, match="SHA-256 in its card.*is damaged or was"):
        cascade_model.load(copy)
    (copy / "cascade.xml").unlink()
    with pytest.raises(InputError, match="holds cascade.xml, there is none in"):
        cascade_model.load(copy)
    with pytest.raises(InputError, match="holds a card.json, there is none in"):
        cascade_model.load(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    (copy / "card.json").write_text(json.dumps(card | {"task": "face_detection"}))
    with pytest.raises(InputError, match="expected a model for cascade_detection"):
        cascade_model.load(copy)


def test_nothing_is_written_where_it_may_not_be(cascade, tmp_path):
    with pytest.raises(InputError, match="one label, what it detects, received 2"):
        cascade_model.save(cascade, tmp_path / "new", CARD | {"labels": ["a", "b"]})
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    with pytest.raises(InputError, match="is something else"):
        cascade_model.save(cascade, tmp_path / "mine", CARD)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]
