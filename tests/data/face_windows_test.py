"""Windows of faces: where the square lies, what jitter may do, who is on which side."""

import math

import cv2
import numpy as np
import pytest

from mlcvtf.data import face_windows, faces
from mlcvtf.embedding import alignment
from mlcvtf.errors import InputError
from tests.data import faces_test

root = faces_test.root


def ramp(side=112):
    """A picture whose values grow to the right and, half as fast, downwards."""
    y, x = np.mgrid[:side, :side]
    return (x + y / 2).round().astype(np.uint8)


def test_the_square_follows_the_landmarks():
    frame = face_windows.frame(alignment.TEMPLATE)
    np.testing.assert_allclose(frame.centre, face_windows.CENTRE, atol=1e-5)
    assert frame.side == pytest.approx(face_windows.SIDE)
    assert frame.degrees == pytest.approx(0, abs=1e-6)
    angle = math.radians(20)
    turn = 1.5 * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    frame = face_windows.frame(alignment.TEMPLATE @ turn.T + [7, -3])
    np.testing.assert_allclose(
        frame.centre, turn @ face_windows.CENTRE + [7, -3], atol=1e-4
    )
    assert frame.side == pytest.approx(1.5 * face_windows.SIDE)
    assert frame.degrees == pytest.approx(20)


def test_the_eyes_of_a_window_are_where_the_framing_has_them():
    picture = np.full((112, 112), 200, np.uint8)
    eyes = alignment.TEMPLATE[:2]
    for x, y in eyes:
        cv2.circle(picture, (round(float(x)), round(float(y))), 4, 20, -1)
    found = face_windows.cut(picture, alignment.TEMPLATE, 67)
    assert found.shape == (67, 67)
    corner = np.array(face_windows.CENTRE) - face_windows.SIDE / 2
    for first, eye in zip((0, 33), eyes, strict=True):
        y, x = np.argwhere(found[:, first : first + 33] < 100).mean(axis=0)
        np.testing.assert_allclose([x + first, y], eye - corner, atol=0.8)


def test_jitter_stays_within_its_limits_and_is_repeated():
    picture = ramp()
    still = face_windows.cut(picture, alignment.TEMPLATE, 21).astype(float)
    middle = still[10, 10]
    shift = face_windows.JITTER.shift * face_windows.SIDE
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        window = face_windows.cut(
            picture, alignment.TEMPLATE, 21, face_windows.JITTER, random
        )
        assert window.shape == (21, 21) and window.dtype == np.uint8
        found.append(window)
    middles = np.array([w[10, 10] for w in found], float)
    assert np.abs(middles - middle).max() <= 1.5 * shift + 2
    assert np.ptp(middles) > shift
    # To the left and to the right: half of them are mirrored.
    slopes = np.array([float(w[10, 15]) - w[10, 5] for w in found])
    assert 8 < (slopes > 0).sum() < 32
    again = face_windows.cut(
        picture,
        alignment.TEMPLATE,
        21,
        face_windows.JITTER,
        np.random.default_rng(3),
    )
    np.testing.assert_array_equal(again, found[3])


@pytest.fixture
def sets(root, monkeypatch):
    """All sets, small: CBCL, and YouTube Faces with a person of LFW's folds 1-4."""
    (root / "cbcl_faces19").mkdir()
    cbcl = np.random.default_rng(0).integers(0, 256, (5, 19, 19), dtype=np.uint8)
    np.savez(root / "cbcl_faces19/train.npz", faces=cbcl)
    names = ("leye", "reye", "nose", "lmouth", "rmouth")
    header = ["file", "person", *(f"{p}_{axis}" for p in names for axis in "xy")]
    numbers = [str(v) for v in (alignment.TEMPLATE / 7).ravel()]
    # Of a fold that is scored, of one that is not, and of none.
    for split, people in (("train", ("P50", "P10", "Q")), ("val", ("P20",))):
        rows = [[f"{p}.jpg", p, *numbers] for p in people]
        faces_test.pack(
            root / f"ytf_landmarks68/{split}.zip", [f"{p}.jpg" for p in people]
        )
        text = "\n".join(",".join(row) for row in [header, *rows]) + "\n"
        (root / f"ytf_landmarks68/{split}.csv").write_text(text)
    arrays = {}
    for part in (
        faces.read_lfw(root),
        faces.read_celeba_wild(root),
        faces.read_celeba_aligned(root),
    ):
        arrays[part.source + "_names"] = np.array(part.names)
        arrays[part.source] = np.stack([alignment.TEMPLATE / 7] * len(part.names))
    np.savez(root / "landmarks.npz", **arrays)
    return root


def test_nobody_is_on_both_sides_and_nothing_scored_is_read(sets):
    found = face_windows.read(sets, sets / "landmarks.npz", 20)
    lfw = faces.read_lfw(sets)
    without = [p for p in lfw.people if p not in ("lfw:P10", "lfw:P20")]
    assert found.counts == {
        "cbcl": 10,
        "lfw": len(without),
        "celeba_wild": 3,
        "celeba_aligned": 81,
        "ytf (validation)": 2 * face_windows.VALIDATION_COPIES,
    }
    assert len(without) == len(lfw.people) - 4
    assert found.training.shape == (94 + len(without), 20, 20)
    assert found.validation.shape == (2 * face_windows.VALIDATION_COPIES, 20, 20)
    with np.load(sets / "cbcl_faces19/train.npz") as stored:
        first = face_windows.resized(stored["faces"][0], 20)
    np.testing.assert_array_equal(found.training[0], first)
    np.testing.assert_array_equal(found.training[5], first[:, ::-1])
    again = face_windows.read(sets, sets / "landmarks.npz", 20)
    np.testing.assert_array_equal(again.training, found.training)


def test_what_is_missing_is_named(sets):
    with pytest.raises(InputError, match="cut from .*nowhere.npz, there is none"):
        face_windows.read(sets, sets / "nowhere.npz", 20)
    (sets / "cbcl_faces19/train.npz").unlink()
    with pytest.raises(InputError, match="cbcl_faces19/train.npz, there is none"):
        face_windows.read(sets, sets / "landmarks.npz", 20)
