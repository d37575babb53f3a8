"""Who is in a folder: every rule of the module's docstring."""

import os

import pytest

from mlcvtf.embedding import gallery_folder
from mlcvtf.embedding.gallery_folder import scan
from mlcvtf.errors import InputError


def put(folder, path, data=b"x"):
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


def people(folder):
    return {path: entry.name for path, entry in scan(folder).pictures.items()}


def test_people_are_folders_and_files(tmp_path):
    for path in ("Ada/b.JPG", "Ada/a.webp", "Ada/2019/Rome/c.tiff", "Bob L. Smith.png"):
        put(tmp_path, path)
    assert people(tmp_path) == {
        "Ada/2019/Rome/c.tiff": "Ada",
        "Ada/a.webp": "Ada",
        "Ada/b.JPG": "Ada",
        "Bob L. Smith.png": "Bob L. Smith",
    }


def test_signature_is_size_time_and_inode(tmp_path):
    path = put(tmp_path, "Ada.png", b"12345")
    os.utime(path, ns=(1, 1234567890123456789))
    (entry,) = scan(tmp_path).pictures.values()
    assert entry.signature == (5, 1234567890123456789, path.stat().st_ino)


def test_hidden_files_and_folders_are_ignored(tmp_path):
    for path in (".mlcvtf_gallery.cache", ".thumbs/a.png", "Ada/.a.png", "Ada/.b/c.png",
                 ".Bob.png", "Ada/._1.png"):  # fmt: skip
        put(tmp_path, path)
    assert scan(tmp_path) == ({}, {}, [])


def test_what_is_no_picture_by_name_is_listed(tmp_path):
    put(tmp_path, "readme.txt")
    put(tmp_path, "Ada/1.heic")
    put(tmp_path, "Ada/sub/png")
    (tmp_path / "Empty").mkdir()
    os.mkfifo(tmp_path / "Ada" / "pipe.png")
    listing = scan(tmp_path)
    assert listing.pictures == {} and listing.problems == {}
    expected = ["Ada/1.heic", "Ada/pipe.png", "Ada/sub/png", "readme.txt"]
    assert sorted(listing.ignored) == expected


def test_links_to_pictures_and_to_people_are_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    picture = put(elsewhere, "1.png", b"123")
    put(elsewhere, "sub/2.png")
    gallery = tmp_path / "gallery"
    (gallery / "Ada").mkdir(parents=True)
    (gallery / "Ada/link.png").symlink_to(picture)
    (gallery / "Bob").symlink_to(elsewhere)
    (gallery / "Eve.png").symlink_to(picture)
    listing = scan(gallery)
    assert people(gallery) == {
        "Ada/link.png": "Ada",
        "Bob/1.png": "Bob",
        "Bob/sub/2.png": "Bob",
        "Eve.png": "Eve",
    }
    # The signature is the picture's, so that a change of it is noticed.
    assert listing.pictures["Ada/link.png"].signature.size == 3


def test_links_to_folders_further_down_are_not_followed(tmp_path):
    put(tmp_path, "Ada/1.png")
    (tmp_path / "Ada/circle").symlink_to(tmp_path / "Ada")
    (tmp_path / "Ada/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    listing = scan(tmp_path)
    assert list(listing.pictures) == ["Ada/1.png"] and listing.problems == {}
    assert sorted(listing.ignored) == ["Ada/circle", "Ada/up", "self"]


def test_dead_links_are_problems(tmp_path):
    put(tmp_path, "Ada/1.png")
    (tmp_path / "Ada/dead.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "round.png").symlink_to("round.png")
    problems = scan(tmp_path).problems
    assert problems["Ada/dead.png"] == "a link to a file that is not there"
    assert "symbolic links" in problems["round.png"]


def test_name_for_strangers_cannot_be_a_persons(tmp_path):
    put(tmp_path, "unknown/1.png")
    put(tmp_path, "unknown.png")
    put(tmp_path, "Unknown/1.png")
    listing = scan(tmp_path)
    assert people(tmp_path) == {"Unknown/1.png": "Unknown"}
    assert listing.problems == dict.fromkeys(
        ["unknown", "unknown.png"], "the name unknown is kept for strangers"
    )


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    put(tmp_path, "A\nd\x1ba/1.png")
    assert people(tmp_path) == {"A\nd\x1ba/1.png": "A?d?a"}


@pytest.mark.parametrize("name", ["Zoe\u0308", "Zo\u00eb"])
def test_checked_name_is_composed(name):
    assert gallery_folder.check_name(name) == "Zo\u00eb"


def test_longest_names(tmp_path):
    name = "ü" * 127
    assert gallery_folder.check_name(name) == name
    written = gallery_folder.add_pictures(tmp_path, name, [("a.png", b"x")])
    assert written == [f"{name}/a.png"] and people(tmp_path) == {written[0]: name}
    with pytest.raises(InputError, match="File name too long"):
        gallery_folder.add_pictures(tmp_path, "Ada", [("a" * 253 + ".png", b"x")])
    assert not (tmp_path / "Ada").exists()


def test_add_to_a_folder_that_is_a_file(tmp_path):
    put(tmp_path, "Ada", b"notes")
    with pytest.raises(InputError, match="must be writable"):
        gallery_folder.add_pictures(tmp_path, "Ada", [("a.png", b"x")])
    assert (tmp_path / "Ada").read_bytes() == b"notes"
