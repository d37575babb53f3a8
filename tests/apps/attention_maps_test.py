"""The executable, on a small model and a picture."""

import numpy as np
import pytest
from PIL import Image

from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.classifier import ImageClassifier
from tests.case import child

NAMES = ["attention_distance", "attention_rollout", "patch_filters",
         "position_similarity"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    backbone = vit(Variant(2, 16, 24, 2, 8), resolution=32)
    ImageClassifier(backbone, 3).save(folder / "model.keras")
    draw = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(draw).save(folder / "picture.png")
    return folder


def run(files, output, model="model.keras", image="picture.png"):
    return child(["apps/attention_maps", f"--model={files / model}",
                  f"--image={files / image}", f"--output={output}"])


def test_writes_four_pictures(files, tmp_path):
    result = run(files, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"{name}.png" for name in NAMES]
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("16 principal components of 8x8 filters")
    assert "2 blocks of 2 heads" in lines[2] and "of at most 45.3 pixels" in lines[2]
    rollout = np.asarray(Image.open(tmp_path / "out" / "attention_rollout.png"))
    picture = np.asarray(Image.open(files / "picture.png"))
    assert rollout.shape == (30, 104, 3)
    np.testing.assert_array_equal(rollout[:, :50], picture)


@pytest.mark.parametrize(("change", "message"), [
    ({"model": "none.keras"}, "--model is a .keras file, there is none at"),
    ({"model": "picture.png"}, "Keras cannot read"),
    ({"image": "model.keras"}, "a picture must be"),
    ({"image": "none.png"}, "a picture must be a readable file"),
])
def test_bad_input_is_one_line(files, tmp_path, change, message):
    result = run(files, tmp_path / "out", **change)
    assert result.returncode == 1 and result.stdout == ""
    # TensorFlow's own lines come before.
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("attention_maps: ") and message in line
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
