"""The executable on small made sets: the model that it writes, and bad input."""

import json

import cv2
import numpy as np
import pytest

from mlcvtf.commands import cascade_faces, cascade_model
from mlcvtf.data import faces
from tests.case import ROOT, child
from tests.data.made_sets import write, write_zip
from tests.detection.viola_jones import made_faces

APP = ROOT / "apps" / "face_cascade"
SIDE, MARGIN = 48, 8
# Of a made face, in sixteenths of its side.
MARKS = np.array([[5.3, 6.2], [10.7, 6.2], [8, 8.8], [5.5, 11.4], [10.5, 11.4]])
LANDMARKS = MARGIN - 0.5 + MARKS * SIDE / 16
SMALL = ["--stages=3", "--negatives_per_stage=120", "--threads=1"]


def picture(seed):
    """A made face on a background, uint8 RGB."""
    random = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    image = made_faces.background(random, side, side)
    image[MARGIN:-MARGIN, MARGIN:-MARGIN] = made_faces.face(random, SIDE)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)


def table(path, header, rows):
    write(path, "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """All sets that the command reads, small and made."""
    root = tmp_path_factory.mktemp("data")
    (root / "cbcl_faces19").mkdir()
    small = [cv2.resize(picture(i)[15:52, 14:51, 0], (19, 19)) for i in range(20)]
    np.savez(root / "cbcl_faces19/train.npz", faces=np.stack(small))
    names = [f"A{i}_0001.jpg" for i in range(40)]
    write_zip(
        root / "lfw/images_folds1-6.zip",
        {name: picture(100 + i) for i, name in enumerate(names)},
    )
    rows = [(name, f"A{i}", 1, 1 + i % 6) for i, name in enumerate(names)]
    table(
        root / "lfw/images_folds1-6.csv",
        ("file", "identity", "image_num", "fold"),
        rows,
    )
    for first, name in ((200, "celeba_wild_ids"), (300, "celeba_aligned_10k")):
        files = {f"{first + i:06d}.jpg": picture(first + i) for i in range(20)}
        write_zip(root / name / "train.zip", files)
        rows = [(file, i // 2) for i, file in enumerate(files)]
        table(root / name / "train.csv", ("file", "identity"), rows)
    points = ("leye", "reye", "nose", "lmouth", "rmouth")
    header = ["file", "person", *(f"{p}_{axis}" for p in points for axis in "xy")]
    # As the set has them: too far to the right.
    eyes = LANDMARKS[1, 0] - LANDMARKS[0, 0]
    given = (LANDMARKS + [faces.TRUTH_SHIFT * eyes, 0]).ravel().tolist()
    for first, split in ((400, "train"), (500, "val")):
        files = {f"{first + i}.jpg": picture(first + i) for i in range(30)}
        write_zip(root / f"ytf_landmarks68/{split}.zip", files)
        rows = [(file, f"Y{file}", *given) for file in files]
        table(root / f"ytf_landmarks68/{split}.csv", header, rows)
    for first, split in ((1, "train"), (50, "val")):
        _backgrounds(root, first, split)
    arrays = {}
    for part in (
        faces.read_lfw(root),
        faces.read_celeba_wild(root),
        faces.read_celeba_aligned(root),
    ):
        arrays[part.source + "_names"] = np.array(part.names)
        arrays[part.source] = np.stack([LANDMARKS] * len(part.names))
    np.savez(root / "landmarks.npz", **arrays)
    return root


def _backgrounds(root, first, split):
    """Three sets without faces, and in coco_mini one with a person, which is a face."""
    for place, name in enumerate(("coco_mini", "camvid", "clothing10")):
        images = made_faces.backgrounds(3, first + place)
        files = {f"{i}.jpg": images[i] for i in range(3)}
        if name == "coco_mini":
            files["2.jpg"] = picture(1)
            content = {
                "images": [
                    {"id": i, "file_name": f"{i}.jpg", "width": 120, "height": 90}
                    for i in range(3)
                ],
                "annotations": [
                    {"id": 1, "image_id": 2, "category_id": 1, "bbox": [8, 8, 48, 48]}
                ],
                "categories": [{"id": 1, "name": "person"}],
            }
            write(root / name / f"{split}.json", json.dumps(content))
        write_zip(root / name / f"{split}.zip", files)


def run(data, work, *arguments):
    return child(
        [
            APP,
            f"--data={data}",
            f"--landmarks={data / 'landmarks.npz'}",
            f"--work={work}",
            f"--output={work / 'models/face_cascade'}",
            *arguments,
        ]
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    result = run(data, work, *SMALL)
    assert result.returncode == 0, result.stderr
    return work, result


@pytest.mark.slow
def test_what_it_says_and_writes(trained):
    work, result = trained
    lines = result.stdout.splitlines()
    # LFW's folds 5 and 6 are not read; CBCL's faces come mirrored as well.
    assert lines[0] == (
        "windows: 40 cbcl, 28 lfw, 20 celeba_wild, 20 celeba_aligned, "
        "60 ytf (validation)"
    )
    assert lines[-1].startswith(f"wrote {work}/models/face_cascade: 3 stages, ")
    assert (work / "report.md").read_text().startswith("# A cascade of 3 stages")
    cascade, card = cascade_model.load(work / "models/face_cascade")
    assert len(cascade.stage_trees) == 3 and card["window"] == [20, 20]
    assert card["labels"] == ["face"]
    thresholds = card["faces"]["thresholds"]
    assert 0 < thresholds["score"] <= thresholds["certain"] <= 1
    assert (work / "models/face_cascade/float32.tflite").is_file()
    assert {"minutes", "recall"} == {f["figure"].split()[0] for f in card["figures"]}
    assert card["recipe"]["detection"] == 0.998


@pytest.mark.slow
def test_landmarks_are_implied_where_they_are(trained):
    detector = cascade_faces.load(trained[0] / "models")
    detector.card["thresholds"]["score"] = 0.0
    distances = []
    for seed in range(600, 610):
        found = detector.detect(picture(seed))
        if len(found.landmarks):
            distances.append(np.abs(found.landmarks[0] - LANDMARKS).mean())
    # Three stages are no detector yet, but most faces are the surest box of a picture.
    assert len(distances) >= 8
    assert np.median(distances) < 0.15 * SIDE


@pytest.mark.slow
def test_the_same_command_goes_on(trained, data):
    work, first = trained
    again = run(data, work, *SMALL)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "trees, detection" not in again.stdout


def test_bad_input(data, tmp_path):
    result = child([APP, "--stages=0"])
    assert result.returncode == 2 and result.stderr.startswith("face_cascade: ")
    result = child([APP, "more"])
    assert result.returncode == 2
    result = run(tmp_path / "nowhere", tmp_path)
    assert result.returncode == 1
    assert "cbcl_faces19/train.npz, there is none" in result.stderr
    assert result.stderr.count("\n") == 1
    (tmp_path / "models/face_cascade").mkdir(parents=True)
    result = run(data, tmp_path)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "a new folder or a model folder to replace" in result.stderr
    assert not list((tmp_path / "models/face_cascade").iterdir())
