"""The gallery on real files: what is read, embedded, kept, noticed and reported."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mlcvtf.embedding import gallery as gallery_module
from mlcvtf.embedding import gallery_cache, gallery_picture
from mlcvtf.embedding.gallery import Gallery
from mlcvtf.errors import InputError

OPENED = None


def note_open(event, arguments):
    if event == "open" and OPENED is not None:
        OPENED.append(str(arguments[0]))


sys.addaudithook(note_open)


@contextlib.contextmanager
def opened_pictures():
    """Yields a list that gets the picture files that Python opens."""
    global OPENED
    OPENED, pictures = [], []
    try:
        yield pictures
    finally:
        pictures += [path for path in OPENED if path.lower().endswith((".png", ".jpg"))]
        OPENED = None


def vector_of(number):
    vector = np.random.default_rng(number).normal(size=8).astype(np.float32)
    return vector / np.linalg.norm(vector)


class FakeModel:
    """Takes the number of faces and who it is from the picture's first pixel."""

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        faces, high, low = (int(value) for value in image[0, 0])
        self.seen.append(256 * high + low)
        if faces != 1:
            return faces, None
        return 1, None if high == 255 else vector_of(256 * high + low)


def picture(number, faces=1, side=8):
    image = np.full((side, side, 3), 128, np.uint8)
    image[0, 0] = faces, number // 256, number % 256
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def put(folder, path, data, age=60.0):
    """Writes a file with a time of modification in the past, in seconds."""
    target = os.path.join(os.fsencode(folder), os.fsencode(path))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(data)
    if age:
        then = time.time_ns() - int(age * 1e9)
        os.utime(target, ns=(then, then))
    return target


def start(folder, model_hash="model"):
    """Opens a gallery as a new process would; returns it, its changes and its model."""
    model = FakeModel()
    gallery = Gallery(folder, model, model_hash)
    return gallery, gallery.update(), model


def name_of(gallery, number):
    return gallery.search([vector_of(number)], 0.99)[0].name


@pytest.fixture
def folder(tmp_path):
    """Three people: Ada with two pictures, Bob with one, Eve as a single file."""
    folder = tmp_path / "gallery"
    put(folder, "Ada/1.png", picture(1))
    put(folder, "Ada/2.png", picture(2))
    put(folder, "Bob/1.png", picture(3))
    put(folder, "Eve.png", picture(4))
    return folder


def test_first_start_embeds_everything(folder):
    gallery, changes, model = start(folder)
    assert gallery.names == ["Ada", "Bob", "Eve"]
    assert gallery.counts == {"Ada": 2, "Bob": 1, "Eve": 1}
    assert gallery.enrolled() == 4 and gallery.enrolled("centroid") == 3
    assert changes.added == ["Ada/1.png", "Ada/2.png", "Bob/1.png", "Eve.png"]
    assert changes.problems == changes.notes == changes.removed == []
    assert (changes.hashed, changes.embedded, changes.pending) == (4, 4, 0)
    names = [name_of(gallery, number) for number in range(6)]
    assert names == ["unknown", "Ada", "Ada", "Bob", "Eve", "unknown"]


def test_second_start_of_a_thousand_opens_no_picture(tmp_path):
    for number in range(1000):
        put(tmp_path, f"person {number % 100}/{number}.png", picture(number))
    put(tmp_path, "person 0/empty.png", picture(0, faces=0))
    first, changes, _ = start(tmp_path)
    assert changes.embedded == 1001
    with opened_pictures() as opened:
        second, changes, model = start(tmp_path)
    assert opened == [] and model.seen == []
    assert changes.hashed == changes.embedded == 0
    assert second.counts == first.counts and len(second.names) == 100
    # What is bad is said at every start, without looking at it again.
    assert changes.problems == [
        "person 0/empty.png: a gallery picture shows one face, none was found"
    ]
    queries = [vector_of(number) for number in range(1000)]
    matches = second.search(queries, 0.99)
    assert [m.name for m in matches] == [f"person {n % 100}" for n in range(1000)]


def test_full_reads_what_only_looks_unchanged(folder):
    gallery, _, model = start(folder)
    path = folder / "Bob/1.png"
    before = path.stat()
    assert len(picture(9)) == len(picture(3))
    path.write_bytes(picture(9))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_ino == before.st_ino
    with opened_pictures() as opened:
        assert gallery.update().hashed == 0
    assert opened == [] and name_of(gallery, 3) == "Bob"
    with opened_pictures() as opened:
        changes = gallery.update(full=True)
    assert len(opened) == changes.hashed == 4
    assert changes.embedded == 1 and changes.added == ["Bob/1.png"]
    assert name_of(gallery, 9) == "Bob" and name_of(gallery, 3) == "unknown"


