import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf import card
from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.backbones.small_resnet import small_resnet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.errors import InputError
from mlcvtf.export import parity, saved_model, signatures, write
from tests.export import tiny_models


def test_the_folder_is_complete_and_its_card_true():
    folder = tiny_models.folder("face_embedding")
    read = card.read(folder, "face_embedding")
    assert {p.name for p in folder.iterdir()} == {
        "card.json", "float32.tflite", "float16.tflite", "model.keras", "saved_model"}
    assert not (folder.stat().st_mode & 0o555) ^ 0o555, "others may read it"
    for name, digest in read["files"].items():
        content = (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    assert {"float32.tflite", "model.keras", "saved_model/saved_model.pb",
            "saved_model/variables/variables.index"} <= set(read["files"])
    assets = folder / "saved_model" / "assets" / "card.json"
    assert json.loads(assets.read_text()) == read
    assert read["name"] == "face_embedding"
    assert read["parameters"] == tiny_models.embedder(margin=False).count_params()
    assert read["outputs"] == {"embedding": {"dtype": "float32", "shape": [128]}}
    assert read["licence"] == tiny_models.CARD["licence"]
    assert read["operations"]["CONV_2D"] > 3
    assert set(read["parity"]["runtimes"]) == {"litert", "litert_float16",
                                               "saved_model", "keras"}


def test_a_card_says_what_a_detector_takes_and_gives():
    read = card.read(tiny_models.folder("face_detection"))
    assert read["input"] == {"name": "image", "dtype": "uint8",
                             "shape": [None, None, 3], "longest_side": 640}
    assert {name: value["shape"] for name, value in read["outputs"].items()} == {
        "boxes": [None, 4], "scores": [None], "labels": [None],
        "landmarks": [None, 5, 2]}


@pytest.fixture
def quick(monkeypatch):
    """Replaces the files and the comparison by quick ones."""

    def files(folder, *_):
        (folder / "float32.tflite").write_bytes(b"new")
        return {"outputs": {}, "parameters": 1, "operations": {}}

    monkeypatch.setattr(write, "_write_files", files)
    monkeypatch.setattr(parity, "report", lambda *_, **__: {"runtimes": {}})


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_older_model_is_replaced(quick, tmp_path):
    folder = tmp_path / "embedder"
    model = tiny_models.embedder()
    write.export(model, "face_embedding", folder, tiny_models.CARD)
    (folder / "old.tflite").write_bytes(b"old")
    found = write.export(model, "face_embedding", folder,
                         tiny_models.CARD | {"figures": {"accuracy": 0.9}})
    assert listing(folder) == ["card.json", "float32.tflite"]
    assert found["figures"] == {"accuracy": 0.9}
    assert listing(tmp_path) == ["embedder"], "nothing temporary is left"


def test_nothing_is_written_when_parity_fails(quick, tmp_path, monkeypatch):
    folder = tmp_path / "embedder"
    model = tiny_models.embedder()
    write.export(model, "face_embedding", folder, tiny_models.CARD)
    before = (folder / "card.json").read_bytes()

    def fails(*_, **__):
        raise parity.ParityError("they disagree")

    monkeypatch.setattr(parity, "report", fails)
    for place in (folder, tmp_path / "other"):
        with pytest.raises(parity.ParityError, match="disagree"):
            write.export(model, "face_embedding", place, tiny_models.CARD)
    assert (folder / "card.json").read_bytes() == before
    assert listing(tmp_path) == ["embedder"]


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"):
        write.export(tiny_models.embedder(), "face_embedding", tmp_path,
                     tiny_models.CARD)
    assert listing(tmp_path) == ["thesis.txt"]


def test_an_incomplete_card_is_refused(tmp_path):
    incomplete = {k: v for k, v in tiny_models.CARD.items() if k != "licence"}
    with pytest.raises(InputError, match="lacks licence"):
        write.export(tiny_models.embedder(), "face_embedding", tmp_path / "a",
                     incomplete)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("value, message", [(0.0, "not zero"), (np.nan, "finite")])
def test_weights_that_were_lost_are_refused(tmp_path, value, message):
    model = tiny_models.embedder()
    kernel = next(w for w in model.backbone.weights if w.path.endswith("kernel"))
    kernel.assign(np.full(kernel.shape, value))
    with pytest.raises(ValueError, match=message):
        write.export(model, "face_embedding", tmp_path / "a", tiny_models.CARD)
    assert listing(tmp_path) == []


def test_what_ships_computes_in_float32_without_the_margin_head():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = tiny_models.embedder()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    copy = write.inference_copy(model)
    assert copy.margin is None
    assert model.margin is not None, "the model itself is not changed"
    policies = {layer.dtype_policy.name for layer in copy._flatten_layers()}
    assert policies == {"float32"}
    image = tiny_models.spots(112, 112, 5)[None].astype(np.float32)
    exact, rounded = (np.asarray(m.embed(image)) for m in (copy, model))
    assert 0 < np.abs(exact - rounded).max() < 0.05
    np.testing.assert_array_equal(copy.centre, model.centre)


@pytest.mark.slow
def test_centernet_ships_in_every_runtime(tmp_path):
    backbone = mobilenet_v2(0.35, last_channels=None)
    model = CenterNet(backbone, 1, 5, width=16, head_channels=16, scale_free=True)
    generator = np.random.default_rng(0)
    for weight in model.heads["heatmap"].weights:
        bias = weight.path.endswith("bias")
        weight.assign(generator.normal(0, 0 if bias else 1, weight.shape))
    pictures = [generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
                for shape in ((1, 1), (17, 33), (240, 320), (700, 900))]
    found = write.export(model, "face_detection", tmp_path / "detector",
                         tiny_models.CARD, pictures)
    assert found["parity"]["matched"] > 20
    assert found["parameters"] == model.count_params()


def test_grouped_convolutions_are_one_operation_in_litert_only(tmp_path):
    groups, repeats = 4, 1
    backbone = small_resnet((16, 16, 16), repeats, groups=groups, group_width=4,
                            expansion=2)
    model = ImageClassifier(backbone, 3)
    card_of = tiny_models.CARD | {"labels": ["a", "b", "c"],
                                  "input": {"size": [32, 32]}}
    found = write.export(model, "classification", tmp_path / "model", card_of,
                         precisions=())
    kernels = sum(len(weight.shape) == 4 for weight in model.trainable_weights)
    # "serving_default" and "batch" have a graph each.
    assert found["operations"]["CONV_2D"] == 2 * kernels
    assert not any("grouped" in name for name in found["files"])
    loaded = tf.saved_model.load(str(tmp_path / "model" / "saved_model"))
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    nodes = [n for f in graph.library.function for n in f.node_def]
    split = sum(node.op == "Conv2D" for node in nodes)
    assert split == kernels + 3 * repeats * (groups - 1)


def test_a_saved_model_has_no_variables_and_gives_the_same(tmp_path):
    model = write.inference_copy(tiny_models.embedder(margin=True))
    assert model.count_params() == model.backbone.count_params()
    frozen = signatures.endpoints(model, "face_embedding", freeze=True)
    outputs = saved_model.write(tmp_path / "saved", frozen)
    assert outputs["embedding"].shape.as_list() == [128]
    picture = tf.constant(write.sample_pictures("face_embedding")[0])
    expected = signatures.endpoints(model, "face_embedding")["serving_default"][0](
        picture
    )
    # What the model learns later does not reach what was frozen.
    for weight in model.weights:
        weight.assign(np.zeros(weight.shape))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    found = loaded.signatures["serving_default"](image=picture)
    np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-6)


