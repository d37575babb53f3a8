"""Who may be trained on, on real tables where they are and on made ones."""

import pathlib
import zipfile

import cv2
import numpy as np
import pytest

from mlcvtf.data import archives, faces
from mlcvtf.errors import InputError

SHARED = pathlib.Path(__file__).parents[3] / "shared/data"


def pack(path, names, size=16):
    picture = np.full((size, size, 3), 90, np.uint8)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, data)


@pytest.fixture
def root(tmp_path):
    """A tiny copy of the data folder: six LFW people a fold, a few of CelebA."""
    rows, names = ["file,identity,image_num,fold"], []
    for fold in range(1, 7):
        for person in range(6):
            for number in range(1, 3 if person < 2 else 2):
                names.append(f"P{fold}{person}_{number:04d}.jpg")
                rows.append(f"{names[-1]},P{fold}{person},{number},{fold}")
    folder = tmp_path / "lfw"
    pack(folder / "images_folds1-6.zip", names)
    (folder / "images_folds1-6.csv").write_text("\n".join(rows) + "\n")
    wild = ["186075.jpg,1", "000001.jpg,7314", "000002.jpg,7312", "000003.jpg,8"]
    aligned = ["000010.jpg,8"] + [f"{20 + i:06d}.jpg,{100 + i // 2}" for i in range(80)]
    for name, lines in (("celeba_wild_ids", wild), ("celeba_aligned_10k", aligned)):
        pack(tmp_path / name / "train.zip", [line.split(",")[0] for line in lines])
        table = "file,identity\n" + "\n".join(lines) + "\n"
        (tmp_path / name / "train.csv").write_text(table)
    return tmp_path


def test_scored_folds_are_not_read_for_training(root):
    train, scored = faces.read_lfw(root), faces.read_lfw(root, scored=True)
    assert {name[1] for name in train.names} == set("1234")
    assert {name[1] for name in scored.names} == set("56")
    assert not set(train.people) & set(scored.people)


def test_bad_pictures_and_double_identities(root):
    wild = faces.read_celeba_wild(root)
    assert wild.names == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert wild.people == ["celeba:7312", "celeba:7312", "celeba:8"]


def test_set_aside_people_are_nobody_who_is_trained_on(root):
    train, aside = faces.read_training(root)
    trained = {person for part in train for person in part.people}
    kept = {person for part in aside for person in part.people}
    assert kept and not trained & kept
    assert "celeba:8" in trained
    counts = {
        person: sum(p == person for p in faces.read_lfw(root).people)
        for person in kept
        if person.startswith("lfw:")
    }
    assert counts and set(counts.values()) == {1}
    total = sum(len(part.names) for part in train + aside)
    assert total == 32 + 3 + 81


def test_choice_depends_on_the_identity_alone():
    chosen = [faces.is_set_aside("lfw", f"lfw:{i}") for i in range(5000)]
    assert abs(np.mean(chosen) - faces.SET_ASIDE["lfw"]) < 0.02
    assert chosen == [faces.is_set_aside("lfw", f"lfw:{i}") for i in range(5000)]
    assert not faces.is_set_aside("celeba_wild", "celeba:1")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="expected a CSV table at .*there is none"):
        faces.read_lfw(tmp_path)
    with pytest.raises(InputError, match="expected a ZIP archive at .*there is none"):
        archives.read_pictures(tmp_path / "no.zip")
    pack(tmp_path / "some.zip", ["a.jpg"])
    with pytest.raises(InputError, match="lacks 1 pictures: b.jpg"):
        archives.read_pictures(tmp_path / "some.zip", ["a.jpg", "b.jpg"])
    with zipfile.ZipFile(tmp_path / "some.zip", "a") as archive:
        archive.writestr("broken.jpg", b"not a picture")
    with pytest.raises(InputError, match="broken.jpg is not a picture that decodes"):
        archives.read_pictures(tmp_path / "some.zip")


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_list_in_the_card_is_the_rule():
    listed = pathlib.Path(__file__).parents[2] / "docs/face_set_aside.txt"
    _, aside = faces.read_training(SHARED)
    people = {person for part in aside for person in part.people}
    assert set(listed.read_text().split("\n")[:-1]) == people


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_landmarks_leave_scored_people_out():
    images, landmarks = faces.read_landmarks(SHARED, "train")
    assert len(images) == 1212 and landmarks.shape == (1212, 5, 2)
    for image, points in zip(images, landmarks, strict=True):
        height, width = image.shape[:2]
        assert (points > -5).all() and (points < [width + 5, height + 5]).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not here")
def test_landmarks_are_moved_back_to_the_left():
    _, centred = faces.read_landmarks(SHARED, "val")
    _, given = faces.read_landmarks(SHARED, "val", as_given=True)
    eyes = np.linalg.norm(given[:, 0] - given[:, 1], axis=1)
    shift = (given - centred)[..., 0] / eyes[:, None]
    np.testing.assert_allclose(shift, faces.TRUTH_SHIFT, atol=1e-4)
    np.testing.assert_array_equal(given[..., 1], centred[..., 1])


def test_stored_landmarks_go_by_name(tmp_path):
    points = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    np.savez(tmp_path / "landmarks.npz", lfw=points, lfw_names=["a.jpg", "b.jpg"])
    stored = faces.stored_landmarks(tmp_path / "landmarks.npz")
    assert list(stored) == ["lfw"] and list(stored["lfw"]) == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(stored["lfw"]["b.jpg"], points[1])
