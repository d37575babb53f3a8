import json
import re

import keras
import pytest

from mlcvtf.commands import summarize
from mlcvtf.explain.profile import profile
from tests.case import ROOT, child
from tests.conformance.descriptors import build


def run(*arguments):
    return child(["apps/summarize", *arguments])


def last_line(process):
    """Returns the command's one line on the error stream, after TensorFlow's own."""
    assert process.stdout == "" and "Traceback" not in process.stderr
    line = process.stderr.strip().splitlines()[-1]
    assert line.startswith("summarize: ")
    return line


def test_lists_the_networks_without_tensorflow():
    process = run("--list")
    assert process.returncode == 0 and process.stderr == ""
    names = process.stdout.split()
    assert {"resnet50", "wrn28_10", "efficientnet_b7", "regnety_32gf", "vit_h14",
            "mobilenet_v2"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("arguments, message", [
    ([], "models or --list, one of both, received 0 models"),
    (["--list", "resnet50"], "received 1 models and --list"),
    (["resnet50", "--size=0"], "--size is one or two positive numbers, received 0"),
    (["resnet50", "--size=1,2,3"], "received 1,2,3"),
    (["resnet50", "--size=big"], "received big"),
])
def test_flag_errors(arguments, message):
    process = run(*arguments)
    assert process.returncode == 2
    assert message in last_line(process)


def test_bad_models(tmp_path):
    process = run("alexnet")
    assert process.returncode == 1
    assert "a name of --list, received alexnet" in last_line(process)
    process = run(str(tmp_path))
    assert process.returncode == 1
    assert "there is none in" in last_line(process)


def test_json_of_a_name_a_folder_and_a_file(tmp_path):
    folder = ROOT / "saved_models" / "clothing10_classifier"
    build("image_classifier").save(tmp_path / "model.keras")
    process = run("--json", "mobilenet_v2", str(folder), str(tmp_path / "model.keras"))
    # The file takes any size and no card says one; what came before is printed.
    assert process.returncode == 1
    assert process.stderr.strip().endswith("it takes any size; give --size")
    named, shipped = map(json.loads, process.stdout.splitlines())
    assert named["model"] == "mobilenet_v2"
    assert named["parameters"] == 3_504_872
    assert named["multiply_adds"] == 300_774_272
    assert named["flops"] == 2 * named["multiply_adds"]
    assert named["input"] == [224, 224, 3] and named["receptive_field"] == "all"
    assert shipped["input"] == [64, 64, 3] and shipped["uncounted"] == []
    process = run("--json", "--size=64", str(tmp_path / "model.keras"))
    assert process.returncode == 0, process.stderr
    backbone = build("image_classifier").backbone
    assert json.loads(process.stdout)["parameters"] == (
        backbone.count_params() + 4 * 3 + 3)


def test_the_table_has_every_layer_and_the_sums():
    images = keras.Input((16, 12, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(images)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(images, keras.layers.Dense(1000, name="last")(x))
    lines = summarize.describe("tiny", profile(model), totals=False)
    rows = [re.split(r"\s{2,}|(?<=\d) (?=[\d-])", line) for line in lines]
    assert rows[1] == ["first", "7x5x4", "112", "3,780", "140", "3", "2"]
    assert rows[2][-2:] == ["all", "all"]
    assert rows[3][:4] == ["last", "1000", "5,000", "4,000"]
    assert rows[4][:5] == ["total", "16x12x3", "5,112", "7,780", "1,144"]
    assert lines[-1] == "FLOPs 15,560, statistics -"
    (line,) = summarize.describe("tiny", profile(model), totals=True)
    assert line.split()[:3] == ["tiny", "16x12x3", "5,112"]
