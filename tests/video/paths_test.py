"""Names as text and as paths that OpenCV survives."""

import os

import pytest

from mlcvtf.video import paths


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Zoë.jpg", "Zoë.jpg"),
        (b"caf\xe9", "caf\ufffd"),
        (os.fsdecode(b"caf\xe9"), "caf\ufffd"),
        ("two\nlines\x1b[31m", "two?lines?[31m"),
    ],
)
def test_printable(name, expected):
    assert paths.printable(name) == expected


def test_plain_paths_stay(tmp_path):
    path = tmp_path / "a plain-name.mp4"
    with paths.opencv_path(path) as clean:
        assert clean == str(path)


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"%03d.mp4", b"http:x.mp4", b"\xff"])
def test_other_paths_get_a_clean_link(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    with paths.opencv_path(path) as clean:
        assert paths.PLAIN.fullmatch(clean.encode())
        assert os.path.splitext(clean)[1] == os.path.splitext(paths.printable(name))[1]
        # The link works before the file exists.
        with open(clean, "wb") as file:
            file.write(b"content")
    with open(path, "rb") as file:
        assert file.read() == b"content"
    assert not os.path.lexists(clean)
    assert not os.path.lexists(os.path.dirname(clean))


def test_relative_paths_do_not_depend_on_the_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("ü.txt", "wb") as file:
        file.write(b"x")
    with paths.opencv_path("ü.txt") as clean, open(clean, "rb") as file:
        assert file.read() == b"x"
