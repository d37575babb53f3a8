"""The executable on coloured squares, whose similarity is known."""

import csv
import io
import json
import os
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from mlcvtf.commands import picture_set
from tests.case import ROOT, child
from tests.video import stand_in

APP = ROOT / "apps" / "face_verify"
COLOURS = list(stand_in.COLOURS)
EMPTY, CROWDED = "empty.png", "crowded.png"


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def pictures():
    """Two pictures per colour, one without a face and one with two faces."""
    files = {}
    for number, name in enumerate(COLOURS):
        for copy, left in enumerate((20, 60)):
            image = stand_in.scene(160, 120, **{name: (left, 10 + number, 50)})
            files[f"{name}_{copy}.png"] = png(image)
    files[EMPTY] = png(stand_in.scene(160, 120))
    two = stand_in.scene(160, 120, Rosa=(0, 0, 40), Blau=(70, 40, 40))
    files[CROWDED] = png(two)
    return files


def pair_rows():
    """Per fold three colours with themselves and with each other; one label is wrong.

    The crowded picture's most central face is blue, so it is a true pair with blue.
    """
    rows = []
    for fold, names in (("a", COLOURS[:3]), ("b", COLOURS[3:])):
        for i, name in enumerate(names):
            rows.append((fold, f"{name}_0.png", f"{name}_1.png", 1))
            rows.append((fold, f"{name}_0.png", f"{names[i - 1]}_1.png", 0))
    rows.append(("a", CROWDED, "Blau_0.png", 1))
    rows.append(("a", EMPTY, "Blau_0.png", 0))
    rows.append(("b", "Gelb_0.png", "Zyan_0.png", 1))
    rows.append(("b", "Gelb_1.png", "Zyan_1.png", 0))
    return rows


