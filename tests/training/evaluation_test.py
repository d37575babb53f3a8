"""Figures that were worked out by hand, and the in-training metrics of Keras."""

import json

import keras
import numpy as np
import pytest

from mlcvtf.data import coco, folders
from mlcvtf.data.examples import Examples, stack
from mlcvtf.data.records import Record, RecordSet, with_boxes
from mlcvtf.errors import InputError
from mlcvtf.export import signatures
from mlcvtf.metrics.mean_average_precision import MeanAveragePrecision
from mlcvtf.training import evaluation
from tests.data.made_sets import noise, write
from tests.export import tiny_models

BOXES = [[2, 3, 12, 13], [20, 5, 36, 25], [1, 20, 6, 25.0]]


@pytest.fixture
def picture(tmp_path):
    return coco.Root(write(tmp_path / "a.png", noise(0)).parent).place("a.png")


def boxes(picture, names=("cat", "dog"), size=(40, 30), chosen=BOXES, **marks):
    labels = [i % len(names) for i in range(len(chosen))]
    return RecordSet(
        [with_boxes(picture, size, chosen, labels, **marks)], names, "boxes"
    )


def answer(found, labels=None, scores=None):
    found = np.array(found, np.float32).reshape(-1, 4)
    labels = [0, 1, 0][: len(found)] if labels is None else labels
    scores = np.linspace(0.9, 0.5, len(found)) if scores is None else scores
    return lambda image: {
        "boxes": found,
        "scores": np.array(scores),
        "labels": np.array(labels, np.int32),
        "landmarks": None,
    }


def measure(predict, record_set, labels=("cat", "dog"), **options):
    return evaluation.evaluate(predict, record_set, "detection", labels, **options)


def test_a_detector_that_finds_everything(picture):
    result = measure(answer(BOXES), boxes(picture))
    assert {result.figures[n] for n in ("AP", "AP50", "AR100", "VOC_AP50")} == {1.0}
    assert result.classes["cat"]["boxes"] == 2 and result.classes["dog"]["boxes"] == 1
    assert (result.pictures, result.skipped, result.confusion) == (1, {}, None)


def test_classes_are_measured_apart_and_matched_by_name(picture):
    # The model's order is another one, and its dog is in the wrong place.
    found = [BOXES[0], BOXES[2], [0, 0, 5, 5]]
    result = measure(
        answer(found, [2, 2, 1]),
        boxes(picture),
        labels=("bird", "dog", "cat"),
        overlaps=(0.5, 0.75),
    )
    assert list(result.classes) == ["dog", "cat"]
    assert result.classes["cat"]["AP"] == 1 and result.classes["dog"]["AP"] == 0
    assert result.figures["AP"] == 0.5 and result.figures["VOC_AP75"] == 0.5


def test_renamed_classes_may_become_one(picture):
    result = measure(
        answer(BOXES, [0, 0, 0]),
        boxes(picture),
        labels=("animal",),
        renames={"cat": "animal", "dog": "animal"},
    )
    assert result.figures["AP"] == 1 and result.classes["animal"]["boxes"] == 3


@pytest.mark.parametrize(
    "marks", [{"crowd": [False, True, False]}, {"difficult": [False, True, False]}]
)
def test_what_is_ignored_is_neither_right_nor_wrong(picture, marks):
    for found in (BOXES, [BOXES[0], BOXES[2]]):
        labels = [0, 1, 0] if len(found) == 3 else [0, 0]
        result = measure(answer(found, labels), boxes(picture, **marks))
        assert result.figures["AP"] == 1 and list(result.classes) == ["cat"]


def test_small_boxes_are_ignored_where_asked(picture):
    found = answer(BOXES[:2])
    assert measure(found, boxes(picture)).figures["AP50"] < 1
    assert measure(found, boxes(picture), smallest=6).figures["AP50"] == 1
    assert measure(answer(BOXES), boxes(picture), smallest=6).figures["AP50"] == 1


