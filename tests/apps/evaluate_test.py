"""The executable on small sets: figures of every runtime, files, exit codes."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf import card as cards
from mlcvtf.data import coco
from mlcvtf.data.folders import read_class_folders
from mlcvtf.data.records import read_image
from mlcvtf.export import litert, saved_model
from mlcvtf.training import evaluation
from tests.apps.face_verify_test import pair_rows, pictures, write_pairs
from tests.case import ROOT, child
from tests.data.made_sets import noise, write, write_zip
from tests.export import tiny_models
from tests.training.evaluation_test import spots
from tests.video import stand_in

APP = ROOT / "apps" / "evaluate"
LABELS = [f"class {i}" for i in range(7)]


def evaluate(model, data, *more, **options):
    return child([APP, f"--model={model}", f"--data={data}", *more], **options)


def figures(model, data, *more):
    result = evaluate(model, data, "--json=-", *more)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def assert_one_line(result, *parts, code=1):
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def models():
    return stand_in.models()


@pytest.fixture
def detector(models):
    return models / "face_detector"


def squares(folder, name="val", category="face"):
    """A set of coloured squares as boxes; the second picture's box is half off."""
    images = {
        f"{name}{i}.png": stand_in.scene(160, 120, Rosa=(20 + i, 10, 50))
        for i in range(3)
    }
    boxes = [[20, 10, 50, 50], [46, 10, 50, 50], [22, 10, 50, 50]]
    content = {
        "images": [
            {"id": i, "file_name": file, "width": 160, "height": 120}
            for i, file in enumerate(images)
        ],
        "annotations": [
            {"image_id": i, "category_id": 1, "bbox": box}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": category}],
    }
    write_zip(folder / f"{name}.zip", images)
    write(folder / f"{name}.json", json.dumps(content))
    return content


def test_prints_a_table_and_writes_the_report(tmp_path, detector):
    squares(tmp_path)
    report = tmp_path / "report.json"
    result = evaluate(detector, tmp_path, f"--json={report}", "--iou=0.5,0.3")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("face_detector (face_detection), litert, model hash ")
    assert lines[1] == "coco val: 3 of 3 pictures, 3 boxes (0 crowd, 0 difficult)"
    # The surest of three equal scores is right, the next wrong, the third right:
    # two thirds of the recall, at a precision of 1 and then of 2/3.
    assert "VOC_AP50        0.5556" in lines and "VOC_AP30        1.0000" in lines
    content = json.loads(report.read_text())
    assert content["figures"]["VOC_AP50"] == pytest.approx(1 / 3 + 2 / 9)
    assert content["runtime"] == "litert" and content["model"]["hash"][:12] in lines[0]
    assert content["data"]["pictures_in_all"] == content["pictures"] == 3
    assert content["data"]["classes"] == {"face": 3}
    assert {"ai-edge-litert", "numpy", "python"} <= set(content["versions"])
    assert content["settings"]["iou"] == ["0.5", "0.3"]


def test_litert_never_imports_tensorflow(tmp_path, detector):
    squares(tmp_path)
    code = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    result = child(["-c", code, APP, f"--model={detector}", f"--data={tmp_path}"])
    assert result.stdout.splitlines()[-1] == "set()", result.stderr


def test_parts_and_a_limit_are_chosen(tmp_path, detector):
    squares(tmp_path)
    squares(tmp_path, "train")
    assert_one_line(evaluate(detector, tmp_path), "(train, val), received none")
    assert_one_line(evaluate(detector, tmp_path, "--split=test"), "received test")
    report = figures(detector, tmp_path, "--split=val", "--limit=2")
    # The first and the last, which are both right.
    assert report["figures"]["AP"] == 1 and report["pictures"] == 2
    assert report["data"]["pictures_in_all"] == 3


def test_classes_are_matched_by_name_or_mapped(tmp_path, detector):
    squares(tmp_path, category="person")
    assert_one_line(evaluate(detector, tmp_path), "(face)", "received person")
    assert_one_line(evaluate(detector, tmp_path, "--map=dog=face"), "received dog")
    report = figures(detector, tmp_path, "--map=person=face")
    assert report["figures"]["AP50"] > 0.5


def test_pictures_that_cannot_be_used(tmp_path, detector):
    content = squares(tmp_path)
    images = {
        "val0.png": stand_in.scene(160, 120, Rosa=(20, 10, 50)),
        "val1.png": b"no picture",
    }
    write_zip(tmp_path / "val.zip", images)
    assert_one_line(evaluate(detector, tmp_path), "val1.png (10 bytes) is not")
    result = evaluate(detector, tmp_path, "--on-bad-image=skip")
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert "1 of 3 pictures" in lines[1] and "AP50            1.0000" in lines
    assert lines[-3] == "skipped 2 of 3 pictures that cannot be used:"
    assert "val1.png" in lines[-2] and "val2.png" in lines[-1]
    report = figures(detector, tmp_path, "--on-bad-image=skip")
    assert [name[-8:] for name in report["skipped"]] == ["val1.png", "val2.png"]
    write_zip(tmp_path / "val.zip", {"val1.png": b"no picture"})
    assert_one_line(evaluate(detector, tmp_path, "--on-bad-image=skip"), "of 3 there")
    content["annotations"].clear()
    write(tmp_path / "val.json", json.dumps(content | {"images": []}))
    assert_one_line(evaluate(detector, tmp_path), "of 0 there are none")


def test_what_does_not_fit_is_one_line(tmp_path, models, detector):
    assert_one_line(evaluate(detector, tmp_path / "none"), "is none")
    assert_one_line(evaluate(detector, tmp_path), "is in none")
    assert_one_line(evaluate(tmp_path, tmp_path), "card.json")
    write(tmp_path / "set" / "cat" / "a.png", noise(0))
    assert_one_line(evaluate(detector, tmp_path / "set"), "with boxes", "label")
    assert_one_line(evaluate(detector, tmp_path, "--format=pairs"), "face_embedding")
    squares(tmp_path)
    assert_one_line(evaluate(detector, tmp_path, "--runtime=keras"), "model.keras")
    assert_one_line(evaluate(detector, tmp_path, "--runtime=onnx"), "received onnx")
    assert_one_line(evaluate(detector, tmp_path, f"--json={tmp_path}"), "figures")
    other = tmp_path / "other"
    shutil.copytree(detector, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps(card | {"task": "depth"}))
    assert_one_line(evaluate(other, tmp_path), "received one for depth")
    embedder = models / "face_embedder"
    assert_one_line(evaluate(embedder, tmp_path, "--format=coco"), "on pairs")
    assert_one_line(evaluate(embedder, tmp_path), "one CSV", "has none")


@pytest.mark.parametrize(
    "flag",
    [
        "--iou=1.5",
        "--iou=half",
        "--map=cat",
        "--limit=0",
        "--on-bad-image=wait",
        "stray",
    ],
)
def test_flag_errors_are_one_line(flag):
    assert_one_line(evaluate("model", "data", flag), code=2)


def test_pairs_give_what_face_verify_gives(tmp_path, models):
    write_zip(tmp_path / "pictures.zip", pictures())
    write_pairs(tmp_path / "pairs.csv", pair_rows())
    verify = child(
        [
            ROOT / "apps" / "face_verify",
            f"--models={models}",
            "--json=-",
            f"--images={tmp_path / 'pictures.zip'}",
            f"--pairs={tmp_path / 'pairs.csv'}",
        ]
    )
    expected = json.loads(verify.stdout)
    flags = models / "face_embedder", tmp_path, f"--models={models}"
    report = figures(*flags)
    assert report["figures"] == expected
    assert report["data"]["split"] == ["a", "b"]
    printed = evaluate(*flags).stdout.splitlines()
    assert "accuracy 0.9375 +- 0.0625" in printed
    assert_one_line(evaluate(*flags, "--split=a,c"), "(a, b), received c")


def test_pairs_with_a_bad_picture_are_left_out(tmp_path, models):
    files = pictures() | {"Rosa_1.png": b"no picture"}
    write_zip(tmp_path / "pictures.zip", files)
    # One pair points out of the set, and its picture is not read.
    rows = [*pair_rows(), ("a", "../out.png", "Blau_0.png", 0)]
    write_pairs(tmp_path / "pairs.csv", rows)
    flags = models / "face_embedder", tmp_path, f"--models={models}"
    assert_one_line(evaluate(*flags), "out.png")
    report = figures(*flags, "--on-bad-image=skip")
    assert set(report["skipped"]) == {"Rosa_1.png", "../out.png"}
    counts = report["figures"]
    lost = sum("Rosa_1.png" in row for row in rows) + 1
    assert lost == 3
    assert counts["pairs_of_one_person"] + counts["pairs_of_two"] == len(rows) - lost
    lines = evaluate(*flags, "--on-bad-image=skip").stdout.splitlines()
    assert "skipped 2 pictures that cannot be used:" in lines


def write_model(folder, model, task, function):
    """Writes a stand-in of a task that has no recipe yet: SavedModel and LiteRT."""
    weights = [(variable, variable.numpy()) for variable in model.variables]

    def frozen(image):
        constants = [(variable, tf.constant(value)) for variable, value in weights]
        with keras.StatelessScope(state_mapping=constants):
            return function(image)

    picture = [tf.TensorSpec([None, None, 3], tf.uint8, name="image")]
    endpoints = {"serving_default": (frozen, picture)}
    saved_model.write(folder / "saved_model", endpoints)
    content = litert.convert(folder / "saved_model", list(endpoints))
    (folder / "float32.tflite").write_bytes(content)
    card = {key: "stand-in" for key in cards.REQUIRED}
    cards.write(
        folder,
        card
        | {
            "name": folder.name,
            "task": task,
            "labels": LABELS,
            "input": {},
            "parameters": model.count_params(),
            "weights": "of a stand-in",
        },
    )
    return folder


def classifier():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(len(LABELS), activation="softmax"),
        ]
    )


