"""Sets without annotation files: a folder per class, masks, pairs of pictures.

Where a folder is asked for, a ZIP archive does as well.
"""

import os
import pathlib
from collections.abc import Sequence

from mlcvtf.data.places import Root
from mlcvtf.data.records import Record, RecordSet, dense_labels
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

# What may follow a picture's name in the name of its mask.
ENDINGS = ("", "_mask", "_label", "_labels", "_gt", "_inst", "_L")


def read_class_folders(root: str | os.PathLike,
                       names: Sequence[str] | None = None) -> RecordSet:
    """Reads pictures whose folder is their class.

    Args:
        root: one sub-folder per class; deeper ones belong to it.
        names: all classes in order; the folders' names, sorted, by default.

    Returns:
        Records with a label, sorted by name.

    Raises:
        InputError: no such folder, no pictures, one that is in no sub-folder, or a
            folder that is not among `names`.
    """
    pictures = Root(root).pictures()
    loose = [name for name in pictures if "/" not in name]
    if not pictures or loose:
        raise InputError(
            f"a set by class has one folder per class, {printable(root)} has "
            + (f"{printable(loose[0])} in none" if loose else "no pictures"))
    classes = [name.split("/")[0] for name in pictures]
    names, number = dense_labels(classes, names, printable(root))
    return RecordSet(
        [Record(place, label=number[name])
         for name, place in zip(classes, pictures.values(), strict=True)],
        names, "label")


def read_masks(images: str | os.PathLike, masks: str | os.PathLike,
               names: Sequence[str] = ()) -> RecordSet:
    """Reads pictures and their masks, which are called alike.

    Args:
        images: folder or archive with the pictures.
        masks: folder or archive with the masks: the picture's name with any suffix,
            also with an ending such as `_mask` or `_label` (`ENDINGS`).
        names: name of the mask's value i at position i, as far as known.

    Returns:
        Records with a mask, sorted by name; the mask is None where there is none.

    Raises:
        InputError: no such folder, or no pictures.
    """
    found = _partners(images, masks, "mask")
    return RecordSet([Record(image, mask=mask) for image, mask in found], tuple(names),
                     "mask")


def read_pairs(images: str | os.PathLike, partners: str | os.PathLike) -> RecordSet:
    """Reads pictures and what each is to become, which are called alike.

    Args:
        images: folder or archive with the pictures.
        partners: folder or archive with the other picture of each pair.

    Returns:
        Records with a pair, sorted by name; the pair is None where there is none.

    Raises:
        InputError: no such folder, or no pictures.
    """
    found = _partners(images, partners, "partner")
    return RecordSet([Record(image, pair=pair) for image, pair in found], (), "pair")


def _partners(images, partners, what):
    """Lists the place of each picture with that of its partner or None."""
    pictures = Root(images).pictures()
    if not pictures:
        raise InputError(f"a set has pictures, {printable(images)} has none")
    others = {}
    for name, place in Root(partners).pictures().items():
        stem = pathlib.PurePosixPath(name).with_suffix("").as_posix()
        if stem in others:
            raise InputError(f"a picture has one {what}, {printable(partners)} has "
                             f"two called {printable(stem)}")
        others[stem] = place
    return [(place, _partner(name, others)) for name, place in pictures.items()]


def _partner(name, others):
    stem = pathlib.PurePosixPath(name).with_suffix("").as_posix()
    return next((others[stem + ending] for ending in ENDINGS
                 if stem + ending in others), None)
