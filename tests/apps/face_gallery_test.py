"""The gallery's command: what it prints, writes, refuses and returns."""

import os
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from mlcvtf.commands import face_gallery
from mlcvtf.embedding import calibration, gallery_cache
from tests.case import ROOT
from tests.video import stand_in

APP = ROOT / "apps" / "face_gallery"


class FakePipeline:
    """Stands for both models: a picture's first pixel has faces and person."""

    loaded = 0

    def __init__(self, models_dir=None, runtime="auto", detector="centernet"):
        FakePipeline.loaded += 1
        self.model_hash = f"fake {detector}"
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(400, 32)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        table = calibration.impostor_quantiles(vectors, range(400))
        self.embedder = types.SimpleNamespace(card={"calibration": table})

    def embed_picture(self, image):
        faces, number = int(image[0, 0, 0]), int(image[0, 0, 1])
        return faces, np.eye(256, dtype=np.float32)[number] if faces == 1 else None


def picture(path, number, faces=1):
    image = np.full((6, 6, 3), 99, np.uint8)
    image[0, 0, :2] = faces, number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def folder(tmp_path):
    picture(tmp_path / "gallery/Ada/1.png", 1)
    picture(tmp_path / "gallery/Ada/2.png", 2)
    picture(tmp_path / "gallery/Bob.png", 3)
    return tmp_path / "gallery"


