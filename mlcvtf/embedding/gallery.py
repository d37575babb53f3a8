"""The gallery: people as a folder of pictures, their vectors kept, their names found.

`gallery_folder` says what is a person and what is a picture, `gallery_cache` how
vectors are kept between runs and shared between processes, `search` how names are
found. Here they meet: look at the folder, read only what changed, embed only what no
run has embedded before, and keep it.

A picture's vector is kept under the SHA-256 of its content, so a moved or renamed
picture is not embedded again; and a file is not even read again while its size, time
of modification and inode stay.
"""

import hashlib
import math
import os
import pathlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mlcvtf.embedding import gallery_cache, gallery_folder, gallery_picture
from mlcvtf.embedding.gallery_cache import FileRecord, Picture
from mlcvtf.embedding.search import Index, Match
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable

POLL_SECONDS = 1.0
# How long a poll may embed before the next frame has its turn.
POLL_BUDGET = 0.05
POLL_LOCK_SECONDS = 0.2
SAVE_SECONDS = 2.0


@dataclass
class Changes:
    """What a look at the gallery found, with paths inside the gallery, printable.

    Attributes:
        added: pictures whose face is searched now and was not, or was another.
        removed: pictures whose face is no longer searched.
        problems: one line for each picture that cannot be used, `path: reason`, if
            the look before did not say so.
        notes: lines about the gallery as a whole, each said once.
        hashed: number of files that were read.
        embedded: number of pictures that went through the models.
        pending: number of pictures that wait for the next look.
    """

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hashed: int = 0
    embedded: int = 0
    pending: int = 0