def write_pairs(path, rows, header=("fold", "file1", "file2", "same")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return stand_in.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in pictures().items():
            file.writestr(name, data)
    return path


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs.csv", pair_rows())


def verify(images, pairs, *more, models="no models"):
    return child([APP, f"--images={images}", f"--pairs={pairs}", f"--models={models}",
                  *more])


def assert_one_line(result, *parts):
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def test_prints_the_figures_and_draws_the_curve(tmp_path, models, archive, pairs):
    curve, figures = tmp_path / "curve.png", tmp_path / "figures.json"
    result = verify(archive, pairs, f"--roc={curve}", f"--json={figures}",
                    models=models)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "8 pairs of one person and 8 of two in 14 pictures, litert"
    assert lines[1] == ("no face found in 1 pictures (embedded whole), several in 1 "
                        "(the most central counts)")
    # All right in fold a; of the 8 pairs of fold b the one that is labelled wrongly
    # is not.
    assert "fold a: accuracy 1.0000" in lines[2]
    assert "fold b: accuracy 0.8750" in lines[3]
    assert lines[4] == "accuracy 0.9375 +- 0.0625"
    assert lines[5] == ("TAR at FAR 1e-01: not measured, 8 pairs of two people are too "
                        "few")
    assert lines[-1].startswith("equal error rate 0.")
    numbers = json.loads(figures.read_text(encoding="utf-8"))
    assert numbers["accuracy"] == 0.9375 and numbers["standard_error"] == 0.0625
    assert numbers["without_face"] == [EMPTY]
    assert numbers["with_several_faces"] == [CROWDED]
    assert numbers["true_accept_rate_at"]["0.01"] is None
    image = np.asarray(Image.open(curve).convert("RGB"))
    assert image.shape[0] > 300 and len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_a_folder_gives_the_same_as_an_archive(tmp_path, models, archive, pairs):
    for name, data in pictures().items():
        (tmp_path / name).write_bytes(data)
    first = verify(archive, pairs, "--json=-", models=models)
    second = verify(tmp_path, pairs, "--json=-", models=models)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_rates_are_measured_where_the_pairs_allow(tmp_path, models, archive):
    rows = pair_rows()
    pairs = write_pairs(tmp_path / "many.csv", rows * 8)
    result = verify(archive, pairs, models=models)
    # 64 pairs of two people: 6 false accepts at 0.1 tell something, none at 0.01.
    assert "TAR at FAR 1e-01: 0.8750" in result.stdout
    assert "TAR at FAR 1e-02: not measured, 64 pairs" in result.stdout


def test_folds_are_chosen(tmp_path, models, archive):
    rows = pair_rows() + [("c", "absent.png", "absent.png", 1)]
    pairs = write_pairs(tmp_path / "three.csv", rows)
    result = verify(archive, pairs, "--folds=a,b", models=models)
    assert "accuracy 0.9375" in result.stdout
    assert_one_line(verify(archive, pairs, "--folds=a,d"), "(a, b, c)", "received d")
    assert_one_line(verify(archive, pairs, "--folds=a"), "two or more", "received a")
    assert_one_line(verify(archive, pairs, "--folds=a,c"), "fold c", "one kind only")


def test_both_flags_are_needed():
    result = child([APP, "--pairs=x.csv"])
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1 and "--images" in result.stderr
    result = child([APP, "--images=x.zip", "--pairs=x.csv", "stray"])
    assert result.returncode == 2 and "stray" in result.stderr


@pytest.mark.parametrize("text, message", [
    (None, "No such file"),
    (b"", "lacks fold, file1, file2, same"),
    (b"fold,file1,same\n1,a,1\n", "lacks file2"),
    (b"fold,file1,file2,same\n", "has none"),
    (b"fold,file1,file2,same\n1,a,b,1\n1,a,b,yes\n", "row 3"),
    (b"fold,file1,file2,same\n1,a,b\n", "row 2"),
    (b"fold,file1,file2,same\n1,,b,1\n", "row 2"),
    (b"fold,file1,file2,same\n1,\xff,b,1\n", "UTF-8"),
    (b"fold,file1,file2,same\n1," + b"a" * 200_000 + b",b,1\n", "CSV"),
], ids=["absent", "empty", "no column", "no row", "no kind", "short row", "no name",
        "no text", "long field"])
def test_a_bad_table_is_one_line(tmp_path, archive, text, message):
    path = tmp_path / "bad.csv"
    if text is not None:
        path.write_bytes(text)
    assert_one_line(verify(archive, path), "bad.csv", message)


def test_images_that_are_not_there_are_one_line(tmp_path, archive, pairs):
    assert_one_line(verify(tmp_path / "none.zip", pairs), "none.zip", "No such file")
    assert_one_line(verify(pairs, pairs), "pairs.csv", "neither")
    os.truncate(archive, 500)
    assert_one_line(verify(archive, pairs), "pictures.zip", "neither")


def test_a_picture_that_is_not_there_is_one_line(tmp_path, archive):
    rows = [*pair_rows(), ("a", "absent.png", "Blau_0.png", 1)]
    pairs = write_pairs(tmp_path / "more.csv", rows)
    assert_one_line(verify(archive, pairs), "absent.png", "1 is not")
    assert_one_line(verify(tmp_path, pairs), "15 are not")


def test_a_name_that_leads_out_of_the_folder_is_not_there(tmp_path, pairs):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(pictures()[EMPTY])
    rows = [("a", "../secret.png", str(tmp_path / "secret.png"), s) for s in (0, 1)]
    rows += [("b", *row[1:]) for row in rows]
    outside = write_pairs(tmp_path / "outside.csv", rows)
    assert_one_line(verify(inside, outside), "2 are not")


def test_a_damaged_picture_is_one_line(tmp_path, models, pairs):
    files = pictures() | {"Grün_1.png": pictures()["Grün_1.png"][:200]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert_one_line(verify(tmp_path, pairs, models=models), "Grün_1.png", "truncated")


def test_a_picture_too_large_is_refused_from_its_header(tmp_path, models, pairs):
    header = b"\0\0\0\rIHDR" + (20000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    huge = (b"\x89PNG\r\n\x1a\n" + header + zlib.crc32(header[4:]).to_bytes(4, "big")
            + b"\0\0\0\0IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big"))
    for name, data in (pictures() | {CROWDED: huge}).items():
        (tmp_path / name).write_bytes(data)
    assert_one_line(verify(tmp_path, pairs, models=models), CROWDED, "100000000 pixels")


def test_a_zip_bomb_is_not_unpacked(tmp_path, models, pairs):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, data in pictures().items():
            file.writestr(name, data)
        with file.open("bomb.png", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1_000_000))
    assert path.stat().st_size < 1_000_000
    rows = [("a", "bomb.png", EMPTY, 1), *pair_rows()]
    result = verify(path, write_pairs(tmp_path / "bomb.csv", rows), models=models)
    assert_one_line(result, "bomb.png", f"at most {picture_set.MAX_BYTES} bytes")


def test_an_archive_with_wrong_bytes_is_one_line(archive, models, pairs):
    data = bytearray(archive.read_bytes())
    start = data.index(b"IDAT") + 8
    data[start:start + 4] = b"\xff" * 4
    archive.write_bytes(data)
    assert_one_line(verify(archive, pairs, models=models), "Rosa_0.png", "CRC")


def test_outputs_that_cannot_be_written_are_refused_first(tmp_path, archive, pairs):
    result = verify(archive, pairs, f"--roc={tmp_path / 'no' / 'curve.png'}")
    assert_one_line(result, "curve.png", "No such file")
    assert_one_line(verify(archive, pairs, "--roc=curve.bmp"), ".svg", "curve.bmp")
    result = verify(archive, pairs, f"--json={tmp_path}")
    assert_one_line(result, "figures must be writable")


def test_models_of_another_task_are_refused(tmp_path, models, archive, pairs):
    wrong = tmp_path / "models"
    wrong.mkdir()
    for name in ("face_detector", "face_embedder"):
        os.symlink(models / "face_embedder", wrong / name)
    assert_one_line(verify(archive, pairs, models=wrong), "face_detection")


def test_faces_by_a_cascade_that_is_not_there(models, archive, pairs):
    result = verify(archive, pairs, "--detector=cascade")
    assert_one_line(result, "card.json, there is none in", "face_cascade")


def test_the_most_central_face_counts():
    boxes = np.array([[0, 0, 30, 30], [90, 10, 110, 30], [60, 30, 80, 60.0]])
    assert picture_set.most_central(boxes, (80, 160)) == 2
    assert picture_set.most_central(boxes, (40, 200)) == 1
    assert picture_set.most_central(boxes[:1], (80, 160)) == 0
