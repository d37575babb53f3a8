"""The folder of a model of body parts: written by training, read by programs.

Beside the runtimes of every model folder (`mlcvtf.export.write`) it has `forest.npz`,
plain arrays, which the compiled path reads without TensorFlow; the card has what was
learned about joints.
"""

import pathlib

from mlcvtf import card as cards
from mlcvtf.errors import InputError

TASK = "body_parts"
FOREST = "forest.npz"


def save_model(
    forest,
    joints,
    names,
    folder,
    card: dict,
    pictures=None,
    formats: tuple[str, ...] = ("saved_model", "litert"),
) -> dict:
    """Exports a forest and its joints as a model folder, whole or not at all.

    Args:
        forest: `forest.Forest`.
        joints: `joints.JointModel`.
        names: of the joints.
        folder: to write; an older model folder is replaced in the end.
        card: labels (one for each part), licence, data, recipe and figures.
        pictures: depth, float32 `[height, width]` in metres each, for the parity
            report; made ones by default.
        formats: as of `mlcvtf.export.write.export`.

    Returns:
        The card as written.

    Raises:
        InputError: the card lacks a key or has not a label for each part, or there is
            something else than a model folder.
    """
    from mlcvtf.export import write
    from mlcvtf.segmentation.body_parts import forest as forests
    from mlcvtf.segmentation.body_parts.forest_model import forest_model
    from mlcvtf.segmentation.body_parts.joints import to_card

    labels = card.get("labels", ())
    if len(labels) != forest.classes:
        raise InputError(
            f"a card has a label for each of the {forest.classes} parts, received "
            f"{len(labels)}"
        )
    card = {"thresholds": {}} | card | {"joints": to_card(joints, names)}

    def add_forest(scratch):
        forests.save(forest, scratch / FOREST)
        return {
            "trees": len(forest.roots),
            "splits": len(forest.offsets),
            "depth": forest.depth,
            "bytes": forest.size,
        }

    return write.export(
        forest_model(forest),
        TASK,
        folder,
        card,
        pictures,
        formats,
        precisions=(),
        measure=add_forest,
    )


def load_model(folder: str | pathlib.Path, threads: int = 2):
    """Loads the compiled path of a model folder; TensorFlow stays out.

    Args:
        folder: that `save_model` wrote.
        threads: that share a picture's pixels.

    Returns:
        `compiled_forest.CompiledForest`, `joints.JointModel` and the card.

    Raises:
        InputError: the folder is no such model, or a file is not the one in its card.
    """
    from mlcvtf.segmentation.body_parts import forest as forests
    from mlcvtf.segmentation.body_parts.compiled_forest import CompiledForest
    from mlcvtf.segmentation.body_parts.joints import from_card

    card = cards.read(folder, TASK)
    path = cards.check_files(folder, card, FOREST)
    forest = forests.load(path)
    joints = from_card(card.get("joints", []), forest.classes)
    return CompiledForest(forest, threads), joints, card
