"""One picture of a gallery: its file while others may write it, and its one face."""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlcvtf.embedding import gallery_folder
from mlcvtf.embedding.gallery_cache import Picture
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import decode_picture

# A picture that cannot be decoded may still be on its way until it is this old.
FRESH_SECONDS = 1.0
# A file that is written twice within its file system's tick keeps its time. Ticks
# are under 20 ms, or up to 2 s where times have no fraction of a second.
FINE_TICK = 0.02
COARSE_TICK = 2.0
MAX_BYTES = 2**30

EmbedPicture = Callable[[np.ndarray], tuple[int, np.ndarray | None]]


class Content(NamedTuple):
    """What was in a file, and how sure that is.

    Attributes:
        data: the bytes.
        signature: of the file. Its time is -1, which no file has, if the file may
            change without a trace, so that it is read again at the next look.
        fresh: whether the file may still be on its way.
    """

    data: bytes
    signature: gallery_folder.Signature
    fresh: bool


def read(path: str | os.PathLike) -> Content:
    """Reads a picture's file.

    Raises:
        OSError: it cannot be read; `FileNotFoundError` if it is gone.
        InputError: it is too large to be a picture.
    """
    with open(path, "rb") as file:
        before = gallery_folder.signature(os.fstat(file.fileno()))
        data = file.read(MAX_BYTES + 1)
        steady = before == gallery_folder.signature(os.fstat(file.fileno()))
    if len(data) > MAX_BYTES:
        raise InputError(f"a picture has at most {MAX_BYTES} bytes, this one has more")
    age = abs(time.time() - before.time / 1e9)
    if not steady or age < (FINE_TICK if before.time % 10**9 else COARSE_TICK):
        return Content(data, before._replace(time=-1), True)
    return Content(data, before, age < FRESH_SECONDS)


def embed(data: bytes, embed_picture: EmbedPicture) -> tuple[Picture, bool]:
    """Embeds the one face of a picture.

    Args:
        data: content of the picture's file.
        embed_picture: as of `gallery.Gallery`.

    Returns:
        The picture's vector, or the reason why a gallery cannot use it; and whether
        the picture could be decoded.
    """
    try:
        image = decode_picture(data, "this one")
    except InputError as error:
        return Picture(printable(str(error)), None), False
    faces, vector = embed_picture(image)
    if faces != 1:
        found = "none was found" if faces == 0 else f"{faces} were found"
        return Picture(f"a gallery picture shows one face, {found}", None), True
    if vector is None or not np.isfinite(vector).all():
        return Picture("the face in it cannot be aligned", None), True
    return Picture("", np.array(vector, np.float32)), True
