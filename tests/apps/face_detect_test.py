"""The executable on coloured squares: boxes of known pixels."""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.case import ROOT, child
from tests.commands import dark_squares
from tests.video import stand_in

APP = ROOT / "apps" / "face_detect"


@pytest.fixture(scope="module")
def models():
    return stand_in.models()


def run(models, *arguments, **environment):
    hidden = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "QT_QPA_PLATFORM": ""}
    return child([APP, f"--models={models}", *arguments], **(hidden | environment))


def last_line(result):
    """The one line that says what is wrong; what else there is names no error."""
    assert "Traceback" not in result.stderr
    lines = [
        line
        for line in result.stderr.splitlines()
        if not line.startswith("no window: ")
    ]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("face_detect: ")
    return lines[0]


def test_help_is_light_and_good():
    result = child(["-X", "importtime", APP, "--help"])
    assert result.returncode == 0
    assert result.stdout.startswith("face_detect --source")
    for flag in ("--source", "--output", "--json", "--every", "--max-frames"):
        assert f"\n  {flag}" in result.stdout
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not imported & {"numpy", "cv2", "PIL", "tensorflow", "keras"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["film.mp4"],
        ["--every=0"],
        ["--max-frames=x"],
        ["--display=maybe"],
        ["--runtime=torch"],
        ["--detector=haar"],
        ["--reconnect=-1"],
    ],
)
def test_flag_errors(arguments):
    result = child([APP, *arguments])
    assert result.returncode == 2
    assert "--help" in last_line(result)


def test_a_picture(models, tmp_path):
    path = tmp_path / "scene.png"
    squares = {"Rosa": (20, 30, 40), "Blau": (150, 10, 60), "Zyan": (100, 120, 10)}
    Image.fromarray(stand_in.scene(320, 160, **squares)).save(path)
    result = run(models, "--source", path, "--json=-")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    record = json.loads(line)
    assert (record["frame"], record["time"]) == (0, 0)
    assert set(record) == {"frame", "time", "faces"}
    # The small square scores under the threshold of the detector's card.
    expected = {"Rosa": 0.9, "Blau": 0.88}
    assert len(record["faces"]) == 2
    for face, (name, score) in zip(record["faces"], expected.items(), strict=True):
        assert set(face) == {"box", "landmarks", "score"}
        left, top, side = squares[name]
        assert face["box"] == [left, top, left + side, top + side]
        assert face["score"] == score
        positions = np.array(face["landmarks"])
        expected_positions = stand_in._landmark_positions() * side + (left, top)
        np.testing.assert_allclose(positions, expected_positions, atol=2e-3)
    assert "1 frame in" in result.stderr and "2 faces in 1 of them" in result.stderr


def test_a_large_picture_is_shrunk_and_boxes_scaled_back(models, tmp_path):
    path = tmp_path / "scene.png"
    scene = stand_in.scene(1600, 900, Rosa=(200, 300, 100), Grün=(1200, 40, 300))
    Image.fromarray(scene).save(path)
    result = run(models, "--source", path, "--json=-")
    faces = json.loads(result.stdout)["faces"]
    expected = [[200, 300, 300, 400], [1200, 40, 1500, 340]]
    # A pixel of the detector's picture is 2.5 of this one's.
    np.testing.assert_allclose([f["box"] for f in faces], expected, atol=2.5)


@pytest.mark.parametrize("size", [(1, 1), (3, 700)])
def test_odd_pictures(models, tmp_path, size):
    path = tmp_path / "scene.png"
    Image.fromarray(stand_in.scene(*size)).save(path)
    output = tmp_path / "out.mp4"
    result = run(models, "--source", path, "--json=-", "--output", output)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["faces"] == []
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) == 1


def test_a_folder_with_a_broken_picture(models, tmp_path):
    for index, name in enumerate(stand_in.COLOURS):
        scene = stand_in.scene(120, 100, **{name: (10, 10, 40 + index)})
        Image.fromarray(scene).save(tmp_path / f"{index}.png")
    os.truncate(tmp_path / "2.png", 100)
    result = run(models, f"--source={tmp_path}", "--json=-", "--every=2")
    assert result.returncode == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["frame"] for record in records] == [0, 4]
    boxes = [record["faces"][0]["box"] for record in records]
    assert boxes == [[10, 10, 50, 50], [10, 10, 54, 54]]
    assert "skipped: " in result.stderr and "2.png" in result.stderr