def test_boxes_are_clipped_to_their_picture(picture):
    # Rounded annotations reach out a little; no detector can.
    outside = boxes(picture, ("cat",), chosen=[[-1, -1, 4, 4]])
    assert measure(answer([[0, 0, 4, 4]]), outside).figures["AP"] == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels=("cat",)), r"are among the model's \(cat\).*received dog"),
        (dict(renames={"cow": "cat"}), r"\(cat, dog\), received cow"),
        (dict(renames={"dog": "cow"}), "received cow"),
        (dict(labels=()), "lists its labels"),
        (dict(on_bad_image="wait"), "received wait"),
    ],
    ids=["classes", "rename from", "rename to", "labels", "policy"],
)
def test_what_does_not_fit_is_one_line(picture, change, message):
    with pytest.raises(InputError, match=message):
        measure(**dict(predict=answer(BOXES), record_set=boxes(picture)) | change)


@pytest.mark.parametrize(
    "outputs, message",
    [
        (
            {"embedding": np.zeros(4)},
            r"gives boxes and scores and labels.*embedding \[4\]",
        ),
        (
            {"boxes": np.zeros((1, 4)), "scores": np.zeros(2), "labels": np.zeros(2)},
            r"gives boxes \[n, 4\]",
        ),
        ({"boxes": np.full((1, 4), np.nan), "scores": [0.5], "labels": [0]}, "finite"),
        (
            {"boxes": np.zeros((1, 4)), "scores": [0.5], "labels": [2]},
            "0..1, received 2",
        ),
    ],
    ids=["task", "lengths", "nan", "label"],
)
def test_answers_of_another_form_are_one_line(picture, outputs, message):
    with pytest.raises(InputError, match=message):
        measure(lambda image: outputs, boxes(picture))


def test_sets_that_cannot_be_measured_are_one_line(picture):
    for record_set, message in [
        (RecordSet([], ("cat",), "boxes"), "of 0 there are none"),
        (boxes(picture, chosen=[]), "boxes that count, there are none in 1 pictures"),
        (
            RecordSet([Record(picture, label=0)], ("cat",), "label"),
            "received one with label",
        ),
    ]:
        with pytest.raises(InputError, match=message):
            measure(answer(BOXES), record_set)
    with pytest.raises(InputError, match="received depth"):
        evaluation.evaluate(answer([]), boxes(picture), "depth", ("cat",))


def test_a_bad_picture_fails_or_is_skipped_and_listed(picture, tmp_path):
    bad = coco.Root(write(tmp_path / "b.png", b"none").parent).place("b.png")
    (good,) = boxes(picture).records
    outside = good._replace(boxes=np.float32(BOXES) + 30)
    records = [good, good._replace(image=bad), good._replace(width=41), outside]
    for faulty in records[1:]:
        with pytest.raises(InputError, match=".png"):
            measure(answer(BOXES), RecordSet([faulty], ("cat", "dog"), "boxes"))
    two = RecordSet(records[:2], ("cat", "dog"), "boxes")
    result = measure(answer(BOXES), two, on_bad_image="skip")
    assert result.pictures == 1 and list(result.skipped) == [str(bad)]
    assert "b.png (4 bytes) is not" in result.skipped[str(bad)]
    with pytest.raises(InputError, match="of 2 there are none: .*b.png"):
        measure(
            answer(BOXES),
            two._replace(records=[records[1], records[3]]),
            on_bad_image="skip",
        )


def classes(tmp_path, count=12):
    for i in range(count):
        write(tmp_path / "set" / f"class {i % 3}" / f"{i}.png", noise(i, 32, 32))
    return folders.read_class_folders(tmp_path / "set")


def test_a_classifier_by_hand(tmp_path):
    record_set = classes(tmp_path)
    labels = ["class 2", "x", "class 0", "y", "class 1", "z"]
    # Always the same: class 2 first, class 1 last but one.
    scores = np.array([0.9, 0.1, 0.4, 0.3, 0.02, 0.01])
    result = evaluation.evaluate(
        lambda image: {"scores": scores}, record_set, "classification", labels
    )
    assert result.figures == {"top_1": pytest.approx(1 / 3), "top_5": 1.0}
    assert result.classes == {
        "class 2": {"pictures": 4, "recall": 1.0},
        "class 0": {"pictures": 4, "recall": 0.0},
        "class 1": {"pictures": 4, "recall": 0.0},
    }
    assert [row[0] for row in result.confusion] == [4, 0, 4, 0, 4, 0]
    with pytest.raises(InputError, match=r"gives scores \[2\], one per label"):
        evaluation.evaluate(
            lambda image: {"scores": scores},
            record_set,
            "classification",
            ["class 0", "a"],
            {"class 1": "a", "class 2": "a"},
        )