def classify(model):
    """The graph of a classifier, as far as a test needs it."""

    def function(image):
        image = tf.image.resize(tf.cast(image, tf.float32), (32, 32))
        return {"scores": model(image[None])[0]}

    return function


def classes(folder, model, count=28):
    """Noise; most of it is in the class that the model takes it for."""
    for i in range(count):
        image = noise(i, 32, 32)
        label = int(np.argmax(model(image[None].astype(np.float32))[0]))
        label = (label + i // 2) % len(LABELS) if i % 3 == 0 else label
        write(folder / LABELS[label] / f"{i}.png", image)
    return read_class_folders(folder, LABELS)


def test_a_classifier_has_the_figure_of_its_training(tmp_path):
    model = classifier()
    record_set = classes(tmp_path / "set", model)
    model.compile(
        metrics=[
            keras.metrics.SparseCategoricalAccuracy("top_1"),
            keras.metrics.SparseTopKCategoricalAccuracy(5, "top_5"),
        ],
        loss="sparse_categorical_crossentropy",
    )
    images = np.stack([read_image(record) for record in record_set.records])
    true = np.array([record.label for record in record_set.records])
    trained = model.evaluate(images, true, return_dict=True, verbose=0)
    assert 0.5 < trained["top_1"] < trained["top_5"] <= 1
    folder = write_model(tmp_path / "model", model, "classification", classify(model))
    for runtime in ("litert", "saved_model"):
        report = figures(folder, tmp_path / "set", f"--runtime={runtime}")
        for name in ("top_1", "top_5"):
            assert report["figures"][name] == pytest.approx(trained[name], abs=1e-6)
        assert report["runtime"] == runtime and report["labels"] == LABELS
        matrix = np.array(report["confusion"])
        assert matrix.sum() == 28 and np.trace(matrix) == round(28 * trained["top_1"])
    printed = evaluate(folder, tmp_path / "set").stdout
    assert f"top_1           {trained['top_1']:.4f}" in printed
    assert "classes all: 28 of 28 pictures" in printed


def test_a_segmenter(tmp_path):
    # The class of a pixel is its colour: red, green or blue.
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Dense(3, use_bias=False, kernel_initializer="identity"),
        ]
    )
    folder = write_model(
        tmp_path / "model",
        model,
        "segmentation",
        lambda image: {
            "mask": tf.argmax(
                model(tf.cast(image, tf.float32)[None])[0],
                axis=-1,
                output_type=tf.int32,
            )
        },
    )
    truth = np.repeat([[0, 1, 1, 2]], 8, axis=0).astype(np.uint8)
    image = 200 * np.eye(3, dtype=np.uint8)[np.repeat([[0, 1, 2, 2]], 8, axis=0)]
    write(tmp_path / "set" / "images" / "a.png", image)
    write(tmp_path / "set" / "masks" / "a.png", truth)
    report = figures(folder, tmp_path / "set")
    assert report["figures"] == {
        "mean_iou": pytest.approx((1 + 1 / 2 + 1 / 2) / 3),
        "pixel_accuracy": 0.75,
    }
    assert report["data"]["format"] == "masks"


@pytest.mark.slow
def test_a_detector_has_the_figure_of_its_training_in_every_runtime(tmp_path):
    # Its Keras figure is that of MeanAveragePrecision: tests/training/evaluation_test.
    predict = evaluation.from_keras(tiny_models.detector(), "face_detection")
    record_set = coco.read_coco(spots(tmp_path, predict))
    trained = evaluation.evaluate(predict, record_set, "face_detection", ["face"])
    assert 0.1 < trained.figures["AP"] < 0.9
    folder = tiny_models.folder("face_detection")
    for runtime in ("litert", "saved_model", "keras"):
        report = figures(folder, tmp_path, f"--runtime={runtime}")
        assert report["figures"] == pytest.approx(trained.figures, abs=1e-6), runtime
    report = figures(folder, tmp_path, "--runtime=litert_float16")
    assert report["figures"]["AP50"] == pytest.approx(trained.figures["AP50"], abs=0.02)
