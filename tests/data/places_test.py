"""Places in folders, archives and memory, and those that lead elsewhere."""

import os
import zipfile

import pytest

from mlcvtf.data import places
from mlcvtf.data.places import Place, Root, read_bytes
from mlcvtf.errors import InputError
from tests.data.made_sets import encoded, noise, write, write_zip


def test_the_same_names_and_bytes_from_a_folder_and_an_archive(tmp_path):
    files = {"b.PNG": encoded(noise(0)), "d/ä.jpg": encoded(noise(1), "jpg")}
    others = {"notes.txt": b"x", ".b.png": b"x", "__MACOSX/._b.png": b"x"}
    for name, data in (files | others).items():
        write(tmp_path / "set" / name, data)
    write_zip(tmp_path / "set.zip", files | others)
    for root in (Root(tmp_path / "set"), Root(tmp_path / "set.zip")):
        found = root.pictures()
        assert list(found) == ["b.PNG", "d/ä.jpg"]
        assert {name: read_bytes(place) for name, place in found.items()} == files
        assert [places.picture_size(p) for p in found.values()] == [(40, 30)] * 2
    assert read_bytes(Place("x", data=b"12")) == b"12"


def test_an_archive_may_have_a_folder_of_its_own_name(tmp_path):
    archive = write_zip(tmp_path / "val.zip", {"val/a.png": noise(0), "b.png": b""})
    root = Root(archive)
    assert root.place("a.png").member == "val/a.png"
    assert root.place("val/a.png").member == "val/a.png"
    assert [root.place(n).member for n in ("b.png", "c.png")] == ["b.png", "c.png"]


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "d/../../a.png", "", "a\0.png",
                                  "..\\a.png"])
def test_names_stay_inside(tmp_path, name):
    with pytest.raises(InputError, match="stays in its folder"):
        Root(tmp_path).place(name)


def test_what_cannot_be_read_is_named(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.png": noise(0)})
    with pytest.raises(InputError, match="a.zip:b.png"):
        read_bytes(Root(archive).place("b.png"))
    with pytest.raises(InputError, match="b.png: No such file"):
        read_bytes(Root(tmp_path).place("b.png"))
    with pytest.raises(InputError, match="Is a directory"):
        read_bytes(Place(str(tmp_path)))
    with pytest.raises(InputError, match="neither"):
        Root(write(tmp_path / "no.zip", b"no archive"))
    # The version that is needed to extract, in the archive's directory.
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 250
    with pytest.raises(InputError, match="neither: zip file version 25.0"):
        Root(write(tmp_path / "new.zip", bytes(data)))
    assert places.picture_size(Place("x", data=b"no picture")) is None
    data = bytearray(archive.read_bytes())
    start = data.index(b"IDAT") + 8
    data[start:start + 4] = b"\xff" * 4
    broken = write(tmp_path / "broken.zip", bytes(data))
    with pytest.raises(InputError, match="CRC"):
        read_bytes(Root(broken).place("a.png"))


def test_no_more_is_unpacked_than_a_picture_has(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "MAX_BYTES", 1000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100_000))
    with pytest.raises(InputError, match="at most 1000 bytes"):
        read_bytes(Root(path).place("a.png"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_has_an_archive_of_its_own(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.png": noise(0)})
    place = Root(archive).place("a.png")
    read_bytes(place)
    mine = places._archive(str(archive), os.getpid())
    assert places._archive(str(archive), os.getpid()) is mine
    assert places._archive(str(archive), os.getpid() + 1) is not mine