def test_a_segmenter_by_hand(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:], mask[:5] = 1, 255
    write(tmp_path / "images" / "a.png", noise(0))
    write(tmp_path / "masks" / "a.png", mask)
    record_set = folders.read_masks(tmp_path / "images", tmp_path / "masks")

    def predict(image):
        return {"mask": (np.arange(40) >= 10) * np.ones((30, 1), np.int32)}

    result = evaluation.evaluate(predict, record_set, "segmentation", ("sky", "tree"))
    # Of 1000 pixels that count 250 of the sky are taken for trees.
    assert result.figures == {
        "mean_iou": pytest.approx((1 / 2 + 2 / 3) / 2),
        "pixel_accuracy": 0.75,
    }
    assert result.classes["sky"] == {"pixels": 500, "iou": 0.5}
    assert result.confusion == [[250, 250], [0, 500]]
    with pytest.raises(InputError, match=r"a mask \[30, 40\] of classes in 0..1"):
        evaluation.evaluate(
            lambda image: {"mask": np.full((30, 40), 2)},
            record_set,
            "segmentation",
            ("sky", "tree"),
        )


def test_a_limit_takes_pictures_from_everywhere():
    assert evaluation.spread(range(10), 4) == [0, 3, 6, 9]
    assert evaluation.spread(range(3), 4) == evaluation.spread(range(3), None)
    assert evaluation.spread("ab", 1) == ["a"]


class Detecting(keras.Model):
    """A detector whose call is the exported graph, measured by `evaluate`."""

    def __init__(self, detector):
        super().__init__()
        self._detect = signatures.endpoints(detector, "face_detection")["batch"][0]
        self.measure = MeanAveragePrecision()

    def call(self, images):
        found = self._detect(images)
        return {name: found[name] for name in ("boxes", "scores", "labels")}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return keras.ops.zeros(())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.measure.update_state(y, y_pred)
        return {"AP": self.measure.result()}


def spots(folder, detect, count=6):
    """Writes a COCO set whose boxes are what a detector finds, moved by some pixels."""
    generator = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        image = tiny_models.spots(96, 128, 8, seed=i)
        write(folder / "images" / f"{i}.png", image)
        images.append({"id": i, "file_name": f"{i}.png", "width": 128, "height": 96})
        found = detect(image)
        for box in found["boxes"][found["scores"] > 0.3]:
            box = np.clip(box + generator.uniform(-2.5, 2.5, 4), 0, (128, 96) * 2)
            box[2:] -= box[:2]
            annotations.append(
                {
                    "image_id": i,
                    "category_id": 1,
                    "bbox": box.tolist(),
                    "difficult": int(generator.random() < 0.2),
                    "iscrowd": int(generator.random() < 0.1),
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    return write(folder / "train.json", json.dumps(content))


def test_a_detector_in_training_has_the_figure_of_its_exported_graph(tmp_path):
    detector = tiny_models.detector()
    predict = evaluation.from_keras(detector, "face_detection")
    record_set = coco.read_coco(spots(tmp_path, predict))
    examples = Examples(record_set, (96, 128), with_crowd=True)
    images, truths, _ = stack([examples.example(i) for i in range(6)], [1] * 6)
    model = Detecting(detector)
    model.compile(run_eagerly=True)
    trained = model.evaluate(images, truths, batch_size=2, return_dict=True, verbose=0)
    result = evaluation.evaluate(predict, record_set, "face_detection", ["face"])
    assert 0.1 < result.figures["AP"] < 0.9
    assert truths["crowd"].sum() > 2
    assert result.figures["AP"] == pytest.approx(trained["AP"], abs=1e-6)
    assert model.measure.results() == pytest.approx(
        {name: result.figures[name] for name in MeanAveragePrecision.KINDS}, abs=1e-6
    )


def test_a_model_in_training_is_measured_as_it_is_now():
    detector = tiny_models.detector()
    predict = evaluation.from_keras(detector, "face_detection")
    image = tiny_models.PICTURES["one 480x640"]
    assert len(predict(image)["scores"]) > 0
    heat = next(
        layer
        for layer in detector.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.filters == 1
    )
    heat.set_weights([0 * weight - 6 for weight in heat.get_weights()])
    assert len(predict(image)["scores"]) == 0