def test_touched_moved_and_copied_pictures_are_not_embedded_again(folder):
    start(folder)
    os.utime(folder / "Ada/1.png")
    (folder / "Bob/1.png").rename(folder / "Bob/first.png")
    shutil.copy(folder / "Eve.png", folder / "Eve copy.png")
    (folder / "Eve.png").unlink()
    gallery, changes, model = start(folder)
    assert model.seen == [] and changes.hashed >= 2
    assert name_of(gallery, 3) == "Bob" and name_of(gallery, 4) == "Eve copy"


def test_only_new_pictures_are_embedded(folder):
    start(folder)
    put(folder, "Bob/2.png", picture(7))
    put(folder, "Ada/2.png", picture(8))
    (folder / "Eve.png").unlink()
    gallery, changes, model = start(folder)
    assert sorted(model.seen) == [7, 8]
    assert gallery.counts == {"Ada": 2, "Bob": 2}
    assert name_of(gallery, 2) == "unknown" and name_of(gallery, 8) == "Ada"


def test_refresh_tells_what_changed(folder):
    gallery, _, _ = start(folder)
    put(folder, "Ada/2.png", picture(8))
    put(folder, "Dan/1.png", picture(9))
    (folder / "Eve.png").unlink()
    changes = gallery.refresh()
    assert changes.added == ["Ada/2.png", "Dan/1.png"]
    assert changes.removed == ["Eve.png"]
    assert gallery.refresh() == gallery_module.Changes()


def test_removed_faces_leave_the_cache(folder):
    gallery, _, _ = start(folder)
    vector = vector_of(4).tobytes()
    assert vector in (folder / gallery_cache.CACHE).read_bytes()
    (folder / "Eve.png").unlink()
    gallery.update()
    assert vector not in (folder / gallery_cache.CACHE).read_bytes()


BAD = {
    "none.png": (picture(20, faces=0), "shows one face, none was found"),
    "three.png": (picture(21, faces=3), "shows one face, 3 were found"),
    "flat.png": (picture(65280), "cannot be aligned"),
    "text.jpg": (b"no picture at all", r"whole JPEG, PNG .* \(17 bytes\) is not"),
    "empty.jpg": (b"", r"\(0 bytes\) is not"),
    "cut.png": (picture(22, side=64)[:-40], "truncated or damaged"),
    "pixel.png": (picture(0, faces=0, side=1), "none was found"),
}


def test_bad_pictures_get_a_line_each_and_the_rest_goes_on(folder):
    for name, (data, _) in BAD.items():
        put(folder, f"Mixed/{name}", data)
    put(folder, "Mixed/good.png", picture(30))
    gallery, changes, _ = start(folder)
    assert name_of(gallery, 30) == "Mixed" and gallery.counts["Mixed"] == 1
    assert len(changes.problems) == len(BAD) == len(gallery.problems)
    for name, (_, reason) in BAD.items():
        with pytest.raises(InputError, match=reason):
            raise InputError(gallery.problems[f"Mixed/{name}"])
    assert all("\n" not in line and "Mixed/" in line for line in changes.problems)
    # Said once; at the next start again, from the cache, in the same words.
    assert gallery.update().problems == []
    _, again, model = start(folder)
    assert again.problems == changes.problems and model.seen == []


def test_picture_over_100_megapixels_is_refused_from_its_header(folder):
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    put(folder, "Big/1.png", file.getvalue())
    gallery, changes, model = start(folder)
    assert "at most 100000000 pixels" in gallery.problems["Big/1.png"]
    assert "Big" not in gallery.names and len(model.seen) == 4


def test_file_over_a_gibibyte_is_refused(folder, monkeypatch):
    monkeypatch.setattr(gallery_picture, "MAX_BYTES", 1000)
    put(folder, "Big/1.png", picture(9) + bytes(1000))
    gallery, _, _ = start(folder)
    assert "at most 1000 bytes" in gallery.problems["Big/1.png"]
    assert gallery.names == ["Ada", "Bob", "Eve"]


def test_without_one_usable_face_it_is_an_error(tmp_path):
    gallery = Gallery(tmp_path, FakeModel(), "model")
    with pytest.raises(InputError, match="has no picture"):
        gallery.refresh()
    for number in range(5):
        put(tmp_path, f"Bob/{number}.png", picture(number, faces=0))
    with pytest.raises(InputError) as caught:
        Gallery(tmp_path, FakeModel(), "model").refresh()
    message = str(caught.value)
    assert "has 5 and none can be used" in message and "Bob/0.png (" in message
    assert "\n" not in message and len(message) < 500
    put(tmp_path, "Bob/6.png", picture(6))
    assert gallery.refresh().added == ["Bob/6.png"]


def test_missing_gallery_is_an_error(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file"):
        Gallery(tmp_path / "nowhere", FakeModel(), "model").refresh()
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="file: Not a directory"):
        Gallery(file, FakeModel(), "model").refresh()


