"""The gallery's cache: one file of plain arrays that several processes may share.

Layout: a line that names format and version, the SHA-256 of all that follows, then
NumPy arrays in `.npy` form (never pickle), in the order of `_arrays`. A reader needs
no lock, because the file is replaced whole by a rename. A writer holds the lock from
reading what others wrote to the rename, so nothing that was written is lost.
Standard library and NumPy only.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import pathlib
import time
from collections.abc import Container
from typing import NamedTuple

import numpy as np

CACHE = ".mlcvtf_gallery.cache"
LOCK = ".mlcvtf_gallery.lock"
# One fixed name: only the holder of the lock writes it, and what a killed process
# left behind is overwritten by the next.
TEMPORARY = ".mlcvtf_gallery.tmp"
MAGIC = b"mlcvtf gallery cache 1\n"
DIGEST = 32
LOCK_SECONDS = 10.0


class CacheError(Exception):
    """Says why a cache cannot be used; the message completes "the cache ..."."""


class FileRecord(NamedTuple):
    """What a picture's file was when its content was read.

    Attributes:
        size: bytes.
        time: of the last modification, in nanoseconds.
        inode: the file's number in its file system, 63 bits.
        digest: SHA-256 of the content, 32 bytes.
    """

    size: int
    time: int
    inode: int
    digest: bytes


class Picture(NamedTuple):
    """What a picture's content is to a model.

    Attributes:
        reason: why it cannot be used; empty if it can.
        vector: float32 `[d]`, the embedding of its one face; None if there is a reason.
    """

    reason: str
    vector: np.ndarray | None


class Cache(NamedTuple):
    """What the file holds.

    Attributes:
        model_hash: the models that the vectors come from.
        files: path inside the gallery -> record.
        pictures: SHA-256 of the content -> picture.
    """

    model_hash: str
    files: dict[str, FileRecord]
    pictures: dict[bytes, Picture]

    def existing(
        self, folder: str | os.PathLike, listed: Container[str] = ()
    ) -> "Cache":
        """Returns the cache without files that are gone, and what was only in them.

        Args:
            folder: the gallery.
            listed: paths that are known to be there.
        """
        files = {
            path: record
            for path, record in self.files.items()
            if path in listed or os.path.lexists(os.path.join(folder, path))
        }
        digests = {record.digest for record in files.values()}
        pictures = {d: p for d, p in self.pictures.items() if d in digests}
        return Cache(self.model_hash, files, pictures)


def read(folder: str | os.PathLike) -> Cache | None:
    """Reads the cache of a gallery.

    Args:
        folder: the gallery.

    Returns:
        The cache; None if there is no such file.

    Raises:
        CacheError: the file cannot be read, is damaged or of another version.
    """
    try:
        data = (pathlib.Path(folder) / CACHE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(f"cannot be read ({error.strerror})") from None
    start = len(MAGIC) + DIGEST
    if not data.startswith(MAGIC):
        raise CacheError("is damaged or of another version (first line)")
    if hashlib.sha256(data[start:]).digest() != data[len(MAGIC) : start]:
        raise CacheError("is damaged (checksum)")
    file = io.BytesIO(data[start:])
    model, paths, stats, file_digests, digests, reasons, vectors = (
        np.load(file, allow_pickle=False) for _ in range(7)
    )
    rows = zip(stats.tolist(), _rows(file_digests), strict=True)
    files = (FileRecord(*numbers, digest) for numbers, digest in rows)
    reasons = _split(reasons)
    usable = iter(vectors)
    pictures = (
        Picture(reason.decode(), None if reason else next(usable)) for reason in reasons
    )
    return Cache(
        model.tobytes().decode(),
        dict(zip(map(os.fsdecode, _split(paths)), files, strict=True)),
        dict(zip(_rows(digests), pictures, strict=True)),
    )


def write(folder: str | os.PathLike, cache: Cache) -> None:
    """Replaces the cache of a gallery; the caller holds the lock.

    After a crash at any moment the old file or the new one is there, whole.

    Args:
        folder: the gallery.
        cache: what to write.

    Raises:
        OSError: the folder cannot be written.
    """
    file = io.BytesIO()
    for array in _arrays(cache):
        np.save(file, array, allow_pickle=False)
    payload = file.getvalue()
    folder = pathlib.Path(folder)
    temporary = folder / TEMPORARY
    try:
        replace_file(
            temporary, folder / CACHE, MAGIC, hashlib.sha256(payload).digest(), payload
        )
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def prune(folder: str | os.PathLike) -> None:
    """Takes the vectors of deleted pictures out of the cache, of whatever model.

    Args:
        folder: the gallery.

    Raises:
        OSError: the folder cannot be written.
    """
    with locked(folder):
        try:
            cache = read(folder)
        except CacheError:
            # Nobody can say what is in it.
            (pathlib.Path(folder) / CACHE).unlink()
            return
        if cache is not None:
            write(folder, cache.existing(folder))


def replace_file(temporary: pathlib.Path, path: pathlib.Path, *parts: bytes) -> None:
    """Writes a file whole or not at all.

    Args:
        temporary: where it is written first, in the same folder; overwritten.
        path: the file's final place; replaced.
        parts: the content.

    Raises:
        OSError: a file cannot be written; `temporary` may be left.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: pathlib.Path) -> None:
    """Makes renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot do this for folders.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(folder: str | os.PathLike, seconds: float = LOCK_SECONDS):
    """Holds the gallery's lock, which the system releases when a process dies.

    Args:
        folder: the gallery.
        seconds: how long to wait for another holder.

    Raises:
        OSError: the folder cannot be written, or the lock was not free in time.
    """
    path = pathlib.Path(folder) / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        _wait(descriptor, seconds)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor, seconds):
    """Takes the lock or raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    None, f"locked by another process for {seconds:g} s"
                ) from None
        time.sleep(0.01)


def _arrays(cache):
    """Returns the arrays of the file in their order."""
    stats = [record[:3] for record in cache.files.values()]
    vectors = [p.vector for p in cache.pictures.values() if p.vector is not None]
    return (
        _text(cache.model_hash.encode()),
        _joined(map(os.fsencode, cache.files)),
        np.array(stats, np.int64).reshape(-1, 3),
        _text(b"".join(record.digest for record in cache.files.values())),
        _text(b"".join(cache.pictures)),
        _joined(picture.reason.encode() for picture in cache.pictures.values()),
        np.array(vectors, np.float32),
    )


def _text(data):
    return np.frombuffer(data, np.uint8)


def _joined(parts):
    """Packs byte strings, each ended by a NUL, which neither paths nor reasons hold."""
    return _text(b"".join(part + b"\0" for part in parts))


def _split(array):
    return array.tobytes().split(b"\0")[:-1]


def _rows(array):
    """Cuts an array of bytes into digests."""
    data = array.tobytes()
    return [data[i : i + DIGEST] for i in range(0, len(data), DIGEST)]
