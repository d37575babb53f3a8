"""The executable: written pictures, printed lines, exit codes, bad input."""

import numpy as np
from PIL import Image

from tests.case import ROOT, child

APP = ROOT / "apps" / "landscapes"


def assert_one_line(result, *parts, code=1):
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert len(result.stderr.splitlines()) == 1
    for part in parts:
        assert part in result.stderr


def test_pictures_of_one_surface_and_the_figures(tmp_path):
    folder = tmp_path / "new" / "pictures"
    result = child([APP, f"--output={folder}", "--surfaces=canyon", "--steps=12",
                    "--frames=5"])
    assert result.returncode == 0, result.stderr
    still = ["canyon", *(f"figure_1_{i}" for i in range(1, 9))]
    moving = [name for name in still if name not in ("figure_1_2", "figure_1_4")]
    names = {*(f"{n}.png" for n in still), *(f"{n}.gif" for n in moving)}
    assert {path.name for path in folder.iterdir()} == names
    assert set(result.stdout.splitlines()) == {str(folder / name) for name in names}
    with Image.open(folder / "canyon.gif") as picture:
        frames = [np.array(picture.convert("RGB")) for index in range(picture.n_frames)
                  for _ in [picture.seek(index)]]
    assert len(frames) == 5
    with Image.open(folder / "canyon.png") as picture:
        assert picture.size == frames[0].shape[1::-1]
    # Every frame adds to the ways: the orange of momentum grows.
    orange = [(np.abs(frame - [213.0, 94.0, 0.0]).sum(-1) < 12).sum()
              for frame in frames]
    assert orange == sorted(orange) and orange[-1] > orange[0] + 100


def test_what_cannot_be_drawn_is_one_line(tmp_path):
    assert_one_line(child([APP]), "--output=DIR is needed", code=2)
    assert_one_line(child([APP, "x"]), "received x", code=2)
    assert_one_line(child([APP, f"--output={tmp_path}", "--batch_size=0"]),
                    "batch_size", code=2)
    assert_one_line(child([APP, f"--output={tmp_path}", "--surfaces=sphere,moon"]),
                    "surfaces are of sphere, canyon", "received moon")
    (tmp_path / "file").write_text("")
    assert_one_line(child([APP, f"--output={tmp_path / 'file'}"]),
                    "must be a folder", "File exists")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