def test_same_picture_of_two_people_is_used_for_neither(folder):
    put(folder, "Bob/copy.png", picture(1))
    gallery, changes, _ = start(folder)
    assert changes.problems == [
        "Ada/1.png: the same picture shows Bob too",
        "Bob/copy.png: the same picture shows Ada too",
    ]
    assert name_of(gallery, 1) == "unknown" and name_of(gallery, 2) == "Ada"
    (folder / "Bob/copy.png").unlink()
    assert gallery.update().added == ["Ada/1.png"]
    assert name_of(gallery, 1) == "Ada" and gallery.problems == {}


def test_same_picture_twice_counts_once(folder):
    put(folder, "Ada/again.png", picture(1))
    gallery, changes, model = start(folder)
    assert gallery.counts["Ada"] == 2 and changes.problems == []
    assert sorted(model.seen) == [1, 2, 3, 4]


def test_composed_and_decomposed_names_are_one_person(folder):
    nfc, nfd = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    assert nfc != nfd
    put(folder, f"{nfc}/1.png", picture(40))
    put(folder, f"{nfd}/2.png", picture(41))
    put(folder, f"{nfd}.png", picture(42))
    gallery, _, _ = start(folder)
    assert gallery.names == ["Ada", "Bob", "Eve", nfc]
    assert gallery.counts[nfc] == 3


def test_names_that_are_not_utf8(tmp_path, folder):
    folder = folder.rename(tmp_path / os.fsdecode(b"gal\xe9rie"))
    put(folder, b"J\xf6rg/b\xefld.png", picture(50))
    put(folder, b"J\xf6rg/schl\xe9cht.png", picture(51, faces=2))
    gallery, changes, _ = start(folder)
    assert name_of(gallery, 50) == "J\ufffdrg"
    assert changes.added[-1] == "J\ufffdrg/b\ufffdld.png"
    assert changes.problems[0].startswith("J\ufffdrg/schl\ufffdcht.png: ")
    gallery, _, model = start(folder)
    assert model.seen == [] and name_of(gallery, 50) == "J\ufffdrg"


def test_progress_counts_the_files_to_read(folder):
    calls = []
    Gallery(folder, FakeModel(), "model").refresh(
        progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@contextlib.contextmanager
def unprivileged():
    """Gives up root's right to pass permissions by, as far as the system allows."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(folder):
    """The same gallery where an unprivileged user can reach it."""
    place = tempfile.mkdtemp(prefix="mlcvtf-test-", dir="/tmp")
    os.chmod(place, 0o755)
    copy = shutil.copytree(folder, os.path.join(place, "gallery"))
    yield copy
    shutil.rmtree(place)


def test_unreadable_picture_is_reported_and_read_later(open_folder):
    path = os.path.join(open_folder, "Bob/1.png")
    os.chmod(path, 0)
    with unprivileged():
        gallery, changes, _ = start(open_folder)
    assert changes.problems == ["Bob/1.png: Permission denied"]
    assert gallery.names == ["Ada", "Eve"]
    os.chmod(path, 0o644)
    assert gallery.update().added == ["Bob/1.png"] and gallery.problems == {}


def test_unreadable_folder_is_reported(open_folder):
    os.chmod(os.path.join(open_folder, "Ada"), 0)
    with unprivileged():
        gallery, changes, _ = start(open_folder)
    os.chmod(os.path.join(open_folder, "Ada"), 0o755)
    assert changes.problems == ["Ada: the folder cannot be read (Permission denied)"]
    assert gallery.names == ["Bob", "Eve"]


def test_read_only_gallery_works_uncached_and_says_so(open_folder):
    os.chmod(open_folder, 0o555)
    with unprivileged():
        gallery, changes, _ = start(open_folder)
        assert gallery.names == ["Ada", "Bob", "Eve"]
        assert changes.notes == [
            "the gallery's cache cannot be written (Permission denied): new faces are "
            "embedded again at the next start"
        ]
        # Said once, and nothing is left behind.
        assert gallery.update().notes == []
        assert not [name for name in os.listdir(open_folder) if name[0] == "."]
        _, _, model = start(open_folder)
        assert len(model.seen) == 4


def test_read_only_file_system_with_a_cache_reads_it(folder, monkeypatch):
    start(folder)
    put(folder, "New/1.png", picture(60))
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", path)
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    gallery, changes, model = start(folder)
    assert model.seen == [60] and name_of(gallery, 60) == "New"
    assert len(changes.notes) == 1 and "Read-only file system" in changes.notes[0]
    # Nothing to write: nothing to say.
    (folder / "New/1.png").unlink()
    _, changes, model = start(folder)
    assert model.seen == [] and changes.notes == []