@pytest.fixture
def run(monkeypatch, capsys, folder):
    """Runs the command on the gallery; returns exit code and printed lines."""
    fake = types.ModuleType("mlcvtf.commands.face_pipeline")
    fake.FacePipeline = FakePipeline
    monkeypatch.setitem(sys.modules, fake.__name__, fake)

    def run(*arguments, gallery=folder):
        for name in face_gallery.FLAGS:
            face_gallery.FLAGS[name].unparse()
        argv = ["face_gallery", f"--gallery={gallery}", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stopped:
            face_gallery.cli()
        printed = capsys.readouterr()
        return stopped.value.code, printed.out.splitlines(), printed.err.splitlines()

    return run


def tree(folder):
    """Returns every path below a folder that is not the cache's."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.name.startswith(".mlcvtf")
    )


def test_list_prints_people_and_pictures(run, folder):
    picture(folder / "Eve/1.png", 4, faces=0)
    code, out, err = run("list")
    assert code == 0 and out == ["Ada: 2 pictures", "Bob: 1 picture"]
    assert err == ["Eve/1.png: a gallery picture shows one face, none was found"]


def test_list_of_an_empty_gallery_is_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = run("list", gallery=tmp_path / "empty")
    assert (code, out, len(err)) == (1, [], 1)
    assert "a gallery needs a picture with one face" in err[0]


def test_check_of_a_good_gallery(run, folder):
    (folder / "Ada/notes.txt").write_text("born 1815")
    code, out, err = run("check")
    assert (code, err) == (0, [])
    assert out == [
        "Ada/notes.txt: ignored, it has not the name of a picture",
        "2 people, 3 usable pictures, 0 bad",
    ]


def test_check_names_bad_pictures_and_exits_1(run, folder):
    picture(folder / "Ada/two.png", 5, faces=2)
    (folder / "Bob.jpg").write_bytes(b"\xff\xd8\xff")
    code, out, _ = run("check")
    assert code == 1
    assert out[0] == "Ada/two.png: a gallery picture shows one face, 2 were found"
    assert out[1].startswith("Bob.jpg: ")
    assert out[2] == "2 people, 3 usable pictures, 2 bad"
    assert run("check")[:2] == (1, out)


def test_check_full_finds_what_only_looks_unchanged(run, folder):
    run("check")
    path = folder / "Bob.png"
    inode = path.stat().st_ino
    shutil.copyfile(picture(folder.parent / "none.png", 3, faces=0), path)
    os.utime(path, (1e9, 1e9))
    assert path.stat().st_ino == inode
    assert run("check")[0] == 0
    for arguments in (("check", "--full"), ("--full", "check")):
        code, out, _ = run(*arguments)
        assert code == 1 and out[0].startswith("Bob.png: ")


def test_check_without_one_usable_face(run, tmp_path):
    picture(tmp_path / "poor/Ada.png", 1, faces=0)
    code, out, err = run("check", gallery=tmp_path / "poor")
    assert code == 1 and len(out) == 1 and len(err) == 1
    assert out[0].startswith("Ada.png: ") and "none can be used" in err[0]


def test_missing_gallery_is_said_before_models_are_loaded(run, tmp_path):
    before = FakePipeline.loaded
    for name in ("list", "check", "calibrate"):
        code, out, err = run(name, gallery=tmp_path / "nowhere")
        assert (code, out, len(err)) == (1, [], 1)
        assert "nowhere: No such file or directory" in err[0]
    assert FakePipeline.loaded == before


def test_add_copies_pictures(run, folder, tmp_path):
    one = picture(tmp_path / "new/face.png", 7)
    other = picture(tmp_path / "other/face.png", 8)
    code, out, err = run("add", "Zoë Müller", one, other)
    assert (code, err) == (0, [])
    assert out == ["added Zoë Müller/face.png", "added Zoë Müller/face-2.png"]
    assert (folder / "Zoë Müller/face.png").read_bytes() == one.read_bytes()
    assert (folder / "Zoë Müller/face-2.png").read_bytes() == other.read_bytes()
    assert run("list")[1][-1] == "Zoë Müller: 2 pictures"
    assert not (folder / ".mlcvtf_gallery.adding").exists()


def test_add_to_a_person_never_replaces_a_picture(run, folder, tmp_path):
    old = (folder / "Ada/1.png").read_bytes()
    code, out, _ = run("add", "Ada", picture(tmp_path / "new/1.png", 7))
    assert code == 0 and out == ["added Ada/1-2.png"]
    assert (folder / "Ada/1.png").read_bytes() == old
    assert run("list")[1][0] == "Ada: 3 pictures"


def test_add_uses_the_folder_that_is_there_in_another_form(run, folder, tmp_path):
    picture(folder / "Zoe\u0308/1.png", 7)
    run("add", "Zo\u00eb", picture(tmp_path / "new/2.png", 8))
    assert sorted(os.listdir(folder / "Zoe\u0308")) == ["1.png", "2.png"]
    assert not (folder / "Zo\u00eb").exists()


def test_add_makes_a_gallery(run, tmp_path):
    new = tmp_path / "new gallery"
    assert run("add", "Ada", picture(tmp_path / "a.png", 7), gallery=new)[0] == 0
    assert tree(new) == ["Ada", "Ada/a.png"]


def test_add_skips_what_is_there(run, folder, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(folder / "Ada/1.png", copy)
    before = tree(folder)
    code, out, _ = run("add", "Ada", copy)
    assert code == 0 and out == [f"{copy}: the same picture is there already"]
    assert tree(folder) == before
    new = picture(tmp_path / "new.png", 9)
    shutil.copy(new, copy)
    assert run("add", "Ada", new, copy)[1] == [
        f"{copy}: the same picture is there already",
        "added Ada/new.png",
    ]


def refused(run, folder, *arguments):
    """Runs a command that must change nothing; returns what it says."""
    before = tree(folder)
    code, out, err = run(*arguments)
    assert code == 1 and out == [] and tree(folder) == before
    assert not any("Traceback" in line for line in err)
    return err


def test_add_adds_all_or_nothing(run, folder, tmp_path):
    good = picture(tmp_path / "good.png", 7)
    none = picture(tmp_path / "none.png", 8, faces=0)
    three = picture(tmp_path / "three.png", 9, faces=3)
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:-30])
    err = refused(run, folder, "add", "New", good, none, three, cut)
    assert len(err) == 3
    assert err[0].endswith("none.png: a gallery picture shows one face, none was found")
    assert err[1].endswith("three.png: a gallery picture shows one face, 3 were found")
    assert "cut.png: " in err[2] and err[2].endswith("; nothing was added")


def test_add_refuses_what_is_no_picture_file(run, folder, tmp_path):
    good = picture(tmp_path / "good.png", 7)
    err = refused(run, folder, "add", "New", good, tmp_path / "nowhere.png")
    assert err[0].endswith("nowhere.png: No such file or directory")
    notes = tmp_path / "notes.txt"
    notes.write_bytes(good.read_bytes())
    assert "notes.txt" in refused(run, folder, "add", "New", notes)[0]
    directory = tmp_path / "folder.png"
    directory.mkdir()
    assert "Is a directory" in refused(run, folder, "add", "New", directory)[0]


def test_add_refuses_the_picture_of_another_person(run, folder):
    err = refused(run, folder, "add", "Bob", folder / "Ada/1.png")
    assert "the same picture shows Ada already" in err[0]


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/b", "..", ".", ".hidden", "/etc", "a\\b", "a\nb", "a\0b", " Ada",
     "Ada ", "unknown", "x" * 256, "ü" * 128, os.fsdecode(b"J\xf6rg")],
)  # fmt: skip
def test_add_refuses_names_that_are_no_names(run, folder, tmp_path, name):
    err = refused(run, folder, "add", name, picture(tmp_path / "new.png", 7))
    assert len(err) == 1 and "a person's name" in err[0]


def test_add_that_cannot_write_leaves_nothing(run, folder, tmp_path, monkeypatch):
    pictures = [picture(tmp_path / f"{number}.png", number) for number in (7, 8, 9)]
    real, calls = os.rename, []

    def second_fails(source, target, **options):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(source, target, **options)

    monkeypatch.setattr(os, "rename", second_fails)
    err = refused(run, folder, "add", "Ada", *pictures)
    assert "No space left on device" in err[-1]
    assert not (folder / ".mlcvtf_gallery.adding").exists()


def test_add_clears_what_a_killed_add_left(run, folder, tmp_path):
    (folder / ".mlcvtf_gallery.adding").mkdir()
    (folder / ".mlcvtf_gallery.adding/old.png").write_bytes(b"half")
    assert run("list")[1] == ["Ada: 2 pictures", "Bob: 1 picture"]
    assert run("add", "New", picture(tmp_path / "new.png", 7))[0] == 0
    assert os.listdir(folder / "New") == ["new.png"]


def test_remove_deletes_pictures_folder_and_vectors(run, folder):
    picture(folder / "Ada/2019/3.png", 4)
    run("check")
    assert len(gallery_cache.read(folder).pictures) == 4
    before = FakePipeline.loaded
    code, out, err = run("remove", "Ada")
    assert (code, out, err) == (0, ["removed Ada: 3 pictures"], [])
    assert tree(folder) == ["Bob.png"]
    assert list(gallery_cache.read(folder).files) == ["Bob.png"]
    assert len(gallery_cache.read(folder).pictures) == 1
    assert FakePipeline.loaded == before, "removing needs no model"


def test_remove_takes_all_forms_of_a_person(run, folder):
    picture(folder / "Zoe\u0308/1.png", 7)
    picture(folder / "Zo\u00eb.png", 8)
    code, out, _ = run("remove", "Zo\u00eb")
    assert code == 0 and out == ["removed Zo\u00eb: 2 pictures"]
    assert tree(folder) == ["Ada", "Ada/1.png", "Ada/2.png", "Bob.png"]


def test_remove_leaves_what_is_no_picture(run, folder):
    (folder / "Ada/notes.txt").write_text("born 1815")
    (folder / "Ada/.hidden").mkdir()
    (folder / "Ada/.hidden/1.png").write_bytes(b"kept")
    code, out, err = run("remove", "Ada")
    assert code == 0 and out == ["removed Ada: 2 pictures"]
    assert err == [
        "Ada/.hidden: left, it is no picture",
        "Ada/notes.txt: left, it is no picture",
    ]
    assert tree(folder / "Ada") == [".hidden", ".hidden/1.png", "notes.txt"]


def test_remove_follows_no_link(run, folder, tmp_path):
    picture(tmp_path / "outside/1.png", 5)
    picture(tmp_path / "outside/sub/2.png", 6)
    (folder / "Linked").symlink_to(tmp_path / "outside")
    (folder / "Ada/link.png").symlink_to(picture(tmp_path / "outside 7.png", 7))
    (folder / "Ada/more").symlink_to(tmp_path / "outside")
    assert "Linked: 2 pictures" in run("list")[1]
    assert run("remove", "Linked")[1] == ["removed Linked: 1 picture"]
    assert run("remove", "Ada")[0] == 0
    assert tree(tmp_path / "outside") == ["1.png", "sub", "sub/2.png"]
    assert (tmp_path / "outside 7.png").exists()
    assert tree(folder) == ["Ada", "Ada/more", "Bob.png"]


@pytest.mark.parametrize(
    "name", ["Nobody", "", "..", "../outside", "Ada/1.png", ".", "1"]
)
def test_remove_of_nobody_is_refused(run, folder, tmp_path, name):
    picture(tmp_path / "outside/1.png", 5)
    err = refused(run, folder, "remove", name)
    assert len(err) == 1 and "is not in" in err[0]
    assert (tmp_path / "outside/1.png").exists()


def test_remove_of_an_undecodable_name(run, folder, tmp_path):
    for byte in (b"\xf6", b"\xe4"):
        target = os.fsdecode(os.fsencode(folder) + b"/J" + byte + b"rg")
        os.mkdir(target)
        shutil.copy(picture(tmp_path / "new.png", byte[0]), target)
    # Both are shown as J\ufffdrg: they are not taken for one person.
    code, out, _ = run("check")
    assert code == 1 and out[0] == "J\ufffdrg: another name is shown as J\ufffdrg too"
    assert run("remove", os.fsdecode(b"J\xf6rg"))[0] == 0
    assert [n for n in os.listdir(os.fsencode(folder)) if n[:1] == b"J"] == [b"J\xe4rg"]
    assert run("remove", "J\ufffdrg")[1] == ["removed J\ufffdrg: 1 picture"]


def test_calibrate_prints_the_threshold_and_explains_far(run):
    code, out, err = run("calibrate", "--far", "0.01")
    assert (code, err) == (0, [])
    table = FakePipeline().embedder.card["calibration"]
    expected = calibration.threshold(table, 0.01, 3)
    assert out[0] == f"threshold {expected:.4f}"
    assert out[1].startswith("gallery: 2 people, 3 pictures, nearest scoring")
    assert out[2].startswith("calibrated on 400 other people, 400 pictures, 79800 impo")
    assert out[3].startswith("far 0.01: about 1 in 100 strangers' faces is given any")
    _, centroid, _ = run("calibrate", "--far", "0.01", "--scoring", "centroid")
    fewer = calibration.threshold(table, 0.01, 2)
    assert centroid[0] == f"threshold {fewer:.4f}" and fewer < expected


def test_calibrate_refuses_what_the_pairs_cannot_tell(run):
    code, out, err = run("calibrate", "--far", "1e-4")
    assert (code, out, len(err)) == (1, [], 1)
    assert "3 enrolled would have 2.7 of the 79800" in err[0]
    smallest = re.search(r"smallest far here is (\S+)", err[0])[1]
    assert run("calibrate", f"--far={float(smallest) * 1.01}")[0] == 0
    assert run("calibrate", "--far=0")[0] == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "a command is one of list, check, add, remove, calibrate"),
        (("enroll",), "received enroll"),
        (("add",), "add needs NAME PICTURE..."),
        (("add", "Ada"), "add needs NAME PICTURE..."),
        (("remove",), "remove needs NAME"),
        (("remove", "Ada", "Bob"), "remove needs NAME"),
        (("list", "Ada"), "list needs no argument"),
        (("check", "--ful"), "ful"),
        (("calibrate", "--far=much"), "--far"),
        (("calibrate", "--far=2"), "--far"),
    ],
)
def test_flag_errors_are_one_line(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out, len(err)) == (2, [], 1) and words in err[0]


def execute(*arguments):
    return subprocess.run(
        [sys.executable, APP, *map(str, arguments)], capture_output=True, text=True
    )


def test_help_is_light_and_exits_0():
    done = execute("--help")
    assert done.returncode == 0 and done.stderr == ""
    for words in ("list  ", "check [--full]", "add NAME", "remove NAME", "calibrate"):
        assert words in done.stdout
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, mlcvtf.commands.face_gallery; "
         "print({'numpy', 'cv2', 'PIL', 'tensorflow', 'keras'} & set(sys.modules))"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert loaded.stdout == "set()\n"


def test_executable_reports_errors_in_a_line(tmp_path):
    done = execute("list")
    assert done.returncode == 2 and "--gallery" in done.stderr
    assert done.stderr.count("\n") == 1
    done = execute("--gallery", tmp_path / "nowhere", "check")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("face_gallery: a gallery is a folder")


def test_executable_survives_undecodable_names(tmp_path):
    done = subprocess.run(
        [sys.executable, APP, b"--gallery", os.fsencode(tmp_path) + b"/gal\xe9rie",
         b"add", b"J\xf6rg", b"\xff.png"],
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1
    assert "J\ufffdrg".encode() in done.stderr


def test_executable_with_stand_in_models(tmp_path):
    """All commands in a row, with graphs that find squares of pure colours."""
    folder = tmp_path / "gal\u00e9rie"
    rosa, both = tmp_path / "rosa.png", tmp_path / "both.png"
    scene = stand_in.scene(200, 120, Rosa=(20, 30, 60))
    Image.fromarray(scene).save(rosa)
    scene = stand_in.scene(200, 120, Rosa=(20, 30, 60), Blau=(120, 30, 60))
    Image.fromarray(scene).save(both)

    def gallery(*arguments):
        flags = ("--gallery", folder, "--models", stand_in.models())
        done = execute(*flags, *arguments)
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    assert gallery("add", "Rosa", rosa) == (0, ["added Rosa/rosa.png"], [])
    code, out, err = gallery("add", "Rosa", both)
    assert (code, out, len(err)) == (1, [], 1) and "2 were found" in err[0]
    shutil.copy(both, folder / "Rosa")
    code, out, err = gallery("list")
    assert (code, out) == (0, ["Rosa: 1 picture"])
    assert err == ["Rosa/both.png: a gallery picture shows one face, 2 were found"]
    code, out, err = gallery("check")
    assert code == 1 and out == [
        "Rosa/both.png: a gallery picture shows one face, 2 were found",
        "1 people, 1 usable pictures, 1 bad",
    ]
    assert gallery("calibrate", "--far=1e-3")[1][0] == "threshold 0.3000"
    assert gallery("remove", "Rosa") == (0, ["removed Rosa: 2 pictures"], [])
    assert tree(folder) == []
    code, out, err = gallery("calibrate")
    assert (code, out, len(err)) == (1, [], 1)


def test_executable_with_the_shipped_models(tmp_path):
    for name in ("face_detector", "face_embedder"):
        if not (ROOT / "saved_models" / name / "card.json").exists():
            pytest.skip(f"saved_models/{name} is not there yet")
    data = pytest.importorskip("skimage.data")
    folder = tmp_path / "gallery"
    face, nobody = tmp_path / "Eileen Collins.png", tmp_path / "nobody.png"
    Image.fromarray(data.astronaut()).save(face)
    Image.fromarray(data.coffee()).save(nobody)
    done = execute("--gallery", folder, "add", "Eileen Collins", face)
    assert done.returncode == 0, done.stderr
    done = execute("--gallery", folder, "add", "Eileen Collins", nobody)
    assert done.returncode == 1 and "none was found" in done.stderr
    done = execute("--gallery", folder, "calibrate", "--far=0.01")
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.split()[1]) < 1
