"""body_train on a few pictures of a made person, and body_pose with what it wrote."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from mlcvtf.commands import body_parts_model
from mlcvtf.segmentation.body_parts import picture_folder, pose_sets
from mlcvtf.segmentation.body_parts.parts import JOINTS, PARTS
from tests.case import ROOT, child
from tests.segmentation.made_mocap import write_people

TRAIN, POSE = ROOT / "apps" / "body_train", ROOT / "apps" / "body_pose"
TINY = (
    "--trees=2",
    "--depth=8",
    "--features=15",
    "--thresholds=6",
    "--pixels=300",
    "--minimum_samples=5",
    "--held_out=4",
    "--threads=1",
)


def assert_one_line(result, *parts, code=1):
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """A folder as body_render writes it, of one made person."""
    path = tmp_path_factory.mktemp("data")
    poses = pose_sets.read_poses([write_people(path / "mocap", ("01",), 6)])
    for seed, (part, count) in enumerate((("train", 16), ("test", 5))):
        (path / "bodies" / part).mkdir(parents=True)
        pictures = picture_folder.render_pictures(poses, count, (0, seed))
        picture_folder.write_pictures(path / "bodies" / part, poses, pictures)
    return path / "bodies"


@pytest.fixture(scope="module")
def trained(bodies, tmp_path_factory):
    """The result of a training and the folder that its model is in."""
    models = tmp_path_factory.mktemp("models")
    result = child(
        [
            TRAIN,
            bodies,
            f"--output={models}/body_parts",
            "--licence=none",
            "--data=a made person",
            *TINY,
        ],
        timeout=400,
    )
    return result, models


def test_a_training_writes_a_model_folder(trained):
    result, models = trained
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "12 pictures to train with, 5 to test with"
    assert lines[1].startswith("tree_0 level 1: 1 splits")
    forest, joints, card = body_parts_model.load_model(models / "body_parts")
    assert forest.trees == 2 and card["mirror"] and card["labels"] == list(PARTS)
    assert [joint["name"] for joint in card["joints"]] == list(JOINTS)
    assert card["licence"] == "none" and card["data"][0] == "a made person"
    assert card["data"][1].startswith("12 pictures of 01, 4 more for the joints; ")
    assert card["recipe"].startswith("mlcvtf-body-train bodies --depth=8 --features=15")
    figures = {row["figure"]: row["value"] for row in card["figures"]}
    assert figures["test_pictures"] == 5
    assert 0 < figures["class_accuracy_without_mirror"] < 1
    least = card["thresholds"]["confidence"]
    assert list(least) == list(JOINTS) and 0 < least["head"] < 0.05
    # One leaf for all would have 1/31.
    assert 0.15 < figures["class_accuracy"] < 1 and figures["joint_map_10cm"] > 0.2
    assert f"class_accuracy: {figures['class_accuracy']}" in lines
    assert (models / "body_parts.training" / "tree_1.npz").is_file()


@pytest.mark.slow
def test_a_killed_training_goes_on(bodies, trained, tmp_path):
    arguments = [TRAIN, bodies, f"--output={tmp_path}/body_parts", *TINY]
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("tree_0 level 4:"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "body_parts").exists()
    result = child(arguments, timeout=400)
    assert result.returncode == 0, result.stderr
    assert "tree_0 level 3" not in result.stdout
    assert "tree_1 level 3" in result.stdout
    found, _, _ = body_parts_model.load_model(tmp_path / "body_parts")
    expected, _, _ = body_parts_model.load_model(trained[1] / "body_parts")
    for one, other in zip(found.forest, expected.forest, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_rounds_add_hard_pictures(bodies, tmp_path):
    result = child(
        [TRAIN, bodies, f"--output={tmp_path}/body_parts", "--rounds=2", *TINY],
        timeout=400,
    )
    assert result.returncode == 0, result.stderr
    assert "round 0: mean error 0." in result.stdout
    state = json.loads(
        (tmp_path / "body_parts.training" / "round_0" / "hardest.json").read_text()
    )
    # Six pictures first, the other six then.
    assert sorted(state["hardest"]) == [6, 7, 8, 9, 10, 11]


def spoilt(bodies, place, change):
    """Copies the pictures and spoils each depth or label picture of `train`."""
    shutil.copytree(bodies, place)
    for path in sorted((place / "train").glob("*.png")):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), change(image, path.name.endswith("_depth.png")))
    return place


def test_bad_pictures_are_one_line(bodies, tmp_path):
    output = f"--output={tmp_path}/out/model"
    (tmp_path / "out").mkdir()
    assert_one_line(child([TRAIN, output]), "folder of pictures is needed", code=2)
    assert_one_line(child([TRAIN, bodies]), "--output=MODEL", code=2)
    assert_one_line(child([TRAIN, tmp_path, output]), "has a joints.csv", "No such")
    assert_one_line(child([TRAIN, bodies, output, "--held_out=16"]), "16 are held out")
    assert_one_line(child([TRAIN, bodies, output, "--pictures=9"]), "are held out")
    metres = spoilt(
        bodies,
        tmp_path / "metres",
        lambda image, depth: image // (1000 if depth else 1),
    )
    assert_one_line(child([TRAIN, metres, output]), "millimetres, of people")
    one = spoilt(
        bodies, tmp_path / "one", lambda image, depth: image if depth else image * 0 + 5
    )
    flags = (*TINY, output)
    assert_one_line(child([TRAIN, one, *flags]), "at least two parts")
    none = spoilt(
        bodies, tmp_path / "none", lambda image, depth: image if depth else image * 0
    )
    assert_one_line(child([TRAIN, none, *flags]), "show people with parts and joints")
    table = none / "train" / "joints.csv"
    lines = table.read_text().splitlines()
    lines[3] = ",".join([*lines[3].split(",")[:-1], "nan"])
    table.write_text("\n".join(lines))
    assert_one_line(child([TRAIN, none, *flags]), "joints are numbers, not all of")
    (tmp_path / "out" / "model").mkdir()
    assert_one_line(child([TRAIN, bodies, *flags]), "new folder or a model folder")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) in (
        ["model"],
        ["model", "model.training"],
    )


def test_a_state_of_other_pictures_is_refused(bodies, trained, tmp_path):
    state = f"--work={trained[1]}/body_parts.training"
    output = f"--output={tmp_path}/model"
    result = child([TRAIN, bodies, output, state, *TINY, "--pictures=10"])
    assert_one_line(result, "goes on with the same pictures and rounds")
    result = child([TRAIN, bodies, output, state, *TINY, "--features=16"])
    assert_one_line(result, "same pictures and options")
    assert list(tmp_path.iterdir()) == []


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_of_depth_is_drawn_and_written(bodies, trained, tmp_path):
    arguments = [
        POSE,
        f"--source={bodies / 'test'}",
        f"--models={trained[1]}",
        "--display=off",
    ]
    output, lines = tmp_path / "out.avi", tmp_path / "out.jsonl"
    result = child([*arguments, f"--output={output}", f"--json={lines}"])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("5 frames in ") and "in 5 of 5" in result.stdout
    found = records(lines)
    assert [line["frame"] for line in found] == [0, 1, 2, 3, 4]
    folder = picture_folder.PictureFolder(bodies / "test")
    near = []
    for number, line in enumerate(found):
        for joint in line["joints"]:
            assert set(joint) == {"name", "position", "pixel", "confidence"}
            x, y, z = joint["position"]
            u, v = joint["pixel"]
            assert u == pytest.approx(x / z * 285.63 + 159.5, abs=0.3)
            assert v == pytest.approx(y / z * 285.63 + 119.5, abs=0.3)
            assert 0 < joint["confidence"] < 0.2
            truth = folder.joints[number, JOINTS.index(joint["name"])]
            near.append(np.linalg.norm(truth - joint["position"]) < 0.1)
    # From twelve pictures; at random points of the body it would be one in twenty.
    assert np.mean(near) > 0.2
    video = cv2.VideoCapture(str(output))
    there, image = video.read()
    # Twice the size, with the parts in colour.
    assert there and image.shape == (480, 640, 3)
    assert (image.max(-1).astype(int) - image.min(-1) > 40).sum() > 2000
    # The other runtimes say the same.
    for runtime in ("litert", "saved_model"):
        other = tmp_path / f"{runtime}.jsonl"
        result = child([*arguments, f"--runtime={runtime}", f"--json={other}"])
        assert result.returncode == 0, result.stderr
        assert records(other) == found


def write_video(path, pictures, codec="FFV1"):
    writer = cv2.VideoWriter(
        str(path),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter_fourcc(*codec),
        10,
        pictures[0].shape[::-1],
        [
            cv2.VIDEOWRITER_PROP_DEPTH,
            cv2.CV_16U,
            cv2.VIDEOWRITER_PROP_IS_COLOR,
            0,
        ],
    )
    for picture in pictures:
        writer.write(picture)
    writer.release()


def test_a_video_with_a_room_behind_the_person(bodies, trained, tmp_path):
    """The person comes into an empty room; it is removed by its first frames."""
    room = np.full((240, 320), 5000, np.uint16)
    folder = picture_folder.PictureFolder(bodies / "test")
    depth = np.rint(1000 * folder.read(0)[0]).astype(np.uint16)
    person = np.where(depth > 0, depth, room)
    write_video(tmp_path / "room.mkv", [room, room, person])
    base = [POSE, f"--models={trained[1]}", "--display=off"]
    files = {}
    for name, flags in {
        "alone": [f"--source={bodies / 'test' / '000000_depth.png'}"],
        "first": [
            f"--source={tmp_path / 'room.mkv'}",
            "--background=first",
            "--first_frames=2",
        ],
        "depth": [
            f"--source={tmp_path / 'room.mkv'}",
            "--background=depth",
            "--near=1",
            "--far=4.5",
        ],
    }.items():
        files[name] = tmp_path / f"{name}.jsonl"
        result = child([*base, *flags, f"--json={files[name]}"])
        assert result.returncode == 0, result.stderr
    expected = records(files["alone"])[0]["joints"]
    assert len(expected) > 5
    for name in ("first", "depth"):
        found = records(files[name])
        assert [len(line["joints"]) for line in found[:2]] == [0, 0]
        assert found[2]["joints"] == expected
    result = child([*base, f"--source={tmp_path / 'room.mkv'}", "--background=plane"])
    # A wall is no floor.
    assert_one_line(result, "a plane has 5% of the pixels")


def test_without_numba_litert_serves(bodies, trained):
    code = (
        "import sys\n"
        "sys.modules['numba'] = None\n"
        "from mlcvtf.commands.body_pose import cli\n"
        "sys.argv[0] = 'body_pose'\n"
        "cli()"
    )
    flags = (
        f"--source={bodies / 'test' / '000001_depth.png'}",
        f"--models={trained[1]}",
        "--display=off",
        "--json=-",
    )
    result = child(["-c", code, *flags])
    assert result.returncode == 0, result.stderr
    assert result.stdout == child([POSE, *flags]).stdout != ""
    result = child(["-c", code, *flags, "--runtime=compiled"])
    assert_one_line(result, "pip install numba")


def test_made_frames(trained):
    result = child(
        [
            POSE,
            "--source=synthetic",
            f"--models={trained[1]}",
            "--max-frames=3",
            "--json=-",
        ]
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["time"] for line in lines] == [0.0, 0.1, 0.2]
    assert all(len(line["joints"]) > 3 for line in lines)


def test_bad_sources_are_one_line(trained, tmp_path):
    models, off = f"--models={trained[1]}", "--display=off"
    assert_one_line(child([POSE, models]), "--source is needed", code=2)
    made = "--source=synthetic"
    result = child([POSE, models, made, "--background=magic"])
    assert_one_line(result, "magic", code=2)
    result = child([POSE, models, made, "--near=3", "--far=2"])
    assert_one_line(result, "--near is less", code=2)
    assert_one_line(
        child([POSE, models, f"--source={tmp_path}"]), "holds PNGs of depth"
    )
    assert_one_line(child([POSE, models, "--source=none.mkv"]), "No such file")
    text = tmp_path / "text.mkv"
    text.write_text("no video")
    assert_one_line(child([POSE, models, f"--source={text}"]), "is neither")
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((20, 20), 200, np.uint8))
    assert_one_line(child([POSE, models, off, f"--source={grey}"]), "PNG of 16 bits")
    packed = tmp_path / "packed.avi"
    write_video(packed, [np.full((240, 320), 3000, np.uint16)] * 2, "PNG ")
    assert_one_line(child([POSE, models, f"--source={packed}"]), "as FFV1")
    result = child([POSE, made, f"--models={tmp_path}"])
    assert_one_line(result, "holds a card.json")
    result = child([POSE, models, made, f"--output={tmp_path}/x.gif"])
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1


def test_help_is_quick():
    for app in (TRAIN, POSE):
        start = time.process_time()
        result = child([app, "--help"])
        assert result.returncode == 0 and time.process_time() - start < 5
        assert result.stdout.startswith(app.name)
