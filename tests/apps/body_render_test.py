"""The executable on a made person: printed lines, written files, exit codes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mlcvtf.segmentation.body_parts.picture_folder import PictureFolder
from tests.case import ROOT, child
from tests.segmentation.made_mocap import write_people

APP = ROOT / "apps" / "body_render"


def body_render(*arguments):
    return child([APP, *arguments])


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("mocap"), frames=10)


def assert_one_line(result, *parts, code=1):
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def test_two_parts_and_a_sheet(people, tmp_path):
    output, sheet = tmp_path / "out", tmp_path / "sheet.png"
    result = body_render(
        people, f"--output={output}", "--train=4", "--test=3", f"--sheet={sheet}"
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "2 recordings, 20 frames"
    assert lines[1] == "train: 20 of 20 poses kept, subjects 01"
    assert lines[2] == "test: 10 of 10 poses kept, subjects 02"
    assert lines[3].startswith("train: 4 pictures, ")
    assert sorted(path.name for path in output.iterdir()) == [
        "parts.txt",
        "test",
        "train",
    ]
    assert (output / "parts.txt").read_text().splitlines()[31] == "31 foot_right"
    train, test = PictureFolder(output / "train"), PictureFolder(output / "test")
    assert (len(train), len(test)) == (4, 3)
    assert set(train.subjects) == {"01"} and set(test.subjects) == {"02"}
    depth, labels = train.read(0)
    assert depth.shape == (240, 320) and (labels > 0).sum() > 500
    image = np.asarray(Image.open(sheet))
    # Seven tiles in two rows, with more colours than a blank one has.
    assert image.shape == (2 * 262 + 6, 4 * 406 + 6, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "sheet.png"]


def test_the_same_seed_gives_the_same_files(people, tmp_path):
    names = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        folder = tmp_path / name
        if name == "b":
            # An empty folder will do as well as none.
            folder.mkdir()
        result = body_render(
            people,
            f"--output={folder}",
            "--train=2",
            "--test=0",
            f"--seed={seed}",
            "--nomirror",
            "--recombined=30",
        )
        assert result.returncode == 0, result.stderr
        assert " of 40 poses kept" in result.stdout
        names.append(
            {path.name: path.read_bytes() for path in (folder / "train").iterdir()}
        )
    assert names[0] == names[1] and names[0] != names[2]


def test_bad_input_is_one_line_and_leaves_nothing(people, tmp_path):
    output = tmp_path / "out"
    flag = f"--output={output}"
    assert_one_line(body_render(flag), "motion capture is needed", code=2)
    assert_one_line(body_render(people), "--output=DIR", code=2)
    assert_one_line(body_render(people, flag, "--train=0", "--test=0"), "1 to", code=2)
    for wrong in ("--distance=3", "--distance=3,2", "--distance=2,x", "--height=1,9"):
        assert_one_line(body_render(people, flag, wrong), "two numbers", code=2)
    assert_one_line(body_render(tmp_path / "none", flag), "is neither")
    assert_one_line(body_render(people, flag, "--test_subjects=03"), "subjects are 01")
    assert_one_line(body_render(people, flag, "--test_subjects=01,02"), "to train with")
    assert_one_line(body_render(people, "--sheet=x.jpg"), "ends in .png")
    assert_one_line(body_render(people, f"--output={tmp_path}/no/out"), "writable")
    assert list(tmp_path.iterdir()) == []
    output.mkdir()
    (output / "mine").touch()
    assert_one_line(body_render(people, flag), "new or empty", "not empty")
    assert [path.name for path in output.iterdir()] == ["mine"]


def test_who_interrupts_leaves_nothing(people, tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, APP, people, f"--output={output}", "--train=1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = tmp_path / f"out.{process.pid}.partial" / "train" / "000003_parts.png"
    until = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert partial.exists() and process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_numba_it_says_so(people, tmp_path):
    code = (
        "import sys\n"
        "sys.modules['numba'] = None\n"
        "from mlcvtf.commands.body_render import cli\n"
        "sys.argv[0] = 'body_render'\n"
        "cli()"
    )
    result = child(["-c", code, people, f"--output={tmp_path / 'out'}"])
    assert_one_line(result, "pip install numba")
