"""Detects or trains where numba cannot be imported, and writes what was found.

`python -m tests.detection.viola_jones.without_numba_child found|trained OUT FOLDER`.
"""

import sys

import numpy as np


def found(folder):
    """Detects in every way."""
    from tests.detection.viola_jones.cascades import random_cascade
    from tests.detection.viola_jones.scan_test import picture

    cascade = random_cascade(4, (3, 5, 4), (1, 2), 0.3, slack=0.4)
    gray = picture(70, 90, 3)
    boxes, scores = cascade.detect_scores(gray, 1.2, 1)
    return {
        "boxes": boxes,
        "scores": scores,
        "grouped": cascade.detect(gray, 1.2, 1, (16, 14), (50, 50)),
        "raw": cascade.detect(gray, 1.2, 0),
    }


def trained(folder):
    """Trains two stages of a cascade."""
    from mlcvtf.detection.viola_jones import training
    from mlcvtf.detection.viola_jones.cascade import Cascade
    from tests.detection.viola_jones import made_faces

    faces = made_faces.faces(80)
    settings = training.Settings(
        made_faces.WINDOW, stages=2, negatives=100, most_trees=3, most_bytes=90_000
    )
    cascade = training.Training(
        training.Faces(faces[:60], faces[60:]),
        made_faces.backgrounds(2),
        settings,
        folder,
    ).run()
    return {name: getattr(cascade, name) for name in Cascade.arrays()}


if __name__ == "__main__":
    sys.modules["numba"] = None
    np.savez(sys.argv[2], **globals()[sys.argv[1]](sys.argv[3]))
