"""Reads still pictures: every format to RGB uint8, and never more than is safe.

Pictures are read as bytes and decoded by Pillow, so that no file name reaches a
decoder, a truncated picture is an error and the size is known before any pixel is.
"""

import io
import os
import pathlib
import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

MAX_PIXELS = 100_000_000
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .webp .tif .tiff .gif .ppm .pgm .pnm .jp2".split()
)


def has_picture_suffix(path: str | bytes | os.PathLike) -> bool:
    """Says whether a file name ends as the names of pictures do.

    >>> has_picture_suffix("Ada.JPG"), has_picture_suffix("notes.txt")
    (True, False)
    """
    return pathlib.PurePosixPath(printable(path)).suffix.lower() in SUFFIXES


def read_picture(path: str | bytes | os.PathLike) -> np.ndarray:
    """Reads a picture file.

    Args:
        path: the file; its name need not be UTF-8 nor its suffix true.

    Returns:
        uint8 `[height, width, 3]` RGB, upright as its EXIF orientation says.

    Raises:
        InputError: the file cannot be read, is no picture, is cut, or has more than
            `MAX_PIXELS` pixels.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(
            f"a picture must be a readable file, {printable(path)}: {error.strerror}"
        ) from None
    return decode_picture(data, printable(path))


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decodes a picture that is in memory.

    Grey becomes three equal channels, 16 bits become 8 by scaling, and what is
    transparent shows white, as in a viewer. Of an animation it is the first frame.

    Args:
        data: the bytes of the picture's file.
        name: what to call the picture in messages.

    Returns:
        uint8 `[height, width, 3]` RGB, upright as its EXIF orientation says.

    Raises:
        InputError: the data are no picture, are cut, or describe more than
            `MAX_PIXELS` pixels.
    """
    with warnings.catch_warnings():
        # Pillow warns of large pictures from 89 Mpx on; the limit here is ours.
        warnings.simplefilter("ignore")
        image = _open(data, name)
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(name, f"{image.width}x{image.height}")
        try:
            image.load()
            # In place, for otherwise Pillow copies a picture that is upright already.
            ImageOps.exif_transpose(image, in_place=True)
            return np.ascontiguousarray(_to_rgb(image))
        except Exception as error:
            # Decoders raise whatever broken bytes lead them to: OSError, SyntaxError,
            # ValueError, struct.error, zlib.error and more.
            raise InputError(
                f"a picture must be whole, {name} is truncated or damaged "
                f"({_one_line(error)})"
            ) from None


def is_picture(file: BinaryIO) -> bool:
    """Says whether an open file begins as a picture does, whatever its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.open(file)
        except Image.DecompressionBombError:
            return True
        except Exception:
            # Readers of headers raise whatever strange bytes lead them to.
            return False
    return True


def _open(data, name):
    """Returns a Pillow image of which only the header was read."""
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError:
        # Raised from the header, at twice this size.
        raise _too_large(name, f"over {2 * Image.MAX_IMAGE_PIXELS}") from None
    except Exception:
        raise InputError(
            f"a picture must be a whole JPEG, PNG or other file that Pillow reads, "
            f"{name} ({len(data)} bytes) is not"
        ) from None


def _too_large(name, size):
    return InputError(
        f"a picture may have at most {MAX_PIXELS} pixels, {name} has {size}"
    )


def _to_rgb(image):
    """Converts a loaded Pillow image of any mode to an RGB array."""
    if image.mode.startswith("I"):
        # Pillow clips these to 0..255 instead of scaling them.
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        grey = ((grey + 128) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
