"""Recognises the form of a folder with a data set and reads all its parts."""

import itertools
import os
import pathlib

from mlcvtf.data import coco, folders, tables, voc, yolo
from mlcvtf.data.archives import read_table
from mlcvtf.data.records import RecordSet
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import has_picture_suffix

FORMATS = {
    "coco": "JSON files with images, annotations and categories",
    "voc": "XML files, beside the pictures or in Annotations/",
    "yolo": "text files, beside the pictures or in labels/",
    "masks": "images/ and masks/, or NAME.zip and NAME_masks.zip",
    "table": "NAME.csv with the columns file and class, and NAME.zip or NAME/",
    "classes": "one folder of pictures per class",
}
MASK_FOLDERS = ("masks", "labels", "annotations")
MASK_ARCHIVES = ("_masks", "_labels")
# Enough to tell whose text files these are.
LOOKED_AT = 2000


def recognise(folder: str | os.PathLike) -> str:
    """Says in which of `FORMATS` a folder is, by the files that are in it.

    Raises:
        InputError: there is no such folder, or it is in none.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"a data set is a folder, {printable(folder)} is none")
    try:
        if _coco_files(folder):
            return "coco"
        if _has(folder, "*.xml") or _has(folder / "Annotations", "*.xml"):
            return "voc"
        if _is_yolo(folder):
            return "yolo"
        if _mask_parts(folder):
            return "masks"
        if _table_parts(folder):
            return "table"
        if any(has_picture_suffix(path) for path in folder.glob("*/**/*")):
            return "classes"
    except OSError as error:
        raise InputError(f"a data set must be readable, {printable(folder)}: "
                         f"{error.strerror}") from None
    forms = "; ".join(f"{name} ({what})" for name, what in FORMATS.items())
    raise InputError(f"a data set is in one of these forms: {forms}; "
                     f"{printable(folder)} is in none")


def read_folder(folder: str | os.PathLike, form: str) -> dict[str, RecordSet]:
    """Reads the parts of a data set, such as train and val.

    Args:
        folder: the data set.
        form: one of `FORMATS`.

    Returns:
        Record sets by name of the part; one that is called "all" where the form has
        no parts.

    Raises:
        InputError: there is no such folder, or what is in it is not of this form.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"a data set is a folder, {printable(folder)} is none")
    readers = {
        "voc": lambda: {"all": voc.read_voc(folder)},
        "yolo": lambda: {"all": yolo.read_yolo(folder)},
        "classes": lambda: {"all": folders.read_class_folders(folder)},
        "coco": lambda: _read_coco(folder),
        "masks": lambda: {name: folders.read_masks(images, masks)
                          for name, images, masks in _mask_parts(folder)},
        "table": lambda: {name: tables.read_class_table(table, images)
                          for name, table, images in _table_parts(folder)},
    }
    parts = readers[form]()
    if not parts:
        raise InputError(f"the form {form} is: {FORMATS[form]}; {printable(folder)} "
                         "has none")
    return parts


def _read_coco(folder):
    """Reads the instance files; captions and panoptic ones beside them are no error."""
    candidates = _coco_files(folder) or sorted(folder.glob("*.json"))
    parts = {}
    for path in candidates:
        content = coco.read_json(path)
        if coco.is_coco(content):
            parts[path.stem] = coco.parse_coco(content, path)
    return parts


def _coco_files(folder):
    """Lists JSON files that mention what COCO's do; a whole parse takes longer."""
    files = [path for place in (folder, folder / "annotations")
             for path in sorted(place.glob("*.json")) if path.is_file()]
    found = []
    for path in files:
        with open(path, "rb") as file:
            data = file.read(coco.MAX_BYTES)
        if b'"images"' in data and b'"annotations"' in data:
            found.append(path)
    return found


def _is_yolo(folder):
    if any((folder / name).is_file() for name in yolo.NAME_TABLES):
        return True
    if any(True for _ in (folder / "labels").glob("**/*.txt")):
        return True
    pictures = (path for path in folder.rglob("*") if has_picture_suffix(path))
    return any(path.with_suffix(".txt").is_file()
               for path in itertools.islice(pictures, LOOKED_AT))


def _mask_parts(folder):
    """Lists (name, pictures, masks) of folders or archives that belong together."""
    if (folder / "images").is_dir():
        for name in MASK_FOLDERS:
            if any(has_picture_suffix(p) for p in (folder / name).rglob("*")):
                return [("all", folder / "images", folder / name)]
    parts = []
    for images in sorted(folder.glob("*.zip")):
        for ending in MASK_ARCHIVES:
            masks = folder / f"{images.stem}{ending}.zip"
            if masks.is_file():
                parts.append((images.stem, images, masks))
    return parts


def _table_parts(folder):
    """Lists (name, table, pictures) of tables that have pictures."""
    parts = []
    for table in sorted(folder.glob("*.csv")):
        images = [place for place in (table.with_suffix(".zip"), table.with_suffix(""))
                  if place.exists()]
        if images and {"file", "class"} <= set(next(iter(read_table(table)), {})):
            parts.append((table.stem, table, images[0]))
    return parts


def _has(folder, pattern):
    return next(folder.glob(pattern), None) is not None
