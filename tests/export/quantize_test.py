import ai_edge_litert.interpreter
import numpy as np
import pytest

from mlcvtf.export import litert, quantize
from tests.export import tiny_models

pytest.importorskip(
    "ai_edge_quantizer", reason="AI Edge Quantizer is in the extra `quantize`"
)
PICTURES = {
    # Of 160 pixels at most: far less than what the tests then show.
    "face_detection": [tiny_models.spots(128, 160, n, seed=n) for n in range(1, 9)],
    "face_embedding": [tiny_models.spots(112, 112, n, seed=n) for n in range(1, 9)],
}


@pytest.fixture(scope="module")
def quantised():
    """Returns a function from task and precision to the bytes before and after."""
    made = {}

    def give(task, precision):
        if (task, precision) not in made:
            content = (tiny_models.folder(task) / "float32.tflite").read_bytes()
            made[task, precision] = content, quantize.quantize(
                content, precision, PICTURES[task]
            )
        return made[task, precision]

    return give


def runners(content):
    interpreter = ai_edge_litert.interpreter.Interpreter(model_content=content)
    return {
        name: interpreter.get_signature_runner(name)
        for name in interpreter.get_signature_list()
    }


@pytest.mark.parametrize("task", PICTURES)
@pytest.mark.parametrize("precision", quantize.PRECISIONS)
def test_files_are_small_and_have_the_same_signatures(quantised, task, precision):
    before, after = quantised(task, precision)
    parameters = {"face_detection": 54978, "face_embedding": 756960}[task]
    assert litert.check(after, parameters, precision)["CONV_2D"] > 3
    # The graph itself takes as much as the weights of the tiny detector.
    bound = 0.35 * len(before) if task == "face_embedding" else len(before) - 120_000
    assert len(after) < bound
    signatures = [
        ai_edge_litert.interpreter.Interpreter(
            model_content=content
        ).get_signature_list()
        for content in (before, after)
    ]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize("precision, floor", [("dynamic", 0.999), ("int8", 0.98)])
def test_embeddings_stay_near_those_of_float32(quantised, precision, floor):
    before, after = (runners(c) for c in quantised("face_embedding", precision))
    for seed in range(3):
        picture = tiny_models.spots(112, 112, 5, seed=100 + seed)
        expected = before["serving_default"](image=picture)["embedding"]
        found = after["serving_default"](image=picture)["embedding"]
        assert floor < expected @ found < 1.0 - 1e-7
        # All signatures have the same biases: shared ones must fit each of them.
        batch = after["batch"](images=picture[None])["embedding"][0]
        assert batch @ found > 0.9999


def test_coordinates_do_not_saturate_at_the_size_of_the_calibration(quantised):
    _, after = quantised("face_detection", "int8")
    picture = tiny_models.spots(480, 640, 0)
    picture[400:440, 600:630] = 255
    found = runners(after)["serving_default"](image=picture)
    best = found["boxes"][0]
    assert found["scores"][0] > 0.9
    # The calibration never saw anything beyond x = 160, y = 128.
    assert 580 < best[[0, 2]].mean() < 640
    assert 390 < best[[1, 3]].mean() < 450


def test_five_times_the_size_of_the_calibration_gives_the_boxes_of_float32(quantised):
    before, after = (runners(c) for c in quantised("face_detection", "int8"))
    # As large as the detector lets a picture be: 640 pixels are 4 times 160.
    picture = tiny_models.spots(640, 640, 20, seed=3)
    found = after["serving_default"](image=picture)
    expected = before["serving_default"](image=picture)
    sure = expected["scores"] > tiny_models.THRESHOLD
    assert sure.sum() > 10
    for box in expected["boxes"][sure]:
        assert np.abs(found["boxes"] - box).max(axis=1).min() < 4
    large = np.repeat(np.repeat(picture[:130, :160], 5, axis=0), 5, axis=1)
    expected = before["serving_default"](image=large)
    found = after["serving_default"](image=large)
    assert expected["boxes"][:, 2].max() > 700
    assert abs(found["boxes"][:, 2].max() - expected["boxes"][:, 2].max()) < 8


def test_the_network_is_in_int8_and_the_rest_is_not(quantised):
    before, after = quantised("face_detection", "int8")
    everything = quantize.float_operations(before)
    assert everything["CONV_2D"] == litert.check(before, 54978)["CONV_2D"]
    stayed = quantize.float_operations(after)
    assert "CONV_2D" not in stayed
    assert {"TOPK_V2", "RESIZE_BILINEAR", "MINIMUM"} <= set(stayed)


def test_layers_can_be_kept_float(quantised):
    before, after = quantised("face_embedding", "int8")
    assert "FULLY_CONNECTED" not in quantize.float_operations(after)
    kept = quantize.quantize(
        before, "int8", PICTURES["face_embedding"], keep_float=["features"]
    )
    assert quantize.float_operations(kept)["FULLY_CONNECTED"] == 2
    assert "CONV_2D" not in quantize.float_operations(kept)
    picture = tiny_models.spots(112, 112, 5, seed=100)
    one, two, three = (
        runners(c)["serving_default"](image=picture)["embedding"]
        for c in (before, kept, after)
    )
    assert one @ two > 0.98
    assert np.abs(two - three).max() > 1e-5


def test_refused():
    content = (tiny_models.folder("face_embedding") / "float32.tflite").read_bytes()
    with pytest.raises(ValueError, match="precision is one of .* received 'float16'"):
        quantize.quantize(content, "float16")
    with pytest.raises(ValueError, match="calibrated with pictures, received none"):
        quantize.quantize(content, "int8")
    with pytest.raises(ValueError, match="there is none"):
        quantize.quantize(content.replace(b"network/", b"netzwerk"), "dynamic")
