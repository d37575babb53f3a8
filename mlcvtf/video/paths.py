"""File names as users have them: printable text, and paths that OpenCV survives."""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator

# FFmpeg reads "a:b" as a protocol and OpenCV reads "%02d" as a picture sequence.
PLAIN = re.compile(rb"/[A-Za-z0-9 _./,+=@()\[\]-]*")


def printable(path: str | bytes | os.PathLike) -> str:
    r"""Returns a path or name as text that can be printed on one line.

    Args:
        path: a name; bytes that are not UTF-8, also as the surrogates that Python
            makes of them, become U+FFFD, and control characters "?".

    >>> printable(b"caf\xe9.jpg")
    'caf\ufffd.jpg'
    """
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


@contextlib.contextmanager
def opencv_path(path: str | bytes | os.PathLike) -> Iterator[str]:
    """Gives a name for a file that OpenCV and FFmpeg take as it stands.

    An undecodable name crashes OpenCV, so a file with anything but a plain name is
    reached through a link with a clean one in a temporary folder, which is there as
    long as the context.

    Args:
        path: the file, which need not exist yet.

    Yields:
        An absolute path to the same file with the same suffix.
    """
    absolute = os.path.abspath(os.fsencode(path))
    if PLAIN.fullmatch(absolute):
        yield absolute.decode("ascii")
        return
    suffix = pathlib.PurePosixPath(printable(absolute)).suffix
    suffix = suffix if re.fullmatch(r"\.[A-Za-z0-9]+", suffix) else ""
    with tempfile.TemporaryDirectory(prefix="mlcvtf-") as folder:
        link = os.path.join(folder, f"file{suffix}")
        os.symlink(absolute, os.fsencode(link))
        yield link
