"""The cache against damage, kills, crowds and read-only folders."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from mlcvtf.embedding import gallery_cache
from mlcvtf.embedding.gallery import Gallery
from mlcvtf.embedding.gallery_cache import Cache, CacheError, FileRecord, Picture
from tests.case import ROOT


class FakeModel:
    """Embeds a picture of one colour as that colour's row of a unit matrix."""

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        number = int(image[0, 0, 0])
        self.seen.append(number)
        return 1, np.eye(256, dtype=np.float32)[number]


@pytest.fixture
def folder(tmp_path):
    """Forty people with a picture each."""
    for number in range(40):
        path = tmp_path / f"person {number}.png"
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
        os.utime(path, (1e9, 1e9))
    return tmp_path


def start(folder, model_hash="model"):
    model = FakeModel()
    gallery = Gallery(folder, model, model_hash)
    changes = gallery.refresh()
    matches = gallery.search(np.eye(256)[:40], 0.9)
    assert [m.name for m in matches] == [f"person {n}" for n in range(40)]
    return changes, model


def cache_of(rng):
    files = {
        "Ada/1.jpg": FileRecord(1, 2, 2**63 - 1, rng.bytes(32)),
        os.fsdecode(b"J\xf6rg/\xff.png"): FileRecord(2**40, -1, 5, rng.bytes(32)),
        "Zoë/ü\n.png": FileRecord(0, -(10**15), 0, rng.bytes(32)),
    }
    pictures = {
        record.digest: Picture("", rng.normal(size=5).astype(np.float32))
        for record in files.values()
    }
    pictures[files["Ada/1.jpg"].digest] = Picture("no face – keines", None)
    return Cache("abc", files, pictures)


def test_round_trip(tmp_path):
    assert gallery_cache.read(tmp_path) is None
    cache = cache_of(np.random.default_rng(0))
    gallery_cache.write(tmp_path, cache)
    again = gallery_cache.read(tmp_path)
    assert again.model_hash == "abc" and again.files == cache.files
    assert list(again.pictures) == list(cache.pictures)
    for digest, (reason, vector) in cache.pictures.items():
        assert again.pictures[digest].reason == reason
        np.testing.assert_array_equal(again.pictures[digest].vector, vector)
    assert os.listdir(tmp_path) == [gallery_cache.CACHE]


def test_empty_cache_round_trips(tmp_path):
    gallery_cache.write(tmp_path, Cache("abc", {}, {}))
    assert gallery_cache.read(tmp_path) == Cache("abc", {}, {})


def test_file_holds_no_pickle(tmp_path):
    gallery_cache.write(tmp_path, cache_of(np.random.default_rng(0)))
    data = (tmp_path / gallery_cache.CACHE).read_bytes()
    assert data.count(b"\x93NUMPY") == 7
    assert b"|O" not in data and b"\x80\x04\x95" not in data


def test_flipped_bits_are_found(tmp_path):
    gallery_cache.write(tmp_path, cache_of(np.random.default_rng(0)))
    path = tmp_path / gallery_cache.CACHE
    data = path.read_bytes()
    for position in [*range(100), *range(100, len(data), 7)]:
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(CacheError, match="damaged"):
            gallery_cache.read(tmp_path)


