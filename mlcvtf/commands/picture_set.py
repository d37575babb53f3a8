"""Pictures of a ZIP archive or a folder by name, and the embedding of each.

What face_verify and the face benchmarks share.
"""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import decode_picture

# A damaged or hostile archive may unpack to anything; no photograph is this large.
MAX_BYTES = 100_000_000


class PictureSet:
    """Reads pictures by name from a ZIP archive or a folder.

    Args:
        path: the archive or the folder.

    Raises:
        InputError: there is neither.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = pathlib.Path(path)
        self._archive = None
        if self._path.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"pictures come from a folder or a ZIP archive, "
                             f"{printable(path)} is neither: {reason}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._archive is not None:
            self._archive.close()

    def require(self, names: Iterable[str]) -> None:
        """Makes sure that all pictures are there, without reading them.

        Raises:
            InputError: some are not, or a name leads out of the folder.
        """
        if self._archive is not None:
            missing = sorted(set(names) - set(self._archive.namelist()))
        else:
            missing = sorted(name for name in set(names) if not self._is_inside(name))
        if missing:
            raise InputError(
                f"every picture must be in {printable(self._path)}, {len(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not: {printable(missing[0])}"
                f"{' ...' if missing[1:] else ''}")

    def read(self, name: str) -> np.ndarray:
        """Decodes a picture.

        Returns:
            uint8 `[height, width, 3]` RGB.

        Raises:
            InputError: it cannot be read, is too large, damaged or no picture.
        """
        try:
            data = self._bytes(name)
        except (OSError, RuntimeError, NotImplementedError, KeyError, EOFError,
                ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"a picture must be readable, {printable(name)} in "
                             f"{printable(self._path)}: {error}") from None
        if len(data) > MAX_BYTES:
            raise InputError(f"a picture has at most {MAX_BYTES} bytes, "
                             f"{printable(name)} in {printable(self._path)} has more")
        return decode_picture(data, printable(name))

    def _bytes(self, name):
        if self._archive is None:
            with open(self._path / name, "rb") as file:
                return file.read(MAX_BYTES + 1)
        # Not what its directory says is unpacked, but at most so many bytes.
        with self._archive.open(name) as file:
            return file.read(MAX_BYTES + 1)

    def _is_inside(self, name):
        parts = pathlib.PurePath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            return False
        return (self._path / name).is_file()


class Embedded(NamedTuple):
    """Pictures as embeddings.

    Attributes:
        vectors: name to float32 `[d]` of unit norm.
        without_face: names of the pictures in which no face was found.
        with_several: names of the pictures in which several were.
    """

    vectors: dict
    without_face: list
    with_several: list


def embed(pictures: PictureSet, names: Iterable[str], pipeline,
          skipped: dict | None = None) -> Embedded:
    """Embeds the face of each picture.

    A picture is embedded whole where no face is found; of several faces it is the one
    whose centre is nearest to the picture's.

    Args:
        pictures: where they are.
        names: which to embed; each is read once.
        pipeline: a `face_pipeline.FacePipeline`.
        skipped: gets the name of each picture that cannot be used, to the reason; None
            stops at the first one.

    Raises:
        InputError: a picture is missing, damaged or too large, and `skipped` is None.
    """
    import tqdm

    names = list(dict.fromkeys(names))
    if skipped is None:
        pictures.require(names)
    result = Embedded({}, [], [])
    # disable=None: shown on a terminal only.
    for name in tqdm.tqdm(names, unit="picture", leave=False, disable=None):
        try:
            if skipped is not None:
                # What leads out of the folder is not read here, either.
                pictures.require([name])
            image = pictures.read(name)
        except InputError as error:
            if skipped is None:
                raise
            skipped[name] = str(error)
            continue
        faces = pipeline.detect(image)
        if len(faces.boxes) > 1:
            result.with_several.append(name)
        vector = None
        if len(faces.boxes):
            index = most_central(faces.boxes, image.shape)
            vector = pipeline.embed(image, faces.landmarks[index:index + 1])[0]
        else:
            result.without_face.append(name)
        if vector is None or not vector.any():
            vector = pipeline.embed_whole(image)
        result.vectors[name] = vector
    return result


def most_central(boxes: np.ndarray, shape) -> int:
    """Returns which box's centre is nearest to the centre of a picture.

    Args:
        boxes: float `[n, 4]` xyxy in pixels, n >= 1.
        shape: height and width of the picture first.

    >>> most_central(np.array([[0, 0, 20, 20], [40, 40, 70, 70]]), (100, 100))
    1
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle = np.array([shape[1], shape[0]]) / 2
    return int(np.argmin(np.sum((centres - middle) ** 2, axis=1)))
