import json
import shutil

import numpy as np
import pytest

from mlcvtf import card as cards
from mlcvtf.errors import InputError
from mlcvtf.video import predictor
from tests.case import child
from tests.export import tiny_models

RUNTIMES = ("litert", "litert_float16", "saved_model", "keras")
# Pixels; the second is for weights in float16.
TOLERANCES = {"litert_float16": 0.1}


@pytest.fixture(scope="module")
def detectors():
    folder = tiny_models.folder("face_detection")
    return {name: predictor.load(folder, name) for name in RUNTIMES}


@pytest.fixture
def folder(tmp_path):
    """A copy of the embedder that a test may damage."""
    place = tmp_path / "embedder"
    shutil.copytree(tiny_models.folder("face_embedding"), place)
    return place


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_gives_the_same_detections(detectors, runtime):
    counts = []
    for picture in tiny_models.PICTURES.values():
        expected = detectors["litert"].signatures["serving_default"](picture)
        found = detectors[runtime](picture)
        sure = [answer["scores"] >= tiny_models.THRESHOLD
                for answer in (expected, found)]
        counts.append(sure[0].sum())
        for name in ("boxes", "landmarks"):
            np.testing.assert_allclose(
                found[name][sure[1]], expected[name][sure[0]],
                atol=TOLERANCES.get(runtime, 0.01),
            )
        assert found["labels"].dtype == np.int32
    assert min(counts) == 0
    assert max(counts) > 50


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (33, 95), (480, 640), (639, 1)])
def test_the_prepared_way_gives_what_the_graph_gives(detectors, shape):
    image = tiny_models.spots(*shape, 8)
    image[0, 0] = 255
    model = detectors["litert"]
    expected = model.signatures["serving_default"](image)
    found = model(image)
    assert len(expected["scores"]) >= 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_are_padded(detectors, runtime):
    images = np.stack([tiny_models.spots(60, 90, count) for count in (0, 3)])
    found = detectors[runtime].batch(images)
    assert found["boxes"].shape == (2, 100, 4)
    assert (found["labels"][0] == -1).all()
    kept = found["labels"][1] >= 0
    expected = detectors[runtime](images[1])
    np.testing.assert_allclose(found["boxes"][1][kept], expected["boxes"], atol=1e-3)
    assert kept.sum() >= 1


def test_answers_stay_when_the_model_runs_again(detectors):
    model = detectors["litert"]
    first = model(tiny_models.PICTURES["one 480x640"])
    kept = {name: value.copy() for name, value in first.items()}
    model(tiny_models.PICTURES["many 480x640"])
    model(tiny_models.PICTURES["one 17x33"])
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_views_of_pictures_are_read_right(detectors):
    image = tiny_models.PICTURES["many 333x517"]
    flipped = image[::-1, ::-1]
    for name, model in detectors.items():
        for signature in ("serving_default", None):
            call = model.signatures[signature] if signature else model
            found, expected = call(flipped), call(flipped.copy())
            np.testing.assert_array_equal(found["boxes"], expected["boxes"],
                                          err_msg=name)


def test_embedder_by_every_runtime():
    folder = tiny_models.folder("face_embedding")
    face = tiny_models.spots(112, 112, 6)
    models = {name: predictor.load(folder, name, task="face_embedding")
              for name in RUNTIMES}
    expected = models["keras"](face)["embedding"]
    for name, model in models.items():
        found = model(face)["embedding"]
        tolerance = 1e-2 if name == "litert_float16" else 1e-4
        np.testing.assert_allclose(found, expected, atol=tolerance)
        batch = model.batch(np.stack([face, 255 - face]))["embedding"]
        np.testing.assert_allclose(batch[0], found, atol=1e-5)
        assert np.abs(batch[1] - found).max() > 1e-3


def test_auto_takes_the_fastest_there_is(folder):
    assert predictor.load(folder).runtime == "litert"
    (folder / "float32.tflite").unlink()
    assert predictor.load(folder).runtime == "litert_float16"
    (folder / "float16.tflite").unlink()
    assert predictor.load(folder).runtime == "saved_model"
    shutil.rmtree(folder / "saved_model")
    (folder / "model.keras").unlink()
    with pytest.raises(InputError, match="holds one of .*, there is none"):
        predictor.load(folder)


