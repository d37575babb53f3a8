"""Where a picture is: a file, a member of a ZIP archive, or bytes in memory.

Readers list places without opening a picture; the bytes are read when an example is
made. Archives stay open, and each process has its own handles, so that workers that
were forked do not move each other's file positions.
"""

import functools
import io
import os
import pathlib
import warnings
import zipfile
import zlib
from typing import NamedTuple

from PIL import Image

from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import has_picture_suffix

# A damaged or hostile file may unpack to anything; no photograph is this large.
MAX_BYTES = 100_000_000
ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)


class Place(NamedTuple):
    """Where one picture is.

    Attributes:
        path: the file, or the ZIP archive if there is a member; a mere name with data.
        member: name in the archive, or None.
        data: the bytes of the picture's file where it is in memory already, or None.
    """

    path: str
    member: str | None = None
    data: bytes | None = None

    def __str__(self):
        return printable(self.path if self.member is None
                         else f"{self.path}:{self.member}")


class Root:
    """A folder or a ZIP archive in which pictures have names.

    Args:
        path: the folder or the archive.

    Raises:
        InputError: there is neither.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        self.is_folder = os.path.isdir(self.path)
        if not self.is_folder:
            _archive(self.path, os.getpid())

    def place(self, name: str) -> Place:
        """Names a picture, which need not be there: reading it would tell.

        Args:
            name: relative, with "/" between folders; in an archive, also relative to
                a folder that is called as the archive is, as in COCO's own.

        Raises:
            InputError: the name leads out of the folder.
        """
        parts = pathlib.PurePosixPath(name)
        if (not name or parts.is_absolute() or ".." in parts.parts or "\0" in name
                or "\\" in name):
            raise InputError("a picture's name stays in its folder, received "
                             f"{printable(name) or 'an empty one'}")
        if self.is_folder:
            return Place(os.path.join(self.path, name))
        members = _archive(self.path, os.getpid()).NameToInfo
        inner = f"{pathlib.Path(self.path).stem}/{name}"
        return Place(self.path, inner if name not in members and inner in members
                     else name)

    def pictures(self) -> dict[str, Place]:
        """Lists everything in it that has a picture's suffix, by name, sorted.

        Hidden files and folders, and the shadow files of macOS, are left out.
        """
        if self.is_folder:
            root = pathlib.Path(self.path)
            names = [p.relative_to(root).as_posix() for p in root.rglob("*")
                     if has_picture_suffix(p) and p.is_file()]
        else:
            names = [name for name in _archive(self.path, os.getpid()).namelist()
                     if has_picture_suffix(name)]
        return {name: self.place(name) for name in sorted(names)
                if not any(part.startswith((".", "__MACOSX"))
                           for part in name.split("/"))}


def read_bytes(place: Place) -> bytes:
    """Reads the bytes of a picture's file.

    Raises:
        InputError: it is not there, cannot be read, or has over `MAX_BYTES` bytes.
    """
    if place.data is not None:
        return place.data
    try:
        if place.member is None:
            with open(place.path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        else:
            # Not what its directory says is unpacked, but at most so many bytes.
            with _archive(place.path, os.getpid()).open(place.member) as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError, NotImplementedError, KeyError, EOFError, ValueError,
            zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"a picture must be readable, {place}: {reason}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"a picture has at most {MAX_BYTES} bytes, {place} has more")
    return data


def picture_size(place: Place) -> tuple[int, int] | None:
    """Reads the size of a picture from its header.

    Returns:
        Width and height in pixels, upright as its EXIF orientation says, or None if
        the file is not there or is no picture.
    """
    try:
        data = read_bytes(place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            width, height = image.size
            sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
    except Exception:
        # Readers of headers raise whatever strange bytes lead them to. What is wrong
        # is said when the picture itself is read.
        return None
    return (height, width) if sideways else (width, height)


@functools.lru_cache(maxsize=64)
def _archive(path, process):
    """Opens an archive once per process."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError("pictures come from a folder or a ZIP archive, "
                         f"{printable(path)} is neither: {reason}") from None
