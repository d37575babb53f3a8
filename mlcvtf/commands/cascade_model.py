"""The folder of a model of a cascade: written by training, read by programs.

It has `cascade.xml`, as OpenCV 4 reads it, which the compiled path runs without
TensorFlow, and the card.
"""

import os
import pathlib
import shutil
import tempfile

from mlcvtf import card as cards
from mlcvtf.errors import InputError

TASK = "cascade_detection"
CASCADE = "cascade.xml"


def save(cascade, folder, card: dict) -> dict:
    """Writes a cascade as a model folder, whole or not at all.

    Args:
        cascade: a `Cascade`.
        folder: to write; an older model folder is replaced in the end.
        card: labels (one, what is detected), licence, data, recipe and figures.

    Returns:
        The card as written.

    Raises:
        InputError: the card lacks a key or has not one label, or there is something
            else than a model folder.
    """
    from mlcvtf.detection.viola_jones import opencv_xml
    from mlcvtf.export import write

    if len(card.get("labels", ())) != 1:
        raise InputError(
            "the card of a cascade has one label, what it detects, received "
            f"{len(card.get('labels', ()))}"
        )
    folder = pathlib.Path(folder)
    if folder.exists() and not (folder / "card.json").is_file():
        raise InputError(
            f"the output is a new folder or a model folder to replace, {folder} is "
            "something else"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
    )
    try:
        opencv_xml.save_opencv_xml(cascade, scratch / CASCADE)
        cards.write(
            scratch,
            {"thresholds": {}}
            | card
            | {
                "name": folder.name,
                "task": TASK,
                "commit": write.commit(),
                "input": {"name": "image", "dtype": "uint8", "shape": [None, None, 3]},
                "outputs": {},
                "parameters": len(cascade.features) + len(cascade.leaves),
                "window": list(cascade.window),
            },
        )
        scratch.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cards.read(folder, TASK)


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
    path = pathlib.Path(folder) / CASCADE
    if CASCADE not in card["files"] or not path.is_file():
        raise InputError(
            f"a model of a cascade holds {CASCADE}, there is none in {folder}"
        )
    if cards.sha256(path) != card["files"][CASCADE]:
        raise InputError(
            f"a model's files have the SHA-256 in its card, {path} has another: it is "
            "damaged or was changed"
        )
    return load_cascade(path), card
