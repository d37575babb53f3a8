"""Fitted samples on disk: decoded once, read again by later epochs and trainings.

Plain arrays in one NumPy file per sample, never pickled. The name of a file is a hash
of all that its contents depend on, so that nothing has to be declared out of date: what
changes is found under another name.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import sys
import tempfile
import zipfile

import cv2
import numpy as np
import PIL

from mlcvtf.data.places import read_bytes
from mlcvtf.data.records import Record
from mlcvtf.data.samples import Sample
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

# Of what a sample is made by; to be raised with what decoding and fitting give.
FORMAT = 1


class SampleCache:
    """Keeps samples in a folder, by what they are made of.

    Several processes may share it: a file appears whole or not at all. A damaged file
    is as none. Where the disk is full or the folder cannot be written any more, a line
    on stderr says so and samples are made anew. Files of former contents stay until the
    folder is deleted.

    Args:
        folder: made if missing.
        settings: JSON values that a sample depends on besides its record.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict):
        self.folder = pathlib.Path(folder)
        versions = [FORMAT, cv2.__version__, PIL.__version__]
        self._settings = json.dumps([versions, settings], sort_keys=True).encode()
        self._keys, self._writes = {}, True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"a cache is a folder that can be written, {printable(folder)}: "
                f"{error.strerror}"
            ) from None

    def key(self, record: Record) -> str:
        """Hashes what a sample is made of: settings, annotation and files' contents.

        Raises:
            InputError: a file cannot be read.
        """
        digest = hashlib.sha256(self._settings)
        for name, value in zip(Record._fields, record, strict=True):
            if name in ("image", "mask", "pair"):
                data = b"" if value is None else read_bytes(value)
            elif isinstance(value, np.ndarray):
                data = f"{value.dtype} {value.shape}".encode() + value.tobytes()
            else:
                # Segmentations are nested lists of numbers, or dicts of such.
                data = json.dumps(value, sort_keys=True, default=_plain).encode()
            # Lengths, or the end of one field could be the beginning of the next.
            digest.update(f"{name} {len(data)} ".encode() + data)
        return digest.hexdigest()

    def get(self, index: int, record: Record) -> Sample | None:
        """Reads a sample; None where there is none.

        Args:
            index: of the record. Its files are read and hashed once by this object: one
                that changes while it is in use is found by the next one.
            record: whose sample.

        Raises:
            InputError: a file of the record cannot be read.
        """
        if index not in self._keys:
            self._keys[index] = self.key(record)
        try:
            with np.load(self._path(index), allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        if "label" in found:
            found["label"] = int(found["label"])
        try:
            return Sample(**found)
        except TypeError:
            return None

    def put(self, index: int, sample: Sample) -> None:
        """Writes the sample of a record that `get` was asked for."""
        if not self._writes:
            return
        path = self._path(index)
        arrays = {k: v for k, v in sample._asdict().items() if v is not None}
        try:
            path.parent.mkdir(exist_ok=True)
            number, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            try:
                with open(number, "wb") as file:
                    np.savez(file, **arrays)
                os.replace(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
        except OSError as error:
            self._writes = False
            print(
                f"the cache {printable(self.folder)} cannot be written any more: "
                f"{error.strerror}; going on without",
                file=sys.stderr,
            )

    def _path(self, index):
        key = self._keys[index]
        return self.folder / key[:2] / f"{key}.npz"


def _plain(value):
    """Gives JSON what NumPy numbers, arrays and bytes hold."""
    if isinstance(value, bytes):
        return value.hex()
    return np.asarray(value).tolist()
