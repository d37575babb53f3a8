"""The executable on small sets: what it writes and says, and bad input."""

import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mlcvtf.commands import cascade_model
from mlcvtf.detection.viola_jones import opencv_xml
from tests.case import ROOT, child
from tests.data.made_sets import write
from tests.detection.viola_jones import made_faces

APP = ROOT / "apps" / "cascade_train"
SMALL = ["--window=12x12", "--negatives_per_stage=150", "--stages=2", "--threads=1"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folders with crops and with backgrounds, and boxes of scenes as COCO."""
    folder = tmp_path_factory.mktemp("sets")
    for i, face in enumerate(made_faces.faces(120)):
        write(folder / "crops" / f"{i}.png", face)
    for i, picture in enumerate(made_faces.backgrounds(3)):
        write(folder / "back" / f"{i}.png", picture)
    images, annotations = [], []
    for i in range(30):
        picture, boxes = made_faces.scene(i)
        write(folder / "scenes" / "images" / f"{i}.png", picture)
        images.append({"id": i, "file_name": f"{i}.png", "width": 160, "height": 120})
        annotations += [
            {
                "id": len(annotations) + k,
                "image_id": i,
                "category_id": 1,
                "bbox": box.tolist(),
            }
            for k, box in enumerate(boxes)
        ]
    # One box is smaller than the window.
    annotations.append(
        {"id": 999, "image_id": 0, "category_id": 1, "bbox": [1, 1, 8, 8]}
    )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "face"}],
    }
    write(folder / "scenes" / "instances.json", json.dumps(content))
    return folder


def train(*arguments):
    return child([APP, *arguments])


def flags(sets, output, positives="crops", negatives="back"):
    return [
        f"--positives={sets / positives}",
        f"--negatives={sets / negatives}",
        f"--output={output}",
    ]


def assert_one_line(result, *parts, code=1):
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_from_crops(sets, tmp_path):
    output = tmp_path / "faces.xml"
    result = train(*flags(sets, output), *SMALL)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "3 pictures without objects"
    # 96 objects and two moved copies, all of them mirrored.
    assert lines[1] == "120 objects: 576 windows to learn from, 48 to validate on"
    assert lines[2].startswith("stage 1: ")
    assert lines[-1].startswith(f"wrote {output}: 2 stages, ")
    cascade = opencv_xml.load_cascade(output)
    assert cascade.window == (12, 12) and len(cascade.stage_trees) == 2
    found = [
        len(cascade.detect(face, min_neighbors=0)) for face in made_faces.faces(50, 5)
    ]
    assert np.mean(found) > 0.9
    work = tmp_path / "faces.training"
    assert {p.name for p in work.iterdir()} == {
        "state.npz",
        "report.md",
        "report.json",
        "roc.png",
        "features.png",
    }
    report = json.loads((work / "report.json").read_text())
    assert len(report["stages"]) == 2 and report["settings"]["window"] == [12, 12]
    assert cv2.imread(str(work / "features.png")).shape[0] == 2 * 98
    assert cv2.imread(str(work / "roc.png")).std() > 5
    # Again, it has nothing left to do and gives the same.
    first = output.read_bytes()
    result = train(*flags(sets, output), *SMALL)
    assert "goes on after stage 2" in result.stdout
    assert output.read_bytes() == first


def test_from_boxes(sets, tmp_path):
    output = tmp_path / "faces.xml"
    result = train(
        *flags(sets, output, "scenes/instances.json"),
        *SMALL,
        "--category=face",
        "--jitter=1",
        "--nomirror",
        "--boosting=adaboost",
        f"--work={tmp_path / 'work'}",
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    lines = result.stdout.splitlines()
    assert lines[1] == "1 boxes smaller than the window left out"
    # Six of 30 pictures with two faces each are held back.
    assert lines[2] == "60 objects: 96 windows to learn from, 12 to validate on"
    assert output.is_file() and (tmp_path / "work" / "report.md").is_file()


@pytest.mark.slow
def test_a_model_folder(sets, tmp_path):
    output = tmp_path / "faces"
    few = [*SMALL[:2], "--stages=1", "--threads=1", "--most_trees=3", "--label=face"]
    result = train(*flags(sets, output), *few)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"wrote {output}: 1 stages, ")
    cascade, card = cascade_model.load(output)
    assert card["labels"] == ["face"] and card["window"] == [12, 12]
    assert card["figures"][0] == {
        "figure": "stages", "value": 1, "command": "cascade_train"}
    evaluation = card["evaluation"]
    assert evaluation["equal"] == evaluation["pictures"] > 5
    assert (tmp_path / "faces.training" / "report.md").is_file()
    # The same command replaces the folder; the XML is the cascade's.
    result = train(*flags(sets, tmp_path / "faces.xml"), *few)
    assert "goes on after stage 1" in result.stdout
    assert (tmp_path / "faces.xml").read_bytes() == (
        (output / "cascade.xml").read_bytes()
    )


@pytest.mark.slow
def test_a_killed_training_goes_on(sets, tmp_path):
    slow = [*SMALL[:2], "--stages=2", "--threads=1", "--features=all"]
    whole, killed = tmp_path / "whole.xml", tmp_path / "killed.xml"
    assert train(*flags(sets, whole), *slow).returncode == 0
    process = subprocess.Popen(
        [sys.executable, APP, *flags(sets, killed), *slow],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    state = tmp_path / "killed.training" / "state.npz"
    end = time.monotonic() + 60
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not killed.exists()
    result = train(*flags(sets, killed), *slow)
    assert result.returncode == 0, result.stderr
    assert killed.read_bytes() == whole.read_bytes()
    result = train(*flags(sets, killed), *slow, "--seed=1")
    assert_one_line(result, "other settings")


@pytest.mark.slow
def test_tensorflow_gives_the_same_cascade(sets, tmp_path):
    one, other = tmp_path / "one.xml", tmp_path / "other.xml"
    few = [*SMALL, "--memory_gb=0.01", "--features=all", "--jitter=0"]
    result = train(*flags(sets, one), *few)
    assert result.returncode == 0, result.stderr
    result = train(*flags(sets, other), *few, "--search=one_device")
    assert result.returncode == 0, result.stderr
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("missing", ["positives", "negatives", "output"])
def test_flags_that_are_needed(sets, tmp_path, missing):
    given = [f for f in flags(sets, tmp_path / "x.xml") if f"--{missing}" not in f]
    assert_one_line(train(*given), f"--{missing} is needed", code=2)


@pytest.mark.parametrize(
    "wrong, part",
    [
        ("--window=24", "WIDTHxHEIGHT"),
        ("--window=4x4", "8 to 128"),
        ("--stages=0", "stages"),
        ("--features=lbp", "features"),
        ("more", "more"),
    ],
)
def test_flags_that_are_wrong(sets, tmp_path, wrong, part):
    result = train(*flags(sets, tmp_path / "x.xml"), wrong)
    assert_one_line(result, part, code=2)


def bad(folder, name):
    """Makes a set with something wrong; returns its path."""
    path = folder / name
    if name == "text":
        write(path / "notes.txt", "no picture")
    elif name == "small":
        write(path / "a.png", np.zeros((9, 11, 3), np.uint8))
    elif name == "flat":
        for i in range(4):
            write(path / f"{i}.png", np.full((20, 20, 3), 30 * i, np.uint8))
    elif name == "broken":
        for i in range(4):
            write(path / f"{i}.png", b"no picture")
    elif name == "single":
        write(path / "a.png", made_faces.faces(1)[0])
    return path


@pytest.mark.parametrize(
    "positives, negatives, parts",
    [
        ("nothing", None, ["neither", "nothing"]),
        ("text", None, ["text has none"]),
        ("small", None, ["at least as large as the window, 12x12", "a.png of 11x9"]),
        ("flat", None, ["all flat"]),
        ("broken", None, [".png", "is not"]),
        ("single", None, ["at least 2 pictures"]),
        (None, "nothing", ["neither", "nothing"]),
        (None, "text", ["text has none"]),
        (None, "small", ["negatives are at least as large", "all 1 are smaller"]),
        (None, "flat", ["4 pictures that give none"]),
        (None, "broken", [".png", "is not"]),
    ],
)
def test_bad_sets_are_one_line(sets, tmp_path, positives, negatives, parts):
    output = tmp_path / "x.xml"
    paths = [
        sets / good if wrong is None else bad(tmp_path, wrong)
        for good, wrong in (("crops", positives), ("back", negatives))
    ]
    result = train(*flags(sets, output, *paths), *SMALL)
    assert_one_line(result, *parts)
    assert not output.exists() and not (tmp_path / "x.training").exists()


def test_other_bad_input_is_one_line(sets, tmp_path):
    result = train(*flags(sets, tmp_path / "x.xml", "crops", "crops"))
    assert_one_line(result, "as both")
    assert_one_line(train(*flags(sets, tmp_path / "x.bin")), "ends in .xml")
    (tmp_path / "mine").mkdir()
    assert_one_line(train(*flags(sets, tmp_path / "mine")), "model folder", "mine")
    assert not list((tmp_path / "mine").iterdir())
    assert_one_line(train(*flags(sets, tmp_path / "no" / "new")), "writable")
    assert_one_line(train(*flags(sets, tmp_path / "no" / "x.xml")), "writable")
    result = train(
        *flags(sets, tmp_path / "x.xml", "scenes/instances.json"), "--category=dog"
    )
    assert_one_line(result, "has no dog")
    result = train(
        *flags(sets, tmp_path / "x.xml", "scenes/instances.json"), "--window=64x64"
    )
    assert_one_line(result, "all 61 are smaller")
