"""A gallery that changes while a video runs."""

import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from mlcvtf.embedding import gallery as gallery_module
from mlcvtf.embedding import gallery_cache, gallery_picture
from mlcvtf.embedding.gallery import Gallery


def picture(number, side=8):
    image = np.full((side, side, 3), 128, np.uint8)
    image[0, 0] = number
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class FakeModel:
    """Embeds by the first pixel; 0 is a picture without a face."""

    def __init__(self, clock=None, seconds=0.0):
        self.clock, self.seconds, self.seen = clock, seconds, []

    def __call__(self, image):
        number = int(image[0, 0, 0])
        self.seen.append(number)
        if self.clock:
            self.clock.now += self.seconds
        return (1, np.eye(256, dtype=np.float32)[number]) if number else (0, None)


class Clock:
    """Time that passes only when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


def name_of(gallery, number):
    return gallery.search(np.eye(256)[[number]], 0.9)[0].name


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Ada").mkdir()
    (tmp_path / "Ada" / "1.png").write_bytes(picture(1))
    os.utime(tmp_path / "Ada" / "1.png", (1e9, 1e9))
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def impatient(monkeypatch):
    """Polls look at every call, and files stay young for long."""
    monkeypatch.setattr(gallery_module, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(gallery_module, "POLL_BUDGET", 60.0)
    monkeypatch.setattr(gallery_picture, "FRESH_SECONDS", 60.0)


def test_changes_are_noticed_within_two_seconds(folder, clock):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()

    def seconds_until(condition):
        """Polls as an app does, 25 times a second."""
        start = clock.now
        while not condition():
            clock.now += 0.04
            assert clock.now - start < 2
            gallery.poll()
        return clock.now - start

    (folder / "Bob.png").write_bytes(picture(2))
    assert seconds_until(lambda: name_of(gallery, 2) == "Bob") > 0.5
    (folder / "Bob.png").write_bytes(picture(3))
    seconds_until(lambda: name_of(gallery, 3) == "Bob")
    assert name_of(gallery, 2) == "unknown"
    (folder / "Bob.png").unlink()
    seconds_until(lambda: gallery.names == ["Ada"])


def test_polls_between_looks_cost_nothing(folder, monkeypatch):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    monkeypatch.setattr(os, "scandir", None)
    assert [gallery.poll() for _ in range(100)] == [None] * 100


def test_new_pictures_come_a_few_per_frame(folder, clock):
    model = FakeModel(clock, seconds=0.02)
    gallery = Gallery(folder, model, "model")
    gallery.refresh()
    for number in range(2, 12):
        (folder / f"{number}.png").write_bytes(picture(number))
    clock.now += 1
    # Three of 0.02 s are just over the budget of 0.05 s; the rest goes on with the
    # next frame, and only then the polls pause.
    assert [gallery.poll().pending for _ in range(4)] == [7, 4, 1, 0]
    assert gallery.poll() is None
    assert len(gallery.names) == 11 and sorted(model.seen) == list(range(1, 12))


def test_picture_that_is_being_written_is_waited_for(folder, impatient):
    model = FakeModel()
    gallery = Gallery(folder, model, "model")
    gallery.refresh()
    data = picture(5, side=64)
    with open(folder / "Bob.png", "wb") as file:
        # A PNG is whole but for its last 12 bytes, which nobody misses.
        for start in range(0, len(data) - 40, 20):
            file.write(data[start : start + 20])
            file.flush()
            changes = gallery.poll()
            assert changes.pending == 1 and changes.problems == []
            assert b"Bob" not in (folder / gallery_cache.CACHE).read_bytes()
        file.write(data[start + 20 :])
    assert gallery.poll().added == ["Bob.png"]
    assert model.seen == [1, 5] and gallery.problems == {}


def test_overwriting_a_picture_does_not_drop_the_person(folder, impatient):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    data = picture(5, side=64)
    (folder / "Ada/1.png").write_bytes(data[:50])
    assert gallery.poll().pending == 1
    assert gallery.names == ["Ada"] and name_of(gallery, 1) == "Ada"
    (folder / "Ada/1.png").write_bytes(data)
    gallery.poll()
    assert name_of(gallery, 5) == "Ada" and name_of(gallery, 1) == "unknown"


def test_picture_that_stays_cut_is_reported_once(folder, impatient):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    path = folder / "Bob.png"
    path.write_bytes(picture(5, side=64)[:50])
    assert [gallery.poll().problems for _ in range(3)] == [[], [], []]
    os.utime(path, (1e9, 1e9))
    (problem,) = gallery.poll().problems
    assert problem.startswith("Bob.png: a picture must be whole")
    assert gallery.poll().problems == []


def test_start_says_that_a_young_picture_is_cut_but_forgets_it(folder, impatient):
    data = picture(5, side=64)
    (folder / "Bob.png").write_bytes(data[:50])
    then = (folder / "Bob.png").stat().st_mtime_ns
    gallery = Gallery(folder, FakeModel(), "model")
    assert "truncated" in gallery.refresh().problems[0]
    assert b"Bob" not in (folder / gallery_cache.CACHE).read_bytes()
    # Even where size, time and inode are what they were.
    (folder / "Bob.png").write_bytes(data[:49] + b"x")
    os.utime(folder / "Bob.png", ns=(then, then))
    assert gallery.refresh().hashed >= 1


def test_file_written_twice_in_a_tick_is_read_again(folder, monkeypatch):
    monkeypatch.setattr(gallery_picture, "FINE_TICK", 5.0)
    monkeypatch.setattr(gallery_picture, "COARSE_TICK", 5.0)
    gallery = Gallery(folder, FakeModel(), "model")
    path = folder / "Ada/1.png"
    path.write_bytes(picture(6))
    gallery.refresh()
    status = path.stat()
    assert len(picture(7)) == len(picture(6))
    path.write_bytes(picture(7))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    gallery.refresh()
    assert name_of(gallery, 7) == "Ada"


def test_gallery_that_goes_away_keeps_the_faces(folder, impatient):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    folder.rename(folder.parent / "away")
    notes = gallery.poll().notes
    assert len(notes) == 1 and "the faces known so far are kept" in notes[0]
    assert gallery.poll().notes == [] and name_of(gallery, 1) == "Ada"
    (folder.parent / "away").rename(folder)
    (folder / "Bob.png").write_bytes(picture(2))
    assert gallery.poll().added == ["Bob.png"]


def test_last_face_that_goes_away_is_a_note(folder, impatient):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    (folder / "Ada/1.png").unlink()
    changes = gallery.poll()
    assert changes.removed == ["Ada/1.png"]
    assert changes.notes == ["the gallery has no face left, everyone is unknown"]
    assert name_of(gallery, 1) == "unknown" and gallery.enrolled() == 0


def test_what_another_process_embedded_is_taken_over(folder, impatient):
    mine = FakeModel()
    gallery = Gallery(folder, mine, "model")
    gallery.refresh()
    (folder / "Bob.png").write_bytes(picture(2))
    Gallery(folder, FakeModel(), "model").refresh()
    assert gallery.poll().added == ["Bob.png"] and mine.seen == [1]


def test_two_models_do_not_overwrite_each_other_for_ever(folder, impatient):
    galleries = [Gallery(folder, FakeModel(), name) for name in ("one", "two")]
    for gallery in galleries:
        gallery.refresh()
    time.sleep(0.05)
    for gallery in galleries * 2:
        gallery.poll()
    written = (folder / gallery_cache.CACHE).stat().st_mtime_ns
    for gallery in galleries * 5:
        assert gallery.poll() == gallery_module.Changes()
    assert (folder / gallery_cache.CACHE).stat().st_mtime_ns == written


def test_gallery_that_went_away_is_looked_for_once_a_second(folder, clock):
    gallery = Gallery(folder, FakeModel(), "model")
    gallery.refresh()
    folder.rename(folder.parent / "away")
    clock.now += 1.1
    assert gallery.poll().notes and gallery.poll() is None
    clock.now += 1.1
    assert gallery.poll() is not None
