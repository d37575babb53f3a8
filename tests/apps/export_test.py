import json
import re

import numpy as np
import pytest

from mlcvtf import card as cards
from mlcvtf.video import predictor
from tests.case import child
from tests.export import tiny_models

FLAGS = {"task": "face_embedding", "output": "out", "card": "card.json",
         "model": "model.keras"}

PATHS = ("output", "card", "model")


def run(folder, **changes):
    """Runs the executable in a folder's files; an empty change leaves a flag out."""
    flags = {name: folder / value if name in PATHS else value
             for name, value in (FLAGS | changes).items() if value}
    return child(["apps/export", *(f"--{k}={v}" for k, v in flags.items())],
                 timeout=600)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps(tiny_models.CARD))
    (tmp_path / "model.keras").write_bytes(b"no archive")
    return tmp_path


def only_line(process):
    """Returns the one line on the error stream."""
    assert process.stdout == ""
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("export: ")
    return line


def test_help():
    process = child(["apps/export", "--help"])
    assert process.returncode == 0
    assert process.stdout.startswith("export --model FILE.keras")
    assert "--task" in process.stdout
    assert process.stderr == ""


def test_flag_errors(files):
    process = run(files, model="")
    assert process.returncode == 2
    assert "--model" in only_line(process)
    process = run(files, task="depth")
    assert process.returncode == 2
    assert "depth" in only_line(process)


@pytest.mark.parametrize("changes, message", [
    ({"quantize": "int4"}, "--quantize is of float16, dynamic, int8, received int4"),
    ({"format": "onnx"}, "--format is of saved_model, litert, received onnx"),
    ({"quantize": "int8"}, "--quantize=int8 and --representative go together"),
    ({"representative": "."}, "--quantize=int8 and --representative go together"),
    ({"format": "saved_model", "evaluate": "--data=."}, "--format leaves them out"),
])
def test_flags_that_do_not_go_together(files, changes, message):
    process = run(files, **changes)
    assert process.returncode == 2
    assert message in only_line(process)


def test_representative_pictures_must_be_there(files):
    (files / "pictures").mkdir()
    for folder, message in (("pictures", "has none"), ("nowhere", "is neither")):
        process = run(files, quantize="int8", representative=str(files / folder))
        assert process.returncode == 1
        assert message in only_line(process)
    assert not (files / "out").exists()


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_bad_cards(files, content):
    if content is None:
        (files / "card.json").unlink()
    else:
        (files / "card.json").write_text(content)
    process = run(files)
    assert process.returncode == 1
    assert "--card" in only_line(process)
    assert not (files / "out").exists()


def test_missing_and_garbled_models(files):
    process = run(files, model="nowhere.keras")
    assert process.returncode == 1
    assert "there is none at" in only_line(process)
    process = run(files)
    assert process.returncode == 1
    assert "Keras cannot read" in process.stderr.strip().splitlines()[-1]
    assert "Traceback" not in process.stderr
    assert not (files / "out").exists()


@pytest.mark.slow
def test_exports_a_model(files):
    model = tiny_models.embedder()
    model.save(files / "model.keras")
    process = run(files)
    assert process.returncode == 0, process.stderr
    assert "parity on 9 pictures" in process.stdout
    assert re.search(r"litert +embedding +\d\.\d\de-\d\d", process.stdout)
    assert re.search(r"float32.tflite +\d\.\d+ MB, 4\.\d\d bytes", process.stdout)
    parameters = cards.read(files / "out", "face_embedding")["parameters"]
    assert parameters == model.backbone.count_params()
    face = tiny_models.spots(112, 112, 5)
    found = predictor.load(files / "out")(face)["embedding"]
    expected = np.asarray(model.embed(face[None].astype(np.float32)))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
