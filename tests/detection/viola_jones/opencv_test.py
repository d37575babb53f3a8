"""The same windows as OpenCV 4's: stored ones, and with `peers` OpenCV itself.

    .venv-peers/bin/python -m tests.detection.viola_jones.opencv_test

writes the stored windows, which OpenCV 4.14 found with cascades of random features.
"""

import json
import pathlib
import sys
import tempfile

import cv2
import numpy as np
import pytest

from mlcvtf.data import archives
from mlcvtf.detection.viola_jones import load_cascade, save_opencv_xml
from tests.case import shared_data
from tests.detection.viola_jones.cascades import random_cascade
from tests.detection.viola_jones.scan_test import KINDS, picture

STORED = pathlib.Path(__file__).with_name("opencv.npz")
FACTORS = (1.1, 1.27)
SHAPES = ((70, 101), (96, 64))
# Cascades with stumps, trees, and tilted features.
NAMES = (
    "frontalface_default",
    "frontalface_alt2",
    "eye",
    "fullbody",
    "eye_tree_eyeglasses",
)


def cases():
    """Yields a key, cascade, picture, scale factor and number of neighbours."""
    for kind, arguments in KINDS.items():
        cascade = random_cascade(5, stages=(3, 8, 12, 16), slack=0.3, **arguments)
        for shape in SHAPES:
            for factor in FACTORS:
                for neighbours in (0, 2):
                    key = f"{kind}_{shape[0]}_{factor}_{neighbours}"
                    yield key, cascade, picture(*shape), factor, neighbours


def sort(windows):
    """Sorts windows, whose order is not the same from run to run in OpenCV."""
    windows = np.asarray(windows, np.int32).reshape(-1, 4)
    return windows[np.lexsort(windows.T[::-1])]


def theirs(cascade, gray, factor, neighbours):
    """Detects with OpenCV, through a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cascade.xml"
        save_opencv_xml(cascade, path)
        classifier = cv2.CascadeClassifier(str(path))
    return sort(classifier.detectMultiScale(gray, factor, neighbours))


def test_the_windows_that_opencv_found():
    with np.load(STORED) as stored:
        stored = dict(stored)
    assert sum(map(len, stored.values())) > 500
    for key, cascade, gray, factor, neighbours in cases():
        found = sort(cascade.detect(gray, factor, neighbours))
        np.testing.assert_array_equal(found, stored.pop(key), err_msg=key)
    assert not stored


def opencv4():
    """Skips the test without OpenCV 4."""
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        pytest.skip(f"needs OpenCV 4 and its cascades, this is {cv2.__version__}")


@pytest.mark.peer
def test_a_cascade_of_ours_loads_in_opencv():
    opencv4()
    for key, cascade, gray, factor, neighbours in cases():
        found = sort(cascade.detect(gray, factor, neighbours))
        expected = theirs(cascade, gray, factor, neighbours)
        np.testing.assert_array_equal(found, expected, err_msg=key)


@pytest.mark.peer
def test_all_cascades_of_opencv_load_here():
    opencv4()
    paths = sorted(pathlib.Path(cv2.data.haarcascades).glob("*.xml"))
    assert len(paths) >= 17
    gray = picture(120, 170)
    for path in paths:
        found = load_cascade(path).detect(gray, 1.1, 0)
        expected = cv2.CascadeClassifier(str(path)).detectMultiScale(gray, 1.1, 0)
        np.testing.assert_array_equal(sort(found), sort(expected), err_msg=path.name)


@pytest.mark.peer
@pytest.mark.parametrize("name", NAMES)
def test_the_same_windows_on_real_pictures(name):
    opencv4()
    pictures = {}
    for folder in ("wider_face_mini", "dlib_faces"):
        root = shared_data(folder)
        names = [
            i["file_name"]
            for i in json.loads((root / "train.json").read_text())["images"]
        ]
        pictures |= archives.read_pictures(root / "train.zip", names)
    assert len(pictures) >= 40
    path = str(pathlib.Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml")
    ours, other = load_cascade(path), cv2.CascadeClassifier(path)
    windows = 0
    for number, (file, image) in enumerate(pictures.items()):
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        factor = (1.1, 1.2, 1.05)[number % 3]
        sizes = {} if number % 4 else {"minSize": (40, 40), "maxSize": (200, 200)}
        expected = other.detectMultiScale(gray, factor, 0, **sizes)
        limits = (sizes.get("minSize"), sizes.get("maxSize"))
        found = ours.detect(gray, factor, 0, *limits)
        np.testing.assert_array_equal(sort(found), sort(expected), err_msg=file)
        windows += len(found)
        expected = other.detectMultiScale(gray, factor, 3, **sizes)
        found = ours.detect(gray, factor, 3, *limits)
        np.testing.assert_array_equal(sort(found), sort(expected), err_msg=file)
    assert windows > 100


if __name__ == "__main__":
    stored = {key: theirs(*rest) for key, *rest in cases()}
    np.savez_compressed(STORED, **stored)
    sys.exit(print(f"{cv2.__version__}: {sum(map(len, stored.values()))} windows"))