class Gallery:
    """Names for faces, by the people in a folder.

    One thread looks (`refresh`, `poll`); `search` may run in another meanwhile.

    Args:
        folder: the gallery; see `gallery_folder` for its rules.
        embed_picture: takes a picture, uint8 `[height, width, 3]` RGB, and returns
            the number of faces found and, if it is one, its vector, float32 `[d]` of
            unit norm (None if it cannot be embedded).
        model_hash: identifies what `embed_picture` does; vectors that were kept under
            another hash are not used.

    Attributes:
        problems: path inside the gallery, printable -> why it cannot be used.
        ignored: paths inside the gallery, printable, that are no pictures by name.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        embed_picture: gallery_picture.EmbedPicture,
        model_hash: str,
    ):
        self.folder = pathlib.Path(folder)
        self.problems: dict[str, str] = {}
        self.ignored: list[str] = []
        self._embed_picture = embed_picture
        self._model_hash = model_hash
        self._files: dict[str, FileRecord] = {}
        self._pictures: dict[bytes, Picture] = {}
        self._listed: dict[str, gallery_folder.Entry] = {}
        self._usable: dict[str, tuple[str, bytes]] = {}
        self._index = Index([], np.empty((0, 0)))
        self._cache_signature = None
        self._unsaved = False
        self._save_due = self._look_due = -math.inf
        self._said: set[str] = set()

    @property
    def names(self) -> list[str]:
        """The people who have at least one usable picture, sorted."""
        return list(self._index.people)

    @property
    def counts(self) -> dict[str, int]:
        """Person -> number of different usable pictures."""
        return dict(zip(self._index.people, self._index.counts.tolist(), strict=True))

    def enrolled(self, scoring: str = "nearest") -> int:
        """With how many vectors a face is compared; see `calibration.threshold`."""
        return self._index.enrolled(scoring)

    def search(
        self, vectors, threshold: float, margin: float = 0.0, scoring: str = "nearest"
    ) -> list[Match]:
        """Names faces by their vectors; see `search.Index.search`."""
        return self._index.search(vectors, threshold, margin, scoring)

    def refresh(
        self,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Changes:
        """Brings the gallery up to date with its folder, however long it takes.

        Args:
            full: read every file, even if size, time and inode say it is unchanged.
            progress: called after each file that was read, with how many were read
                and how many are to be read.

        Raises:
            InputError: the folder cannot be read, or not one face in it can be used.
        """
        changes = self.update(full, progress)
        self.require_faces()
        return changes

    def update(
        self,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Changes:
        """Does what `refresh` does, but a gallery without any face is no error.

        Raises:
            InputError: the folder cannot be read.
        """
        return self._look(full, progress, math.inf, gallery_cache.LOCK_SECONDS)

    def poll(self) -> Changes | None:
        """Looks for changes as often as is worth while; call it once a frame.

        New pictures are embedded a few at a time, so that a video goes on. A picture
        that is still being written is waited for, and a folder that cannot be read
        any more, or is empty, is a note and no error.

        Returns:
            What changed; None if the last look was less than a second ago.
        """
        if time.monotonic() < self._look_due:
            return None
        try:
            changes = self._look(False, None, POLL_BUDGET, POLL_LOCK_SECONDS)
        except InputError as error:
            changes = Changes()
            self._say(changes, f"{error}; the faces known so far are kept")
            self._look_due = time.monotonic() + POLL_SECONDS
            return changes
        if not self._usable and not changes.pending:
            self._say(changes, "the gallery has no face left, everyone is unknown")
        return changes

    def require_faces(self) -> None:
        """Raises `InputError` unless one face can be searched."""
        if self._usable:
            return
        bad = [f"{path} ({reason})" for path, reason in self.problems.items()]
        first = "; ".join(bad[:3]) + ("; ..." if len(bad) > 3 else "")
        raise InputError(
            f"a gallery needs a picture with one face, {printable(self.folder)} has "
            + (f"{len(bad)} and none can be used: {first}" if bad else "no picture")
        )

    def examine(self, data: bytes) -> Picture:
        """Embeds a picture that is in memory, as it would be in the gallery.

        Args:
            data: content of the picture's file.

        Returns:
            Its vector, or the reason why a gallery cannot use it.
        """
        digest = hashlib.sha256(data).digest()
        if digest not in self._pictures:
            self._pictures[digest], _ = gallery_picture.embed(data, self._embed_picture)
        return self._pictures[digest]

    def owners(self, data: bytes) -> list[str]:
        """Returns the people who have exactly this picture, usable, in the gallery."""
        digest = hashlib.sha256(data).digest()
        return sorted(
            {name for name, other in self._usable.values() if other == digest}
        )

    def _look(self, full, progress, seconds, lock_seconds):
        """Looks at the folder, for about so many seconds of embedding."""
        changes = Changes()
        listing = gallery_folder.scan(self.folder)
        self._listed = listing.pictures
        self._absorb(changes)
        # While a video runs, a picture that is still being written can wait.
        patient = seconds < math.inf
        problems = dict(listing.problems)
        todo = [p for p in listing.pictures if full or not self._is_current(p)]
        start = time.monotonic()
        self._look_due = start + POLL_SECONDS
        try:
            for number, path in enumerate(todo):
                if number and time.monotonic() > start + seconds:
                    changes.pending += len(todo) - number
                    # The rest goes on with the next frame.
                    self._look_due = start
                    break
                self._read(path, problems, patient, changes)
                if progress:
                    progress(number + 1, len(todo))
                if time.monotonic() > self._save_due:
                    self._save(changes, lock_seconds)
        finally:
            # Also when interrupted: what was embedded is not embedded again.
            self._prune()
            if self._unsaved:
                self._save(changes, lock_seconds)
        self._enrol(problems, changes)
        self.ignored = [printable(path) for path in listing.ignored]
        return changes

    def _is_current(self, path):
        """Says whether a file is as it was when its content was read."""
        record = self._files.get(path)
        if record is None or record.digest not in self._pictures:
            return False
        return record[:3] == self._listed[path].signature

    def _read(self, path, problems, patient, changes):
        """Reads one file and embeds its picture unless its content is known."""
        try:
            data, signature, fresh = gallery_picture.read(self.folder / path)
        except FileNotFoundError:
            self._forget(path)
            return
        except (OSError, InputError) as error:
            self._forget(path)
            problems[path] = getattr(error, "strerror", None) or str(error)
            return
        changes.hashed += 1
        digest = hashlib.sha256(data).digest()
        if digest not in self._pictures:
            picture, whole = gallery_picture.embed(data, self._embed_picture)
            changes.embedded += whole
            if not whole and fresh:
                # Perhaps half of a picture: not to be remembered as a bad one.
                if patient:
                    changes.pending += 1
                else:
                    self._forget(path)
                    problems[path] = picture.reason
                return
            self._pictures[digest] = picture
        record = FileRecord(*signature, digest)
        self._unsaved |= record != self._files.get(path)
        self._files[path] = record

    def _forget(self, path):
        """Drops what is known of a file."""
        self._unsaved |= self._files.pop(path, None) is not None

    def _enrol(self, problems, changes):
        """Makes the people of the listing the ones that are searched."""
        read = {
            path: (entry.name, self._files[path].digest)
            for path, entry in self._listed.items()
            if path in self._files and path not in problems
        }
        owners: dict[bytes, set[str]] = {}
        for name, digest in read.values():
            owners.setdefault(digest, set()).add(name)
        usable = {}
        for path, (name, digest) in read.items():
            others = sorted(owners[digest] - {name})
            if self._pictures[digest].reason:
                problems[path] = self._pictures[digest].reason
            elif others:
                # It would make both people unknown, and one of them is not in it.
                problems[path] = f"the same picture shows {' and '.join(others)} too"
            else:
                usable[path] = (name, digest)
        before = self._usable
        changes.added = [printable(p) for p in usable if usable[p] != before.get(p)]
        changes.removed = [printable(p) for p in before if p not in usable]
        shown = {printable(path): problems[path] for path in sorted(problems)}
        changes.problems = [
            f"{path}: {reason}"
            for path, reason in shown.items()
            if self.problems.get(path) != reason
        ]
        self.problems, self._usable = shown, usable
        if changes.added or changes.removed:
            # Copies of a picture count once.
            pairs = list(dict.fromkeys(usable.values()))
            vectors = [self._pictures[digest].vector for _, digest in pairs]
            names = [name for name, _ in pairs]
            self._index = Index(names, vectors if pairs else np.empty((0, 0)))

    def _absorb(self, changes):
        """Takes over what the cache holds, unless that was read or written here."""
        try:
            path = self.folder / gallery_cache.CACHE
            signature = gallery_folder.signature(os.stat(path))
        except OSError:
            signature = None
        if signature == self._cache_signature:
            return
        self._cache_signature = signature
        try:
            theirs = gallery_cache.read(self.folder)
        except gallery_cache.CacheError as error:
            self._say(changes, f"the gallery's cache {error}: it is built again")
            self._unsaved = True
            return
        if theirs is not None and theirs.model_hash != self._model_hash:
            # Not written at once: two processes with two models would never stop.
            self._say(
                changes, "the gallery's cache is of another model: it is built again"
            )
        elif theirs is not None:
            self._files = theirs.files | self._files
            self._pictures = theirs.pictures | self._pictures

    def _prune(self):
        """Forgets files that are gone, and the faces that were only in them."""
        known = len(self._files)
        _, self._files, self._pictures = self._existing()
        self._unsaved |= len(self._files) < known

    def _existing(self):
        """Returns what is known of files that are there."""
        # Another process may have listed a file since we looked, or kept one that is
        # gone now; what is in our listing needs no second look.
        cache = gallery_cache.Cache(self._model_hash, self._files, self._pictures)
        return cache.existing(self.folder, self._listed)

    def _save(self, changes, lock_seconds):
        """Merges with the cache on disk and replaces it; a failure is only a note."""
        start = time.monotonic()
        try:
            with gallery_cache.locked(self.folder, lock_seconds):
                self._absorb(changes)
                gallery_cache.write(self.folder, self._existing())
                path = self.folder / gallery_cache.CACHE
                self._cache_signature = gallery_folder.signature(os.stat(path))
            self._unsaved = False
        except OSError as error:
            self._say(
                changes,
                f"the gallery's cache cannot be written ({error.strerror}): new faces "
                "are embedded again at the next start",
            )
        now = time.monotonic()
        # Writing takes at most a twentieth of a long enrolment.
        self._save_due = now + max(SAVE_SECONDS, 20 * (now - start))

    def _say(self, changes, note):
        """Adds a note that was not said before."""
        if note not in self._said:
            self._said.add(note)
            changes.notes.append(note)