def test_the_annotated_video(models, tmp_path):
    path, output = tmp_path / "scene.png", tmp_path / "out.avi"
    Image.fromarray(stand_in.scene(320, 240, Blau=(100, 100, 60))).save(path)
    result = run(models, "--source", path, "--output", output)
    assert result.returncode == 0
    assert "1 frame in" in result.stdout
    image = cv2.VideoCapture(str(output)).read()[1][..., ::-1].astype(int)
    # The outline is green, the square inside it stays blue.
    assert image[130, 100, 1] > 80
    np.testing.assert_allclose(image[130, 130], (0, 0, 255), atol=25)
    # The score's plate above the box.
    assert (image[90:98, 102:140, 1] > image[90:98, 102:140, 0]).mean() > 0.5


def test_20000_by_20000_pixels(models, tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (20000, 20000)).save(path)
    result = run(models, "--source", path)
    assert result.returncode == 1
    assert "at most 100000000 pixels" in last_line(result)


def test_no_display(models, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(stand_in.scene(64, 64)).save(path)
    result = run(models, "--source", path, "--display=auto")
    assert result.returncode == 0
    assert result.stderr == "no window: neither DISPLAY nor WAYLAND_DISPLAY is set\n"
    result = run(models, "--source", path, "--display=on")
    assert result.returncode == 1
    assert "--display=on needs a display" in last_line(result)
    assert result.stdout == ""
    result = run(models, "--source", path, "--display=off")
    assert (result.returncode, result.stderr) == (0, "")
    # A display that cannot be reached would abort the process.
    result = run(models, "--source", path, DISPLAY=":97")
    assert result.returncode == 0
    assert result.stderr.startswith("no window: ") and result.stderr.count("\n") == 1


def test_models_that_are_missing_or_of_another_task(models, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(stand_in.scene(64, 64)).save(path)
    result = run(tmp_path, "--source", path)
    assert result.returncode == 1
    assert "card.json" in last_line(result)
    (tmp_path / "face_detector").symlink_to(models / "face_embedder")
    result = run(tmp_path, "--source", path)
    assert result.returncode == 1
    line = last_line(result)
    assert "face_detection" in line and "face_embedding" in line


def test_faces_by_a_cascade(tmp_path):
    dark_squares.write(tmp_path)
    path = tmp_path / "scene.png"
    Image.fromarray(dark_squares.scene(160, 120, (40, 30, 24))).save(path)
    result = run(tmp_path, "--source", path, "--json=-", "--detector=cascade")
    assert result.returncode == 0, result.stderr
    (face,) = json.loads(result.stdout)["faces"]
    assert set(face) == {"box", "landmarks", "score"}
    left, top, right, bottom = face["box"]
    assert left < 52 < right and top < 42 < bottom
    assert np.shape(face["landmarks"]) == (5, 2)
    assert 0.3 <= face["score"] < 1


def test_cascades_that_are_missing_or_of_another_task(models, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(stand_in.scene(64, 64)).save(path)
    result = run(models, "--source", path, "--detector=cascade")
    assert result.returncode == 1
    assert "card.json, there is none in" in last_line(result)
    assert "face_cascade" in last_line(result)
    (tmp_path / "face_cascade").symlink_to(models / "face_detector")
    result = run(tmp_path, "--source", path, "--detector=cascade")
    assert result.returncode == 1
    line = last_line(result)
    assert "cascade_detection" in line and "face_detection" in line


def test_the_runtimes_agree(models, tmp_path):
    path = tmp_path / "scene.png"
    scene = stand_in.scene(320, 160, Rosa=(20, 30, 41), Magenta=(150, 10, 33))
    Image.fromarray(scene).save(path)
    runtimes = ("auto", "litert", "saved_model")
    results = [
        run(models, "--source", path, "--json=-", f"--runtime={name}")
        for name in runtimes
    ]
    assert [result.returncode for result in results] == [0, 0, 0]
    records = [json.loads(result.stdout) for result in results]
    assert records[0] == records[1] == records[2]
    assert len(records[0]["faces"]) == 2


def test_the_reader_of_the_lines_may_leave(models, tmp_path):
    for index in range(50):
        Image.fromarray(stand_in.scene(64, 64)).save(tmp_path / f"{index:02}.png")
    command = f'"{APP}" --models="{models}" --source="{tmp_path}" --json=- | head -n 2'
    result = child(["-c", f"import os; os.system({command!r})"])
    assert len(result.stdout.splitlines()) == 2
    assert "Traceback" not in result.stderr
