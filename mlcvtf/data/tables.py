"""A CSV table beside pictures in a ZIP archive or a folder: one row per picture."""

import os
from collections.abc import Sequence

from mlcvtf.data.archives import read_table
from mlcvtf.data.places import Root
from mlcvtf.data.records import Record, RecordSet, dense_labels
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable


def read_class_table(table: str | os.PathLike, images: str | os.PathLike,
                     picture: str = "file", label: str = "class",
                     names: Sequence[str] | None = None) -> RecordSet:
    """Reads a table of pictures and classes.

    Args:
        table: CSV in UTF-8 with a header line.
        images: folder or ZIP archive with the pictures.
        picture: column with the picture's name.
        label: column with the name of its class.
        names: all classes in order; the ones that occur, sorted, by default.

    Returns:
        Records with a label, in the order of the table.

    Raises:
        InputError: a file is not there, or lacks a column or value.
    """
    rows = _rows(table, (picture, label))
    root = Root(images)
    classes = [row[label] for row in rows]
    names, number = dense_labels(classes, names, printable(table))
    return RecordSet(
        [Record(root.place(row[picture]), label=number[row[label]]) for row in rows],
        names, "label")


def read_mask_table(table: str | os.PathLike, images: str | os.PathLike,
                    masks: str | os.PathLike, picture: str = "file",
                    mask: str = "label", names: Sequence[str] = ()) -> RecordSet:
    """Reads a table of pictures and masks.

    Args:
        table: CSV in UTF-8 with a header line.
        images: folder or ZIP archive with the pictures.
        masks: folder or ZIP archive with the masks.
        picture: column with the picture's name.
        mask: column with the mask's name.
        names: name of the mask's value i at position i, as far as known.

    Returns:
        Records with a mask, in the order of the table.

    Raises:
        InputError: a file is not there, or lacks a column or value.
    """
    rows = _rows(table, (picture, mask))
    root, mask_root = Root(images), Root(masks)
    return RecordSet(
        [Record(root.place(row[picture]), mask=mask_root.place(row[mask]))
         for row in rows], tuple(names), "mask")


def _rows(table, columns):
    rows = read_table(table)
    if not rows:
        raise InputError(f"a table has rows, {printable(table)} has none")
    missing = [name for name in columns if name not in rows[0]]
    if missing:
        raise InputError(f"the table has the columns {', '.join(columns)}, "
                         f"{printable(table)} lacks {', '.join(missing)}")
    for number, row in enumerate(rows, start=2):
        if not all(row[name] for name in columns):
            raise InputError(f"a row has {' and '.join(columns)}, row {number} of "
                             f"{printable(table)} has not")
    return rows