def test_functions_that_would_lose_their_weights_are_refused(tmp_path):
    model = tiny_models.embedder()
    with pytest.raises(ValueError, match="hold their weights as constants"):
        saved_model.write(
            tmp_path / "saved", signatures.endpoints(model, "face_embedding")
        )
    assert not (tmp_path / "saved").exists()


def test_the_commit_is_a_hash_or_unknown():
    words = write.commit().split(" ", 1)
    assert words[0] == "unknown" or len(words[0]) == 40
    assert words[1:] in ([], ["with changes"])


@pytest.mark.parametrize("task", signatures.TASKS)
def test_sample_pictures_come_in_many_sizes(task):
    pictures = write.sample_pictures(task)
    if task == "body_parts":
        assert all(p.dtype == np.float32 and p.ndim == 2 for p in pictures)
        assert any((p == 0).all() for p in pictures)
        assert all(0 <= p.min() and p.max() < 10 for p in pictures)
    else:
        assert all(p.dtype == np.uint8 and p.ndim == 3 and p.shape[2] == 3
                   for p in pictures)
    assert {p.shape[:2] for p in pictures} >= {(1, 1)}
    if task == "face_detection":
        assert {p.shape[:2] for p in pictures} >= {(17, 33), (480, 640), (2000, 3000)}
