"""Folders and ZIP archives of motion capture."""

import io
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import asf, bvh
from mlcvtf.segmentation.body_parts.mocap import Motion
from mlcvtf.video.paths import printable

MAX_BYTES = 50_000_000


def recordings(source: str | os.PathLike) -> Iterator[tuple[str, Motion]]:
    """Reads all recordings of a folder or ZIP archive.

    Args:
        source: a ZIP archive, or a folder of BVH files, or of AMC files and the ASF
            skeletons in the same folders, in any nesting; or of such ZIP archives.

    Yields:
        Subject and name in one ("02/02_03"), and the motion. The subject is the name
        of the ASF file, for BVH that of the source's folder.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    source = pathlib.Path(os.path.abspath(source))
    files = _list(source)
    owner = source.name if source.is_dir() else source.parent.name
    folders = {}
    for name in files:
        if name.lower().endswith(".asf"):
            if folders.setdefault(os.path.dirname(name), name) != name:
                raise InputError(
                    "a folder has one ASF skeleton, "
                    f"{printable(os.path.dirname(name))} has more"
                )
    skeletons = {}
    found = False
    for name in sorted(files):
        stem, suffix = os.path.splitext(os.path.basename(name))
        if suffix.lower() == ".bvh":
            found = True
            yield f"{owner}/{stem}", bvh.read_bvh(files[name](), printable(name))
        elif suffix.lower() == ".amc":
            found = True
            skeleton = folders.get(os.path.dirname(name))
            if skeleton is None:
                raise InputError(
                    "an AMC file has its ASF skeleton beside it, "
                    f"{printable(name)} has none"
                )
            if skeleton not in skeletons:
                skeletons[skeleton] = asf.read_asf(
                    files[skeleton](), printable(skeleton)
                )
            subject = os.path.splitext(os.path.basename(skeleton))[0]
            yield (
                f"{subject}/{stem}",
                asf.read_amc(files[name](), skeletons[skeleton], printable(name)),
            )
    if not found:
        raise InputError(
            "motion capture is BVH, or AMC with ASF, in a folder or ZIP "
            f"archive, {printable(source)} has none"
        )


def _list(source):
    """Returns a function that reads the text of each file, by name."""
    files = {}
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            suffix = path.suffix.lower()
            if suffix in (".asf", ".amc", ".bvh") and path.is_file():
                files[str(path)] = _reader(path.open, path, "rb")
            elif suffix == ".zip" and path.is_file():
                files |= _list(path)
        return files
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            "motion capture is in a folder or a ZIP archive, "
            f"{printable(source)} is neither: {reason}"
        ) from None
    for member in archive.namelist():
        if member.lower().endswith((".asf", ".amc", ".bvh")):
            name = f"{source}/{member}"
            files[name] = _reader(archive.open, name, member)
    return files


def _reader(opener, name, *arguments):
    def read():
        try:
            with opener(*arguments) as file:
                # What is unpacked, not what the archive's directory says, counts.
                data = file.read(MAX_BYTES + 1)
        except (
            OSError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(
                f"motion capture must be readable, {printable(name)}: {reason}"
            ) from None
        if len(data) > MAX_BYTES:
            raise InputError(
                f"motion capture has at most {MAX_BYTES} bytes, "
                f"{printable(name)} has more"
            )
        return io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace").read()

    return read
