"""Model cards: what a shipped model is, what it needs and what it measured.

A card is `card.json` beside the model's files, and a copy is in the SavedModel's
assets. It is written by the export pipeline, never by hand, and read by the apps.
Standard library only.
"""

import hashlib
import json
import pathlib

from mlcvtf.errors import InputError

REQUIRED = (
    "name",
    "task",
    "labels",
    "input",
    "outputs",
    "thresholds",
    "licence",
    "data",
    "recipe",
    "commit",
    "parameters",
    "figures",
    "files",
)


def read(folder: str | pathlib.Path, task: str | None = None) -> dict:
    """Reads and checks the card of a model folder.

    Args:
        folder: the model folder, which holds `card.json`.
        task: the task that the caller needs, for instance "face_detection".

    Returns:
        The card as a dict with at least the keys of `REQUIRED`.

    Raises:
        InputError: no folder, no card, no JSON, missing keys, or another task.
    """
    path = pathlib.Path(folder) / "card.json"
    if not path.is_file():
        raise InputError(f"a model folder holds a card.json, there is none in {folder}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"a model card is a JSON object, {path} is not: {error}"
        ) from None
    missing = [key for key in REQUIRED if key not in card]
    if missing:
        raise InputError(
            f"a model card has {', '.join(REQUIRED)}; {path} lacks {', '.join(missing)}"
        )
    if task is not None and card["task"] != task:
        raise InputError(
            f"expected a model for {task}, {folder} is one for {card['task']}"
        )
    return card


def write(folder: str | pathlib.Path, card: dict) -> None:
    """Writes `card.json` with the sha256 of every model file under `folder`.

    Args:
        folder: the model folder; its files are complete.
        card: the keys of `REQUIRED` except `files`, which is filled here.

    Raises:
        ValueError: a required key is missing.
    """
    folder = pathlib.Path(folder)
    names = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "card.json"
    )
    card = card | {"files": {name: sha256(folder / name) for name in names}}
    missing = [key for key in REQUIRED if key not in card]
    if missing:
        raise ValueError(f"A card has {REQUIRED}; missing: {missing}")
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(text, encoding="utf-8")
    assets = folder / "saved_model" / "assets"
    if assets.parent.is_dir():
        assets.mkdir(exist_ok=True)
        (assets / "card.json").write_text(text, encoding="utf-8")


def sha256(path: str | pathlib.Path) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: str | pathlib.Path, card: dict, name: str) -> pathlib.Path:
    """Compares files with the card, because a garbled one can crash what reads it.

    Args:
        folder: the model folder.
        card: of it.
        name: of a file, or of a folder with all that is in it.

    Returns:
        Its path.

    Raises:
        InputError: it is not there, the card does not list it, or a file is not the
            one in the card.
    """
    path = pathlib.Path(folder) / name
    if not path.exists():
        raise InputError(f"this model folder holds {name}, there is none in {folder}")
    listed = {
        file: digest
        for file, digest in card["files"].items()
        if file == name or file.startswith(name + "/")
    }
    if not listed:
        raise InputError(f"the card of {folder} must list {name}, it does not")
    for file, digest in listed.items():
        try:
            received = sha256(pathlib.Path(folder) / file)
        except OSError as error:
            raise InputError(
                "a model's files must be readable, "
                f"{pathlib.Path(folder) / file}: {error.strerror}"
            ) from None
        if received != digest:
            raise InputError(
                "a model's files have the SHA-256 in its card, "
                f"{pathlib.Path(folder) / file} has another: it is damaged or was "
                "changed"
            )
    return path