def test_the_hash_is_that_of_the_weights_the_task_and_the_input(detectors):
    hashes = {model.model_hash for model in detectors.values()}
    assert len(hashes) == 1
    (mine,) = hashes
    assert len(mine) == 64 and int(mine, 16) >= 0
    card = cards.read(tiny_models.folder("face_embedding"))
    found = predictor.model_hash(card)
    assert found != mine
    # Exported again, files differ in their bytes but not in what they compute.
    assert found == predictor.model_hash(dict(card, files={}, commit="another"))
    for key, value in (("weights", "0"), ("task", "face_detection"), ("input", {})):
        assert predictor.model_hash(card | {key: value}) != found
    del card["weights"]
    with pytest.raises(InputError, match="a digest of its weights, that of .* none"):
        predictor.model_hash(card)


def test_litert_never_imports_tensorflow():
    code = """
import sys, numpy
from mlcvtf.video import predictor
model = predictor.load(sys.argv[1], threads=1)
print(model(numpy.full((64, 64, 3), 255, numpy.uint8))["scores"].max() > 0.9)
print(sorted({"tensorflow", "keras", "cv2"} & set(sys.modules)))
"""
    process = child(["-c", code, tiny_models.folder("face_detection")])
    assert process.stdout.split("\n")[:2] == ["True", "[]"], process.stderr
    assert process.stderr == "", "what XNNPACK logs is not for users"


@pytest.mark.parametrize("runtime, file", [
    ("litert", "float32.tflite"),
    ("litert_float16", "float16.tflite"),
    ("saved_model", "saved_model/variables/variables.data-00000-of-00001"),
    ("saved_model", "saved_model/saved_model.pb"),
    ("keras", "model.keras"),
])
@pytest.mark.parametrize("damage", ["cut", "bits", "gone"])
def test_damaged_files_are_named(folder, runtime, file, damage):
    content = bytearray((folder / file).read_bytes())
    if damage == "cut":
        (folder / file).write_bytes(content[: len(content) // 2])
    elif damage == "bits":
        content[len(content) // 2] ^= 0xFF
        (folder / file).write_bytes(content)
    else:
        (folder / file).unlink()
    with pytest.raises(InputError) as caught:
        predictor.load(folder, runtime)
    message = str(caught.value)
    assert file in message and "\n" not in message
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x1c\0\0\0TFL3" + bytes(1000)])
def test_files_that_are_no_models_although_the_card_lists_them(folder, content):
    (folder / "float32.tflite").write_bytes(content)
    cards.write(folder, json.loads((folder / "card.json").read_text()))
    with pytest.raises(InputError, match="must be a model that litert can load: "):
        predictor.load(folder, "litert")


def test_files_that_the_card_does_not_list(folder):
    card = json.loads((folder / "card.json").read_text())
    del card["files"]["float16.tflite"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="must list float16.tflite"):
        predictor.load(folder, "litert_float16")


def test_bad_folders_and_names(folder, tmp_path):
    with pytest.raises(InputError, match="there is none in .*nowhere"):
        predictor.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="for face_detection, .* for face_embedding"):
        predictor.load(folder, task="face_detection")
    with pytest.raises(InputError, match="a runtime is auto or one of .* torch"):
        predictor.load(folder, "torch")
    (folder / "card.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        predictor.load(folder)


@pytest.mark.parametrize("image, message", [
    (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),
    (np.zeros((4, 4, 4), np.uint8), r"uint8 \[4, 4, 4\]"),
    (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\]"),
    (np.zeros((4, 4, 3), np.float32), r"float32 \[4, 4, 3\]"),
    ([[1, 2, 3]], r"list \[\]"),
])
def test_what_is_no_picture_is_a_defect_of_the_caller(detectors, image, message):
    with pytest.raises(ValueError, match=message):
        detectors["litert"](image)
    with pytest.raises(ValueError, match="n, height, width, 3"):
        detectors["litert"].batch(image)
