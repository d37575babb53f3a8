"""The executable on coloured squares: names, tracks, files and what goes wrong.

Live sources, interruptions and galleries that change are in
`face_recognize_live_test.py`.
"""

import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.apps.recognizing import APP, film, gallery, last_line, records, run
from tests.case import child
from tests.commands import dark_squares
from tests.video import stand_in


@pytest.fixture(scope="module")
def models():
    return stand_in.models()


def test_help_is_light_and_good():
    result = child(["-X", "importtime", APP, "--help"])
    assert result.returncode == 0
    assert result.stdout.startswith("face_recognize --gallery DIR")
    for flag in ("gallery", "threshold", "far", "source", "reconnect", "runtime"):
        assert f"\n  --{flag}" in result.stdout
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "absl.flags" in imported
    assert not imported & {"numpy", "cv2", "PIL", "tensorflow", "keras"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--gallery=x", "--threshold=0.5", "--far=1e-2"],
        ["--gallery=x", "--threshold=1.5"],
        ["--gallery=x", "--far=2"],
        ["--gallery=x", "film.mp4"],
    ],
)
def test_flag_errors(arguments):
    result = child([APP, *arguments])
    assert result.returncode == 2
    assert "--help" in last_line(result)


def test_a_video(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa", "Blau")
    path = film(tmp_path / "film.avi")
    lines, output = tmp_path / "lines.jsonl", tmp_path / "out.mp4"
    result = run(
        models, people, "--source", path, "--json", lines, "--output", output
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("30 frames in ")
    assert result.stdout.endswith("Blau in 30, Rosa in 30, unknown in 30\n")
    found = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    assert len(found) == 30
    for index, record in enumerate(found):
        assert set(record) == {"frame", "time", "faces"}
        assert record["frame"] == index
        assert record["time"] == pytest.approx(index / 10)
        faces = {face["name"]: face for face in record["faces"]}
        assert list(faces) == ["Rosa", "Blau", "unknown"]
        left = 10 + 3 * index
        # The codec blurs the edges by a pixel or two.
        box = faces["Rosa"]["box"]
        np.testing.assert_allclose(box, [left, 20, left + 60, 80], atol=3)
        keys = {"box", "landmarks", "name", "score", "runner_up", "track"}
        for track, (name, face) in enumerate(faces.items()):
            assert set(face) == keys
            assert face["track"] == track
            assert np.shape(face["landmarks"]) == (5, 2)
            assert face["score"] > 0.95 if name != "unknown" else face["score"] < 0.3
        assert faces["Rosa"]["runner_up"] == "Blau"
        assert faces["Blau"]["runner_up"] == "Rosa"
    capture = cv2.VideoCapture(str(output))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_every_and_max_frames(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    path, output = film(tmp_path / "film.avi"), tmp_path / "out.mp4"
    found = records(
        run(
            models,
            people,
            "--source",
            path,
            "--json=-",
            "--every=3",
            "--max-frames=7",
            "--output",
            output,
        )
    )
    assert [record["frame"] for record in found] == list(range(0, 21, 3))
    # One of three frames, shown three times as long.
    capture = cv2.VideoCapture(str(output))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 3, abs=0.01)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 7


def test_pictures_are_not_followed(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa", "Grün")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        scene = stand_in.scene(200, 100, Grün=(20, 20, 50))
        Image.fromarray(scene).save(folder / f"{name}.png")
    found = records(run(models, people, "--source", folder, "--json=-"))
    faces = [record["faces"][0] for record in found]
    assert [face["name"] for face in faces] == ["Grün", "Grün"]
    assert [face["track"] for face in faces] == [0, 1]
    assert [record["time"] for record in found] == [0, 1]


def off_colour(folder):
    """A picture of a pinkish Rosa, whose cosine with the real one is about 0.96."""
    scene = stand_in.scene(200, 100, Rosa=(20, 20, 50))
    scene[20:70, 20:70, 2] = 80
    path = folder / "pink.png"
    Image.fromarray(scene).save(path)
    return path


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("--threshold=0.9", "Rosa"), ("--threshold=0.99", "unknown")],
)
def test_the_threshold_decides(models, tmp_path, flag, expected):
    people = gallery(tmp_path / "people", "Rosa")
    path = off_colour(tmp_path)
    (record,) = records(run(models, people, "--source", path, "--json=-", flag))
    (face,) = record["faces"]
    assert face["name"] == expected
    # By the stand-in's formula.
    likeness = np.exp(-((80 / 60) ** 2))
    mixed, pure = np.array([likeness, 0.05]), np.array([1, 0.05])
    cosine = mixed @ pure / np.linalg.norm(mixed) / np.linalg.norm(pure)
    assert face["score"] == pytest.approx(cosine, abs=2e-3)
    assert face["runner_up"] is None


def test_far_is_of_the_whole_gallery(models, tmp_path):
    """The calibration of the stand-in has 2e6 pairs: a rate of 5e-6 at the least."""
    people = gallery(tmp_path / "people", "Rosa", "Blau")
    source = f"--source={off_colour(tmp_path)}"
    assert run(models, people, source, "--far=1e-3").returncode == 0
    result = run(models, people, source, "--far=1e-6")
    assert result.returncode == 1
    assert "10 impostor pairs" in last_line(result)


def test_names_that_are_not_utf8(models, tmp_path):
    name = b"Andr\xe9"
    people = gallery(tmp_path / "people", "Rosa")
    os.rename(people / "Rosa", os.path.join(os.fsencode(people), name))
    path = os.path.join(os.fsencode(tmp_path), b"film\xff.avi")
    os.rename(film(tmp_path / "film.avi"), path)
    output = os.path.join(os.fsencode(tmp_path), b"out\xe9.mp4")
    arguments = ("--source", os.fsdecode(path), "--output", os.fsdecode(output))
    result = run(models, people, *arguments, "--json=-", "--max-frames=2")
    found = records(result)
    assert found[0]["faces"][0]["name"] == "Andr\ufffd"
    assert os.path.getsize(output) > 1000
    result = run(models, people, *arguments, "--max-frames=2")
    assert "Andr\ufffd in 2" in result.stdout
    result = run(models, people, "--source", os.fsdecode(path) + "x")
    assert result.returncode == 1
    assert "film\ufffd.avix: No such file" in last_line(result)


def test_a_video_cut_in_the_middle(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    path, output = film(tmp_path / "film.avi", 60), tmp_path / "out.avi"
    os.truncate(path, path.stat().st_size // 2)
    result = run(models, people, "--source", path, "--json=-", "--output", output)
    assert result.returncode == 4
    count = len(result.stdout.splitlines())
    assert 20 < count < 40
    summary, line = result.stderr.splitlines()[-2:]
    assert f"ends early: read {count} of 60 frames" in line
    assert summary.startswith(f"{count} frames in")
    assert cv2.VideoCapture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT) == count


def test_sources_that_are_not_there(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    for source, message in (
        (tmp_path / "none.mp4", "No such file"),
        (tmp_path / "people", "must hold pictures"),
        (people / "Rosa", None),
        ("97", "there is none at 97"),
    ):
        result = run(models, people, "--source", source)
        if message is None:
            assert result.returncode == 0
            continue
        assert result.returncode == 1
        assert message in last_line(result)
        assert result.stdout == ""


def test_galleries_that_cannot_be_used(models, tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(stand_in.scene(64, 64)).save(path)
    result = run(models, tmp_path / "none", "--source", path)
    assert result.returncode == 1
    assert "a gallery is a folder" in last_line(result)
    (tmp_path / "empty").mkdir()
    result = run(models, tmp_path / "empty", "--source", path)
    assert result.returncode == 1
    assert "no picture" in last_line(result)
    faceless = tmp_path / "faceless" / "Ada"
    faceless.mkdir(parents=True)
    Image.fromarray(stand_in.scene(64, 64)).save(faceless / "a.png")
    result = run(models, tmp_path / "faceless", "--source", path)
    assert result.returncode == 1
    assert "none was found" in last_line(result)


def test_bad_pictures_in_the_gallery_are_named_and_the_rest_goes_on(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa", "Blau", "Gelb", "Zyan")
    os.truncate(people / "Blau" / "a.png", 100)
    Image.new("1", (20000, 20000)).save(people / "Gelb" / "a.png")
    Image.fromarray(stand_in.scene(1, 1)).save(people / "Zyan" / "a.png")
    two = stand_in.scene(200, 100, Rosa=(10, 10, 40), Blau=(100, 10, 40))
    Image.fromarray(two).save(people / "Rosa" / "two.png")
    path = film(tmp_path / "film.avi")
    result = run(models, people, "--source", path, "--json=-", "--max-frames=1")
    names = [face["name"] for face in records(result)[0]["faces"]]
    assert names == ["Rosa", "unknown", "unknown"]
    expected = {
        "Blau/a.png": "whole",
        "Gelb/a.png": "at most 100000000 pixels",
        "Zyan/a.png": "none was found",
        "Rosa/two.png": "2 were found",
    }
    lines = result.stderr.splitlines()
    for name, reason in expected.items():
        (line,) = [line for line in lines if name in line]
        assert reason in line


def test_a_damaged_cache_is_built_again(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    arguments = (people, "--source", people / "Rosa", "--json=-")
    first = run(models, *arguments)
    (cache,) = people.glob(".*.cache")
    data = bytearray(cache.read_bytes())
    data[-20] ^= 1
    cache.write_bytes(data)
    second = run(models, *arguments)
    assert records(first) == records(second)
    assert "built again" not in first.stderr
    assert second.stderr.count("built again") == 1
    assert "built again" not in run(models, *arguments).stderr


@pytest.mark.parametrize("flag", ["output", "json"])
def test_outputs_that_cannot_be_written(models, tmp_path, flag):
    people = gallery(tmp_path / "people", "Rosa")
    path = film(tmp_path / "film.avi")
    before = path.read_bytes()
    for target in (tmp_path / "none" / "out.avi", tmp_path, path):
        result = run(models, people, "--source", path, f"--{flag}={target}")
        assert result.returncode == 1
        line = last_line(result)
        assert "must" in line and str(target) in line
        assert result.stdout == ""
    assert path.read_bytes() == before
    # Nothing was run: the gallery was not even read.
    assert not list(people.glob(".*"))


def test_one_file_for_both_outputs(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    target = tmp_path / "out.avi"
    result = run(
        models, people, f"--source={people}/Rosa", f"--json={target}",
        f"--output={tmp_path}/./out.avi",
    )
    assert result.returncode == 1
    assert "two files" in last_line(result)
    assert not target.exists()


def test_a_failed_run_leaves_older_outputs(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    for name in ("out.mp4", "lines.jsonl"):
        (tmp_path / name).write_text("older")
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"RIFF\x00\x00\x00\x00AVI ")
    result = run(
        models,
        people,
        *("--source", broken),
        *("--output", tmp_path / "out.mp4"),
        *("--json", tmp_path / "lines.jsonl"),
    )
    assert result.returncode == 1
    assert "broken.avi" in last_line(result)
    for name in ("out.mp4", "lines.jsonl"):
        assert (tmp_path / name).read_text() == "older"


def test_faces_by_a_cascade(models, tmp_path):
    (tmp_path / "models").mkdir()
    dark_squares.write(tmp_path / "models")
    for name in ("face_detector", "face_embedder"):
        (tmp_path / "models" / name).symlink_to(models / name)
    people = tmp_path / "people"
    (people / "Ada").mkdir(parents=True)
    picture = Image.fromarray(dark_squares.scene(160, 120, (40, 30, 24)))
    picture.save(people / "Ada" / "a.png")
    picture.save(tmp_path / "scene.png")
    arguments = [people, "--source", tmp_path / "scene.png", "--json=-"]
    result = run(tmp_path / "models", *arguments, "--detector=cascade")
    (line,) = records(result)
    (face,) = line["faces"]
    assert face["name"] == "Ada" and face["score"] == pytest.approx(1, abs=1e-3)
    assert np.shape(face["landmarks"]) == (5, 2)
    # The network finds no face there: the vector that was kept is the cascade's.
    result = run(tmp_path / "models", *arguments)
    assert result.returncode == 1
    assert "Ada/a.png (a gallery picture shows one face, none was found)" in last_line(
        result
    )
    # Nor is there a model of the cascade in the other folder.
    result = run(models, *arguments, "--detector=cascade")
    assert result.returncode == 1
    assert "card.json, there is none in" in last_line(result)


def test_models_of_another_task(models, tmp_path):
    people = gallery(tmp_path / "people", "Rosa")
    swapped = tmp_path / "models"
    swapped.mkdir()
    (swapped / "face_detector").symlink_to(models / "face_detector")
    (swapped / "face_embedder").symlink_to(models / "face_detector")
    result = run(swapped, people, "--source", people / "Rosa")
    assert result.returncode == 1
    line = last_line(result)
    assert "face_embedding" in line and "face_detection" in line
