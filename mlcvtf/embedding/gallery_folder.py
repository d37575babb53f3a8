"""The gallery as a folder: who is in it, putting people in, taking people out.

Rules:

- A folder in the gallery is a person, named by the folder; every picture in it and in
  its sub-folders shows that person. A picture directly in the gallery is a person
  named by the file without its suffix. Names are compared in Unicode's NFC form, so
  "Zoë" typed in two ways is one person, and so are `Zoë/` and `Zoë.jpg`.
- A picture is a regular file with the suffix of a picture. Other files are ignored.
- Names that begin with a dot are hidden: ignored, whatever they are.
- Links to pictures, and links to folders directly in the gallery, are followed.
  Links to folders further down are not: they may run in circles.
- A name whose bytes are not UTF-8 is shown with U+FFFD in their place.
- The cache, its lock and pictures that are being added are hidden files.
"""

import contextlib
import os
import pathlib
import stat
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from mlcvtf.embedding import gallery_cache
from mlcvtf.embedding.search import UNKNOWN
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import SUFFIXES

LONGEST_NAME = 255
STAGING = ".mlcvtf_gallery.adding"


class Signature(NamedTuple):
    """What tells without reading that a file is as it was: size, time and inode."""

    size: int
    time: int
    inode: int


class Entry(NamedTuple):
    """A picture of a person.

    Attributes:
        name: the person.
        signature: of the file that the picture is in.
    """

    name: str
    signature: Signature


class Listing(NamedTuple):
    """What is in a gallery's folder.

    Attributes:
        pictures: path inside the gallery -> entry, sorted by path.
        problems: path inside the gallery -> why what is there cannot be used.
        ignored: paths inside the gallery that are no pictures by their names.
    """

    pictures: dict[str, Entry]
    problems: dict[str, str]
    ignored: list[str]


def signature(status: os.stat_result) -> Signature:
    """Returns the signature of a file from its status."""
    # 63 bits of the inode, so that it fits the cache's signed numbers.
    return Signature(status.st_size, status.st_mtime_ns, status.st_ino & (2**63 - 1))


def person_name(name: str) -> str:
    r"""Returns the name that a folder's or a file's name stands for.

    >>> person_name("Zoe\u0308")
    'Zoë'
    """
    return unicodedata.normalize("NFC", printable(name))


def is_picture_name(name: str) -> bool:
    """Says whether a file's name is a picture's.

    >>> is_picture_name("Ada.JPG"), is_picture_name("Ada.txt"), is_picture_name(".jpg")
    (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in SUFFIXES


def scan(folder: str | os.PathLike) -> Listing:
    """Lists the pictures of a gallery without opening any.

    Args:
        folder: the gallery.

    Raises:
        InputError: the gallery is no readable folder.
    """
    listing = Listing({}, {}, [])
    owners: dict[str, str] = {}
    for item in _listed(folder):
        is_folder = _is_folder(item)
        if not is_folder and not is_picture_name(item.name):
            listing.ignored.append(item.name)
            continue
        raw = _stem(item)
        name = person_name(raw)
        if name == UNKNOWN:
            listing.problems[item.name] = f"the name {UNKNOWN} is kept for strangers"
        elif "\ufffd" in name and owners.setdefault(name, raw) != raw:
            # Two people whose names only differ in undecodable bytes: not one person.
            listing.problems[item.name] = f"another name is shown as {name} too"
        elif is_folder:
            _scan_person(listing, item.path, item.name, name)
        else:
            _add_picture(listing, item, item.name, name)
    return listing


def check_name(name: str) -> str:
    """Returns a person's name as it is written, if it can be the name of a folder.

    Args:
        name: what the user typed.

    Returns:
        The name in NFC form.

    Raises:
        InputError: it is empty, hidden, a path, too long, not text or reserved.
    """
    written = unicodedata.normalize("NFC", name)
    rules = {
        "is not empty": bool(written.strip()),
        "has no blanks at its ends": written == written.strip(),
        "is text without control characters": written == printable(written),
        "has no / and no \\": not set(written) & set("/\\"),
        "does not begin with a dot": not written.startswith("."),
        f"has at most {LONGEST_NAME} bytes": len(os.fsencode(written)) <= LONGEST_NAME,
        f"is not {UNKNOWN}": written != UNKNOWN,
    }
    for rule, kept in rules.items():
        if not kept:
            raise InputError(f"a person's name {rule}, received '{printable(name)}'")
    return written


def add_pictures(
    folder: str | os.PathLike, name: str, pictures: Iterable[tuple[str, bytes]]
) -> list[str]:
    """Writes pictures into the folder of a person, all or none.

    The gallery and the person's folder are made where they are missing. A picture
    never replaces one that is there: it gets a number behind its name.

    Args:
        folder: the gallery.
        name: the person, as `check_name` returns it.
        pictures: file name and content of each picture.

    Returns:
        The paths inside the gallery that were written.

    Raises:
        InputError: the gallery cannot be written.
    """
    folder = pathlib.Path(folder)
    try:
        folder.mkdir(exist_ok=True)
        with gallery_cache.locked(folder):
            return _add_locked(folder, name, pictures)
    except OSError as error:
        raise InputError(
            f"the gallery must be writable to add a picture, {printable(folder)}: "
            f"{error.strerror}"
        ) from None


def remove_person(folder: str | os.PathLike, name: str) -> tuple[int, list[str]]:
    """Deletes the pictures of a person, the folders that are empty then, the vectors.

    Nothing outside the gallery is touched: of a link the link is deleted. What is
    no picture stays.

    Args:
        folder: the gallery.
        name: the person.

    Returns:
        How many pictures and links were deleted, and the paths of what stays.

    Raises:
        InputError: nobody has that name, or something cannot be deleted.
    """
    found = [item for item in _listed(folder) if _names(item, name)]
    if not found:
        raise InputError(
            f"a person to remove is in the gallery, '{printable(name)}' is not in "
            f"{printable(folder)}"
        )
    exact = [item for item in found if _stem(item) == name]
    if "\ufffd" in person_name(name) and exact:
        # The others only look the same.
        found = exact
    deleted, left = 0, []
    try:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                number, others = _remove_folder(item.path)
                deleted += number
                left += [f"{item.name}/{other}" for other in others]
            else:
                os.unlink(item.path)
                deleted += 1
        gallery_cache.prune(folder)
    except OSError as error:
        raise InputError(
            f"the gallery must be writable to remove a person, "
            f"{printable(error.filename or folder)}: {error.strerror}"
        ) from None
    return deleted, left


def _listed(folder):
    """Returns what is visible in the gallery itself, sorted by name."""
    try:
        with os.scandir(folder) as items:
            return sorted(_visible(items), key=lambda item: item.name)
    except OSError as error:
        raise InputError(
            f"a gallery is a folder with a folder of pictures per person, "
            f"{printable(folder)}: {error.strerror}"
        ) from None


def _visible(items):
    return (item for item in items if not item.name.startswith("."))


def _scan_person(listing, folder, inside, name):
    """Adds the pictures in a folder of a person, and in its sub-folders."""
    try:
        with os.scandir(folder) as items:
            items = sorted(_visible(items), key=lambda item: item.name)
    except FileNotFoundError:
        return
    except OSError as error:
        listing.problems[inside] = f"the folder cannot be read ({error.strerror})"
        return
    for item in items:
        path = f"{inside}/{item.name}"
        if item.is_dir(follow_symlinks=False):
            _scan_person(listing, item.path, path, name)
        elif not is_picture_name(item.name):
            listing.ignored.append(path)
        else:
            _add_picture(listing, item, path, name)


def _add_picture(listing, item, path, name):
    """Adds one file that is a picture by its name."""
    try:
        status = item.stat()
    except FileNotFoundError:
        # A file that was deleted just now is no problem, a dead link is one.
        if item.is_symlink():
            listing.problems[path] = "a link to a file that is not there"
        return
    except OSError as error:
        listing.problems[path] = f"it cannot be read ({error.strerror})"
        return
    if stat.S_ISREG(status.st_mode):
        listing.pictures[path] = Entry(name, signature(status))
    else:
        # A pipe or a device would block whoever opens it.
        listing.ignored.append(path)


def _names(item, name):
    """Says whether an item of the gallery's folder is the person or a picture of it."""
    if not _is_folder(item) and not is_picture_name(item.name):
        return False
    return person_name(_stem(item)) == person_name(name)


