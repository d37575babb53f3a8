import json

import keras
import numpy as np
import pytest

from mlcvtf import card as cards
from mlcvtf.commands import import_weights
from mlcvtf.errors import InputError
from mlcvtf.video import predictor
from tests.case import child


def run(*arguments, timeout=120):
    return child(["apps/import_weights", *map(str, arguments)], timeout)


def last_line(process):
    """Returns the command's one line on the error stream, after TensorFlow's own."""
    assert process.stdout == "" and "Traceback" not in process.stderr
    line = process.stderr.strip().splitlines()[-1]
    assert line.startswith("import_weights: ")
    return line


@pytest.mark.parametrize("arguments, message", [
    (["--arch=resnet50", "a.pth", "--output=out"], "--from"),
    (["--from=caffe", "--arch=resnet50", "a.pth", "--output=out"], "caffe"),
    (["--from=timm", "--arch=resnet50", "--output=out"], "received 0"),
    (["--from=timm", "--arch=resnet50", "a.pth"], "--output is the model folder"),
    (["--from=timm", "--arch=resnet50", "a.pth", "--output=o", "--format=onnx"],
     "--format is of saved_model, litert, received onnx"),
    (["--from=timm", "--arch=resnet50", "a.pth", "--output=o", "--classes=1"],
     "--classes"),
])
def test_flag_errors(arguments, message):
    process = run(*arguments)
    assert process.returncode == 2
    assert message in last_line(process)


def test_bad_files(tmp_path):
    flags = ["--from=timm", "--arch=resnet18", f"--output={tmp_path / 'out'}"]
    process = run(*flags, tmp_path / "none.pth")
    assert process.returncode == 1
    assert "there is none at" in last_line(process)
    (tmp_path / "a.pth").write_bytes(b"no weights")
    process = run(*flags, tmp_path / "a.pth")
    assert process.returncode == 1
    assert "its first bytes are of neither" in last_line(process)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text, expected", [
    ('["a", "b"]', ["a", "b"]),
    ('{"id2label": {"1": "b", "0": "a"}}', ["a", "b"]),
    ("a\nb, c\n", ["a", "b, c"]),
    ("{}", None), ("[1]", None), ('{"id2label": {"7": "a"}}', None),
])
def test_labels(tmp_path, monkeypatch, text, expected):
    (tmp_path / "labels").write_text(text)
    import_weights.FLAGS(["x", "--from=timm", "--arch=list",
                          f"--labels={tmp_path / 'labels'}"])
    if expected is None:
        with pytest.raises(InputError, match="--labels holds a JSON list"):
            import_weights._labels()
    else:
        assert import_weights._labels() == expected


@pytest.mark.slow
def test_a_folder_that_the_apps_run(tmp_path):
    process = run("--from=keras", "--arch=list")
    assert "EfficientNetB7" in process.stdout.split()
    keras.utils.set_random_seed(0)
    peer = keras.applications.MobileNetV2(
        (64, 64, 3), 0.35, weights=None, classes=3, classifier_activation=None)
    peer.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    process = run("--from=keras", "--arch=MobileNetV2_0.35", "--classes=3", "--size=64",
                  f"--labels={tmp_path / 'labels.txt'}", f"--output={tmp_path / 'out'}",
                  "--licence=Apache-2.0", "--data=ImageNet-1k",
                  tmp_path / "a.weights.h5", timeout=600)
    assert process.returncode == 0, process.stderr
    assert "missing 0, unexpected 0" in process.stdout
    card = cards.read(tmp_path / "out", "classification")
    assert card["labels"] == ["cat", "dog", "owl"]
    assert card["normalisation"] == {"mean": [127.5] * 3, "std": [127.5] * 3,
                                     "bgr": False}
    assert card["licence"] == "Apache-2.0" and card["data"] == ["ImageNet-1k"]
    assert card["recipe"]["sha256"] == cards.sha256(tmp_path / "a.weights.h5")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "card.json", "model.keras", "saved_model"}
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    expected = keras.ops.softmax(peer(picture[None] / 127.5 - 1.0))[0]
    found = predictor.load(tmp_path / "out")(picture)["scores"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    process = run("--from=keras", "--arch=MobileNetV2_0.35", "--classes=3",
                  f"--labels={tmp_path / 'labels.txt'}", "--output=/nonexistent/out",
                  tmp_path / "out" / "model.keras", timeout=600)
    assert process.returncode == 1 and "Traceback" not in process.stderr
    json.dumps(card)
