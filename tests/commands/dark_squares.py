"""A cascade by hand, whose objects are dark squares in the middle of its windows."""

import numpy as np

from mlcvtf import card as cards
from mlcvtf.commands import cascade_model
from mlcvtf.detection.viola_jones import opencv_xml
from mlcvtf.detection.viola_jones.cascade import Cascade

WINDOW = 12
POINTS = {"x": 0.5, "y": 0.55, "scale": 0.01}
THRESHOLDS = {"score": 0.3, "certain": 0.6}
CARD = {
    "name": "face_cascade",
    "task": cascade_model.TASK,
    "labels": ["face"],
    "input": {"name": "image", "dtype": "uint8", "shape": [None, None, 3]},
    "outputs": {},
    "thresholds": {},
    "licence": "none",
    "data": [],
    "recipe": "tests/commands/dark_squares.py",
    "commit": "none",
    "parameters": 3,
    "figures": [],
    "window": [WINDOW, WINDOW],
}


def cascade() -> Cascade:
    """Returns a cascade of one stump: the middle quarter is darker than all.

    Of a dark square that fills the middle the feature is sqrt(3), and less elsewhere.
    """
    return Cascade(
        window=(WINDOW, WINDOW),
        rectangles=np.array([[[0, 0, 12, 12], [3, 3, 6, 6], [0, 0, 0, 0]]], np.int32),
        weights=np.array([[1, -4, 0]], np.float32),
        tilted=np.zeros(1, bool),
        stage_trees=np.ones(1, np.int32),
        stage_thresholds=np.array([0.5], np.float32),
        tree_nodes=np.ones(1, np.int32),
        features=np.zeros(1, np.int32),
        thresholds=np.array([1.4], np.float32),
        children=np.array([[0, -1]], np.int32),
        leaves=np.array([0, 1], np.float32),
    )


def write(models, points=POINTS, thresholds=THRESHOLDS):
    """Writes `face_cascade` into a folder of models, for the compiled path alone."""
    folder = models / "face_cascade"
    folder.mkdir(exist_ok=True)
    opencv_xml.save_opencv_xml(cascade(), folder / cascade_model.CASCADE)
    faces = {"points": points, "thresholds": thresholds}
    cards.write(folder, CARD | {"faces": faces})
    return models


def scene(width, height, *squares) -> np.ndarray:
    """Paints a light picture with dark squares, each (left, top, side)."""
    image = np.full((height, width, 3), 200, np.uint8)
    for left, top, side in squares:
        image[top : top + side, left : left + side] = 40
    return image
