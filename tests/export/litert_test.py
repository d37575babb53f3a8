import re

import ai_edge_litert.interpreter
import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.export import litert
from tests.export import tiny_models

TASKS = ("face_detection", "face_embedding")
PARAMETERS = {"face_detection": 54978, "face_embedding": 756960}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_files_hold_the_weights_and_builtin_operations_alone(task, precision):
    content = (tiny_models.folder(task) / f"{precision}.tflite").read_bytes()
    operations = litert.check(content, PARAMETERS[task], precision)
    assert operations["CONV_2D"] > 3
    assert not [name for name in operations if re.match("Flex|CUSTOM|VAR|READ", name)]
    # All signatures together: the graph itself takes up to 100 kB.
    expected = PARAMETERS[task] * litert.PRECISIONS[precision]
    assert 0.95 * expected < len(content) < 1.05 * expected + 100_000


@pytest.mark.parametrize("task", TASKS)
def test_outputs_go_by_name(task):
    content = (tiny_models.folder(task) / "float32.tflite").read_bytes()
    found = ai_edge_litert.interpreter.Interpreter(
        model_content=content).get_signature_list()
    outputs = {"face_detection": ["boxes", "labels", "landmarks", "scores"],
               "face_embedding": ["embedding"]}[task]
    expected = {"serving_default": {"inputs": ["image"], "outputs": outputs},
                "batch": {"inputs": ["images"], "outputs": outputs}}
    if task == "face_detection":
        expected["prepared"] = {"inputs": ["image"], "outputs": outputs}
    assert {name: {side: sorted(names) for side, names in signature.items()}
            for name, signature in found.items()} == expected


def test_left_out_weights_are_noticed():
    content = (tiny_models.folder("face_embedding") / "float32.tflite").read_bytes()
    with pytest.raises(ValueError, match="4 bytes per parameter"):
        litert.check(content, 2 * PARAMETERS["face_embedding"])
    with pytest.raises(ValueError, match="2 bytes per parameter"):
        litert.check(content, PARAMETERS["face_embedding"], "float16")


def test_zeroed_weights_are_noticed(tmp_path):
    variable = tf.Variable(tf.zeros([64, 64]))
    content = converted(tmp_path, lambda x: x @ variable, [None, 64], variable)
    with pytest.raises(ValueError, match="weights are not zero"):
        litert.check(content, 64 * 64)
    variable.assign(tf.random.normal([64, 64]))
    content = converted(tmp_path, lambda x: x @ variable, [None, 64], variable)
    assert litert.check(content, 64 * 64)["FULLY_CONNECTED"] == 1


def converted(folder, function, shape, variable=None, **options):
    """Converts a function of one float32 array as `options` of a converter say."""
    module = tf.Module()
    module.variable = variable
    module.serve = tf.function(function, [tf.TensorSpec(shape, tf.float32, name="x")])
    signatures = {"serving_default": module.serve.get_concrete_function()}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    if not options:
        return litert.convert(folder, ["serving_default"])
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    for name, value in options.items():
        target = converter.target_spec if name == "supported_ops" else converter
        setattr(target, name, value)
    return converter.convert()


def test_flex_operations_are_refused(tmp_path):
    content = converted(tmp_path, lambda x: {"y": tf.linalg.inv(x)}, [4, 4],
                        supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS,
                                       tf.lite.OpsSet.SELECT_TF_OPS])
    with pytest.raises(ValueError, match="builtin operations .* FlexMatrixInverse"):
        litert.check(content, 0)


def test_custom_operations_are_refused(tmp_path):
    content = converted(tmp_path, lambda x: {"y": tf.math.igamma(x, x)}, [4],
                        allow_custom_ops=True)
    with pytest.raises(ValueError, match="builtin operations .* CUSTOM Igamma"):
        litert.check(content, 0)


def test_variables_are_refused(tmp_path):
    variable = tf.Variable(tf.ones([3]))
    content = converted(tmp_path, lambda x: {"y": variable.assign_add(x)}, [3],
                        variable, experimental_enable_resource_variables=True)
    with pytest.raises(ValueError, match="VAR_HANDLE"):
        litert.check(content, 3)


def test_unknown_precision(tmp_path):
    with pytest.raises(ValueError, match="float32 or float16, received 'int8'"):
        litert.convert(tmp_path, ["serving_default"], "int8")


def test_variable_sizes_run_in_one_interpreter():
    content = (tiny_models.folder("face_detection") / "float32.tflite").read_bytes()
    runner = ai_edge_litert.interpreter.Interpreter(
        model_content=content).get_signature_runner("serving_default")
    for height, width in ((1, 1), (17, 33), (480, 640), (17, 33), (2000, 3000)):
        image = tiny_models.spots(height, width, 3)
        found = runner(image=image)
        assert np.all(found["boxes"] <= [width, height, width, height])
        assert (len(found["scores"]) > 0) == (image.max() > 80)
