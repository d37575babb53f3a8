"""What the face benchmarks compute themselves, on small made-up input."""

import csv
import importlib.machinery
import importlib.util
import sys

import numpy as np
import pytest

from mlcvtf.commands.face_pipeline import Faces
from mlcvtf.embedding import alignment
from tests.case import ROOT


def program(name):
    """Imports a program that has no suffix."""
    path = ROOT / "benchmarks" / name
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader))
    before = sys.path[:], sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader.exec_module(module)
    finally:
        sys.path[:], sys.dont_write_bytecode = before
    return module


def test_the_first_picture_is_enrolled_and_single_ones_are_strangers(tmp_path):
    rows = [("Ada_0002.jpg", "Ada", 5), ("Ada_0001.jpg", "Ada", 5),
            ("Ada_0003.jpg", "Ada", 5), ("Bob_0001.jpg", "Bob", 6),
            ("Eve_0001.jpg", "Eve", 4), ("Eve_0002.jpg", "Eve", 4)]
    path = tmp_path / "images.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("file", "identity", "fold"), *rows])
    enrolled, queries = program("face_open_set").split(path, ["5", "6"])
    assert enrolled == {"Ada_0001.jpg": "Ada"}
    assert queries == {"Ada_0002.jpg": "Ada", "Ada_0003.jpg": "Ada",
                       "Bob_0001.jpg": "Bob"}


def test_recall_and_landmark_errors_by_hand():
    truth = np.array(alignment.TEMPLATE, float)
    box = alignment.face_box(truth)
    eyes = np.linalg.norm(truth[1] - truth[0])
    moved = truth + [[0.1 * eyes, 0], [0, 0], [0, 0], [0, 0.2 * eyes], [0, 0]]
    near = Faces(np.array([box + 300, box]), np.array([0.9, 0.8]),
                 np.array([truth + 300, moved]))
    far = Faces(np.array([box + 60]), np.array([0.9]), np.array([truth]))
    none = Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
    recall, overlap, mean, median, high, *rest = program("face_landmarks").score(
        [near, far, none, near], np.array([truth] * 4))
    assert recall == 0.5 and overlap == pytest.approx(1)
    assert mean == median == high == pytest.approx(0.3 / 5)
    assert rest[:5] == pytest.approx([0.1, 0, 0, 0.2, 0])
    # One beside each face that was found, and the one that is too far away.
    assert rest[5] == 3


def test_nothing_found_is_no_error():
    none = Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))
    row = program("face_landmarks").score([none], np.array([alignment.TEMPLATE]))
    assert row[0] == 0 and row[-1] == 0


def test_a_known_framing_is_found_again():
    module = program("face_detection")
    rng = np.random.default_rng(0)
    found, house = [], []
    for _ in range(20):
        x, y, size = rng.uniform(50, 100, 3)
        boxes = np.array([[x, y, x + size, y + size], [0, 0, 5, 5]])
        found.append((boxes, np.array([0.9, 0.1])))
        # A tenth to the right, a fifth down, 1.5 times as wide, as high as it was.
        centre = np.array([x + 0.6 * size, y + 0.7 * size])
        half = np.array([0.75 * size, 0.5 * size])
        house.append(np.concatenate([centre - half, centre + half]))
    # A false detection elsewhere and a frame without any change nothing.
    found += [(np.array([[500.0, 500, 600, 600]]), np.array([2.0])),
              (np.zeros((0, 4)), np.zeros(0))]
    house += [house[0], house[1]]
    framing = module.fit_framing(found, house)
    assert framing == pytest.approx([0.1, 0.2, 1.5, 1.0])
    boxes, scores = module.reframe(*found[0], framing)
    assert boxes[0] == pytest.approx(house[0])
    assert scores.tolist() == [0.9, 0.1]


def test_averages_by_set():
    module = program("face_detection")
    truth = {"boxes": [[0.0, 0, 30, 30]], "labels": [0], "crowd": [False]}
    hit, miss = (np.array([[0.0, 0, 30, 30]]), np.array([0.5])), (
        np.array([[90.0, 0, 99, 30]]), np.array([0.9]))
    values = module.aps([hit, miss], [truth, truth], list(module.SETS))
    assert values == [0.25, 1.0, 0.0]
    assert module.recall([hit, miss], [truth, truth]) == 0.5
    assert module.recall([miss, miss], [truth, truth]) == 0


@pytest.mark.parametrize("name", ["face_detection", "face_landmarks", "face_open_set",
                                  "face_verification", "coco_evaluation"])
def test_help_tells_how_it_is_run(name, capsys):
    module = program(name)
    code = module.command.run(module.main, module.FLAGS, module.__doc__,
                              [name, "--help"])
    assert code == 0
    text = capsys.readouterr().out
    assert text.startswith(module.__doc__.strip()) and "--write" in text
