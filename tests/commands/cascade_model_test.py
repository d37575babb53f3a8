"""A model folder of a cascade: loaded as written, damage is one line."""

import json
import shutil

import numpy as np
import pytest

from mlcvtf.commands import cascade_model
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.errors import InputError
from tests.case import child
from tests.detection.viola_jones.cascades import random_cascade

CARD = {
    "labels": ["thing"],
    "licence": "none",
    "data": [],
    "recipe": "tests/commands/cascade_model_test.py",
    "figures": {},
}


@pytest.fixture(scope="module")
def cascade():
    return random_cascade(3, nodes=(1, 2), tilted=0.2)


@pytest.fixture(scope="module")
def folder(cascade, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "things"
    cascade_model.save(cascade, folder, CARD)
    return folder


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