def test_cuts_are_found(tmp_path):
    gallery_cache.write(tmp_path, cache_of(np.random.default_rng(0)))
    path = tmp_path / gallery_cache.CACHE
    data = path.read_bytes()
    for length in [*range(100), *range(100, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CacheError, match="damaged"):
            gallery_cache.read(tmp_path)


def test_damaged_cache_is_built_again_and_said_so(folder):
    changes, model = start(folder)
    assert len(model.seen) == 40 and changes.notes == []
    path = folder / gallery_cache.CACHE
    random.seed(5)
    for _ in range(10):
        data = bytearray(path.read_bytes())
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        changes, model = start(folder)
        assert len(changes.notes) == 1 and "damaged" in changes.notes[0]
        assert "built again" in changes.notes[0] and len(model.seen) == 40
        changes, model = start(folder)
        assert changes.notes == [] and model.seen == []


def test_cache_of_another_model_is_built_again_and_said_so(folder):
    start(folder)
    changes, model = start(folder, "another")
    assert changes.notes == [
        "the gallery's cache is of another model: it is built again"
    ]
    assert len(model.seen) == 40
    changes, model = start(folder, "another")
    assert changes.notes == [] and model.seen == []


def test_folder_in_place_of_the_cache_is_a_note(folder):
    (folder / gallery_cache.CACHE).mkdir()
    changes, model = start(folder)
    assert len(changes.notes) == 2 and len(model.seen) == 40
    assert "cannot be read" in changes.notes[0]
    assert "cannot be written" in changes.notes[1]
    assert not (folder / gallery_cache.TEMPORARY).exists()


def test_link_in_place_of_the_temporary_file_is_not_followed(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("elsewhere") / "precious"
    target.write_text("precious")
    (folder / gallery_cache.TEMPORARY).symlink_to(target)
    start(folder)
    assert target.read_text() == "precious"


def test_full_disk_leaves_the_old_cache(folder, monkeypatch):
    start(folder)
    before = (folder / gallery_cache.CACHE).read_bytes()
    Image.new("RGB", (4, 4), (200, 0, 0)).save(folder / "new.png")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    changes, model = start(folder)
    assert "No space left on device" in changes.notes[0] and model.seen == [200]
    assert (folder / gallery_cache.CACHE).read_bytes() == before
    assert not (folder / gallery_cache.TEMPORARY).exists()


def test_lock_that_stays_taken_is_a_note(folder, monkeypatch):
    monkeypatch.setattr(gallery_cache, "LOCK_SECONDS", 0.05)
    with gallery_cache.locked(folder):
        changes, _ = start(folder)
    assert changes.notes == [
        "the gallery's cache cannot be written (locked by another process for 0.05 s): "
        "new faces are embedded again at the next start"
    ]
    changes, model = start(folder)
    assert changes.notes == [] and len(model.seen) == 40


def test_lock_keeps_others_out(tmp_path):
    order = []

    def other():
        with gallery_cache.locked(tmp_path):
            order.append("other")

    with gallery_cache.locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_writers_merge(folder):
    """A process that wrote while another was embedding loses nothing."""
    late = [folder / "late 1.png", folder / "late 2.png"]

    class Interrupted(FakeModel):
        def __call__(self, image):
            if not self.seen:
                for number, path in enumerate(late):
                    Image.new("RGB", (4, 4), (100 + number, 0, 0)).save(path)
                    os.utime(path, (1e9, 1e9))
                Gallery(folder, FakeModel(), "model").refresh()
            return super().__call__(image)

    Gallery(folder, Interrupted(), "model").refresh()
    _, model = start(folder)
    assert model.seen == []
    files = gallery_cache.read(folder).files
    assert len(files) == 42 and late[0].name in files


def test_interrupted_enrolment_keeps_what_was_embedded(folder):
    class Stopped(FakeModel):
        def __call__(self, image):
            if len(self.seen) == 25:
                raise KeyboardInterrupt
            return super().__call__(image)

    with pytest.raises(KeyboardInterrupt):
        Gallery(folder, Stopped(), "model").refresh()
    assert len(gallery_cache.read(folder).files) == 25
    _, model = start(folder)
    assert len(model.seen) == 15


def test_prune_forgets_deleted_pictures_of_any_model(folder):
    start(folder, "some model")
    (folder / "person 7.png").unlink()
    gallery_cache.prune(folder)
    cache = gallery_cache.read(folder)
    assert cache.model_hash == "some model" and len(cache.files) == 39
    assert len(cache.pictures) == 39 and "person 7.png" not in cache.files
    (folder / gallery_cache.CACHE).write_bytes(b"damaged")
    gallery_cache.prune(folder)
    assert gallery_cache.read(folder) is None


# A process that embeds a gallery and writes the cache after each picture. Long
# vectors, so that most of its time goes into writing.
WRITER = """
import sys, time
import numpy as np
from mlcvtf.embedding import gallery
from mlcvtf.embedding.gallery import Gallery

gallery.SAVE_SECONDS = 0
folder, length, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

class Due(Gallery):
    _save_due = property(lambda self: 0, lambda self, value: None)

def embed(image):
    time.sleep(pause)
    vector = np.zeros(length, np.float32)
    vector[image[0, 0, 0]] = 1
    return 1, vector

changes = Due(folder, embed, "model").refresh()
print(changes.embedded, "|".join(changes.notes))
"""


def writer(folder, length, pause):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(length), str(pause)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(process, condition):
    deadline = time.monotonic() + 30
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def test_kill_while_the_cache_is_written_loses_nothing_written(folder):
    length, kept, during_writing = 100_000, 0, 0
    path = folder / gallery_cache.CACHE
    random.seed(1)
    for _ in range(5):
        # It is replaced, never rewritten, so that its inode changes.
        before = path.stat().st_ino if path.exists() else None
        process = writer(folder, length, 0.001)
        wait_for(
            process, lambda old=before: path.exists() and path.stat().st_ino != old
        )
        time.sleep(random.uniform(0, 0.02))
        # At this moment or a little later it is in the middle of writing.
        wait_for(process, (folder / gallery_cache.TEMPORARY).exists)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        during_writing += (folder / gallery_cache.TEMPORARY).exists()
        # Readable without CacheError, and never less than before.
        cache = gallery_cache.read(folder)
        assert len(cache.files) >= kept
        assert all(p.vector.shape == (length,) for p in cache.pictures.values())
        kept = len(cache.files)
    assert during_writing > 0, "no kill hit a half-written file"
    process = writer(folder, length, 0)
    assert process.communicate()[0] == f"{40 - kept} \n" and process.returncode == 0
    assert not (folder / gallery_cache.TEMPORARY).exists()
    assert len(gallery_cache.read(folder).files) == 40


def test_several_processes_at_once_share_one_cache(folder):
    processes = [writer(folder, 256, 0.002) for _ in range(3)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(output.endswith(" \n") for output in outputs), outputs
    _, model = start(folder)
    assert model.seen == []
