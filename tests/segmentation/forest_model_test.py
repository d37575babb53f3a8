"""The Keras model of a forest answers as the compiled path, from every file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.export import keras_file, litert, saved_model, signatures
from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
from mlcvtf.segmentation.body_parts.forest import Tree, join
from mlcvtf.segmentation.body_parts.forest_model import (
    BodyPartForest,
    forest_model,
    model_forest,
)
from tests.segmentation.scenes import CLASSES, scene, small_forest


@pytest.fixture(scope="module")
def forest():
    return small_forest()


@pytest.fixture(scope="module")
def exported(forest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "saved_model"
    endpoints = signatures.endpoints(forest_model(forest), "body_parts", freeze=True)
    outputs = saved_model.write(folder, endpoints)
    return folder, outputs, litert.convert(folder, list(endpoints))


PICTURES = [
    scene(30)[0],
    np.zeros((7, 9), np.float32),
    np.full((1, 1), 2.0, np.float32),
    scene(31, 50, 40)[0],
]


def expected(forest, depth):
    parts, sums = CompiledForest(forest).classify(depth)
    probabilities = np.zeros((*depth.shape, forest.classes), np.float32)
    probabilities[depth > 0] = sums / np.float32(255 * len(forest.roots))
    return {"parts": parts, "probabilities": probabilities}


def assert_equal(answer, forest, depth):
    wanted = expected(forest, depth)
    np.testing.assert_array_equal(np.asarray(answer["parts"]), wanted["parts"])
    # A division by a constant may be a product with its reciprocal.
    np.testing.assert_allclose(
        np.asarray(answer["probabilities"]), wanted["probabilities"], rtol=2e-7, atol=0
    )


def test_equals_the_compiled_path(forest):
    model = forest_model(forest)
    for depth in PICTURES:
        found = model(depth[None])
        assert_equal({name: value[0] for name, value in found.items()}, forest, depth)


def test_a_batch_is_its_pictures(forest):
    depths = np.stack([scene(i)[0] for i in range(3)])
    found = forest_model(forest)(depths)
    for i, depth in enumerate(depths):
        assert_equal({name: value[i] for name, value in found.items()}, forest, depth)


def test_what_is_no_depth_counts_as_missing(forest):
    depth = scene(30)[0]
    spoilt = depth.copy()
    spoilt[:20, ::3] = 0
    strange = depth.copy()
    strange[:20, ::3] = np.resize([np.nan, np.inf, -1, 2000], strange[:20, ::3].shape)
    found = forest_model(forest)(strange[None])
    assert_equal({name: value[0] for name, value in found.items()}, forest, spoilt)


def test_half_precision_takes_the_same_pixels(forest):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = forest_model(forest)(PICTURES[0][None])
    finally:
        keras.config.set_dtype_policy("float32")
    assert_equal({name: value[0] for name, value in found.items()}, forest, PICTURES[0])


def test_a_keras_file_holds_the_forest(forest, tmp_path):
    forest_model(forest).save(tmp_path / "model.keras")
    again = keras_file.load(tmp_path / "model.keras")
    for one, other in zip(model_forest(again), forest, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    assert isinstance(again, BodyPartForest)
    assert again.get_config()["trees"] == 2


def test_a_forest_without_splits(tmp_path):
    leaf = Tree(
        np.zeros((0, 4), np.int16),
        np.zeros(0, np.int16),
        np.zeros((0, 2), np.int32),
        np.array([[1, 3, 0]], np.int32),
    )
    forest = join([leaf, leaf])
    model = forest_model(forest)
    found = model(PICTURES[0][None])
    assert_equal({name: value[0] for name, value in found.items()}, forest, PICTURES[0])
    for one, other in zip(model_forest(model), forest, strict=True):
        np.testing.assert_array_equal(one, other)


def test_saved_model(forest, exported):
    folder, outputs, _ = exported
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    for depth in PICTURES:
        assert_equal(served(depth=tf.constant(depth)), forest, depth)
    assert outputs["parts"].dtype == tf.uint8
    assert signatures.card_outputs(outputs)["probabilities"] == {
        "dtype": "float32",
        "shape": [None, None, CLASSES],
    }


def test_litert_has_builtin_operations_only(forest, exported):
    from ai_edge_litert.interpreter import Interpreter

    content = exported[2]
    operations, constants = litert._read(content)
    assert not litert.STATEFUL & set(operations)
    assert not [name for name in operations if name.startswith(("CUSTOM", "Flex"))]
    # Both signatures share the forest, in its small types.
    assert sum(map(len, constants)) < forest.size + 5000
    run = Interpreter(model_content=content).get_signature_runner("serving_default")
    # The empty picture between others: nothing is left of what came before.
    for depth in PICTURES:
        assert_equal(run(depth=depth), forest, depth)


def test_bad_arguments():
    with pytest.raises(ValueError, match="leaves, classes and trees, received 0, 3, 1"):
        BodyPartForest(4, 0, 3, 1, 2)
