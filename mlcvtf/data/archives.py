"""Pictures in ZIP archives beside a CSV table, as the project's data sets are packed.

NumPy and OpenCV only, so that recipes read the same arrays on every backend.
"""

import csv
import pathlib
import zipfile

import numpy as np

from mlcvtf.errors import InputError


def read_table(path: str | pathlib.Path) -> list[dict[str, str]]:
    """Reads a CSV file with a header line into one dict per row.

    Raises:
        InputError: the file is not there, or is no CSV in UTF-8.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"expected a CSV table at {path}, there is none")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"a table is CSV in UTF-8, {path} is not: {error}") from None


def read_pictures(path: str | pathlib.Path, names=None) -> dict[str, np.ndarray]:
    """Decodes the pictures of a ZIP archive.

    Args:
        path: the archive.
        names: members to read; all JPEG and PNG members by default.

    Returns:
        Name to uint8 RGB `[height, width, 3]`.

    Raises:
        InputError: no such archive, a name that is not in it, or a picture that
            does not decode.
    """
    import cv2

    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"expected a ZIP archive at {path}, there is none")
    pictures = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        if names is None:
            names = [
                m for m in members if m.lower().endswith((".jpg", ".jpeg", ".png"))
            ]
        missing = set(names) - set(members)
        if missing:
            raise InputError(
                f"{path} lacks {len(missing)} pictures: {min(missing)} ..."
            )
        for name in names:
            data = np.frombuffer(archive.read(name), np.uint8)
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
            if picture is None:
                raise InputError(f"{path}: {name} is not a picture that decodes")
            pictures[name] = np.ascontiguousarray(picture[..., ::-1])
    return pictures