def _stem(item):
    return item.name if _is_folder(item) else pathlib.PurePath(item.name).stem


def _is_folder(item):
    """Says whether an item is a folder or a link to one."""
    try:
        return item.is_dir()
    except OSError:
        # A link that runs in circles or leads where nothing may be read.
        return False


def _add_locked(folder, name, pictures):
    """Stages the pictures beside the person's folder, then moves them in."""
    staging = folder / STAGING
    # What a killed process left: only the holder of the lock stages.
    _clear(staging)
    staging.mkdir()
    try:
        target = _person_folder(folder, name)
        staged = {}
        for filename, data in pictures:
            path = _free_name(target, filename, staged)
            gallery_cache.replace_file(staging / "writing", staging / path.name, data)
            staged[path.name] = path
        if not target.exists():
            # One rename: either the person is there with all pictures or not at all.
            staging.rename(target)
        else:
            _move(staging, staged)
        gallery_cache.sync_folder(folder)
    finally:
        _clear(staging)
    return [f"{target.name}/{name}" for name in staged]


def _move(staging, staged):
    """Moves staged pictures to their places; none of them if one fails."""
    moved = []
    try:
        for name, path in staged.items():
            os.rename(staging / name, path)
            moved.append(path)
    except OSError:
        for path in moved:
            path.unlink()
        raise


def _person_folder(folder, name):
    """Returns the folder that the person has already, or the one it gets."""
    for item in _listed(folder):
        if _is_folder(item) and _names(item, name):
            return folder / item.name
    return folder / name


def _free_name(target, filename, staged):
    """Returns a path in the person's folder that nothing has yet."""
    path, number = target / filename, 1
    while path.name in staged or os.path.lexists(path):
        number += 1
        plain = pathlib.PurePath(filename)
        path = target / f"{plain.stem}-{number}{plain.suffix}"
    return path


def _clear(staging):
    """Deletes the staging folder with its files, if it is there."""
    if staging.is_dir():
        for path in staging.iterdir():
            path.unlink()
        staging.rmdir()


def _remove_folder(folder):
    """Deletes pictures below a folder and empty folders; never follows a link.

    Returns:
        The number of deleted pictures, and paths below `folder` of what stays.
    """
    deleted, left, visited = 0, [], []
    for root, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        visited.append(root)
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders) - {*links, *hidden})
        for name in sorted({*files, *links, *hidden}):
            if is_picture_name(name) and not name.startswith("."):
                os.unlink(name, dir_fd=descriptor)
                deleted += 1
            else:
                left.append(os.path.relpath(os.path.join(root, name), folder))
    for root in reversed(visited):
        with contextlib.suppress(OSError):
            # Fails where something stays.
            os.rmdir(root)
    return deleted, left
