"""The folder of a model of a cascade: written by training, read by programs.

Beside the runtimes of every model folder (`mlcvtf.export.write`) it has `cascade.xml`,
as OpenCV 4 reads it, which the compiled path runs without TensorFlow.
"""

import pathlib

from mlcvtf import card as cards
from mlcvtf.errors import InputError

TASK = "cascade_detection"
CASCADE = "cascade.xml"


def save(
    cascade,
    folder,
    card: dict,
    pictures=None,
    scale_factor: float = 1.1,
    min_neighbors: int = 3,
) -> dict:
    """Exports a cascade as a model folder, whole or not at all.

    Args:
        cascade: a `Cascade`.
        folder: to write; an older model folder is replaced in the end.
        card: labels (one, what is detected), licence, data, recipe and figures.
        pictures: uint8 `[height, width, 3]` each, for the parity report; by default
            some with faces and noise.
        scale_factor: of the exported graphs, see `Cascade.detect_scores`.
        min_neighbors: the same.

    Returns:
        The card as written. "evaluation" says in how many pictures LiteRT's answer is
        that of the compiled path on `cascade.xml`, to the bit.

    Raises:
        InputError: the card lacks a key or has not one label, or there is something
            else than a model folder.
    """
    from mlcvtf.detection.viola_jones import opencv_xml
    from mlcvtf.detection.viola_jones.model import cascade_detector
    from mlcvtf.export import write

    if len(card.get("labels", ())) != 1:
        raise InputError(
            "the card of a cascade has one label, what it detects, received "
            f"{len(card.get('labels', ()))}"
        )
    if pictures is None:
        pictures = write.sample_pictures(TASK)
    settings = {"scale_factor": scale_factor, "min_neighbors": min_neighbors}
    exact = {"float32": {"boxes": 0.0, "scores": 0.0}}
    card = {"thresholds": {}, "parity_bounds": exact} | card | settings
    card["window"] = list(cascade.window)

    def add_cascade(scratch):
        opencv_xml.save_opencv_xml(cascade, scratch / CASCADE)
        return _compare(scratch, pictures, settings)

    return write.export(
        cascade_detector(cascade, **settings),
        TASK,
        folder,
        card,
        pictures,
        precisions=(),
        measure=add_cascade,
    )


def pictures_of(windows) -> list:
    """Makes pictures for the parity report that show what was learned, and others.

    Args:
        windows: uint8 `[n, height, width]`, each an object.

    Returns:
        Pictures as `save` takes them.
    """
    import numpy as np

    from mlcvtf.export import write

    # Enlarged, since several sizes of the window have to agree on each.
    tiles = [np.kron(window, np.ones((3, 3), np.uint8)) for window in windows[:4]]
    gray = np.concatenate([np.pad(tile, 12, mode="edge") for tile in tiles], axis=1)
    shown = np.repeat(gray[..., None], 3, axis=-1)
    return [shown, *write.sample_pictures(TASK)]


def _compare(folder, pictures, settings):
    """Counts the pictures that LiteRT and the compiled path answer alike."""
    import cv2
    import numpy as np

    from mlcvtf.detection.viola_jones import load_cascade
    from mlcvtf.detection.viola_jones.model import MAX_DETECTIONS
    from mlcvtf.video import predictor

    cascade = load_cascade(folder / CASCADE)
    runtime = predictor.load(folder, "litert", TASK)
    found = {"pictures": len(pictures), "boxes": 0, "equal": 0}
    for picture in pictures:
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        boxes, scores = cascade.detect_scores(gray, **settings)
        boxes[:, 2:] += boxes[:, :2]
        answer = runtime(picture)
        count = len(answer["scores"])
        found["boxes"] += count
        found["equal"] += bool(
            count == min(len(scores), MAX_DETECTIONS)
            and np.array_equal(answer["boxes"], boxes[:count])
            and np.array_equal(answer["scores"], scores[:count])
        )
    return found


def load(folder: str | pathlib.Path):
    """Loads the compiled path of a model folder; TensorFlow stays out.

    Args:
        folder: that `save` wrote.

    Returns:
        A `Cascade` and the card, in which "window" is the width and height of the
        smallest object.

    Raises:
        InputError: the folder is no such model, or the cascade is not the one in its
            card.
    """
    from mlcvtf.detection.viola_jones import load_cascade

    card = cards.read(folder, TASK)
    path = cards.check_files(folder, card, CASCADE)
    return load_cascade(path), card
