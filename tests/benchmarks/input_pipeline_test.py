"""The benchmark of input compares the same work, and runs on a small set."""

import json

import numpy as np
import pytest

from mlcvtf.errors import InputError
from tests.benchmarks.face_benchmarks_test import program
from tests.case import ROOT, child
from tests.data.made_sets import coco, encoded, noise, write, write_zip


@pytest.fixture
def annotations(tmp_path):
    """A set of 6 JPEG, as the benchmark reads it."""
    content = coco(6)
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("png", "jpg")
    write_zip(tmp_path / "train.zip", {
        f"{i}.jpg": encoded(noise(i), "jpg", quality=95) for i in range(6)})
    return write(tmp_path / "train.json", json.dumps(content))


def started(annotations, *arguments):
    module = program("input_pipeline")
    module.FLAGS(["input_pipeline", f"--annotations={annotations}", "--batch_size=2",
                  "--height=30", "--width=80", *arguments])
    return module


def test_the_bare_loop_makes_the_same_pictures(annotations, tmp_path):
    module = started(annotations, "--images=6")
    found = module.unpacked(annotations, tmp_path / "pictures")
    made = [batch[0] for batch in module.pipelines(found)[
        "ours: decode, fit, boxes, batch"].as_numpy_iterator()]
    bare = list(module.pipelines(found)["tf.data: decode, fit, batch"]
                .as_numpy_iterator())
    assert np.shape(made) == np.shape(bare) == (3, 2, 30, 80, 3)
    # Ours are shuffled; each has its twin, but for the decoders' rounding.
    ours, bare = (np.reshape(x, (6, -1)) for x in (made, bare))
    differences = np.abs(ours[:, None] - bare[None]).mean(-1)
    assert differences.min(axis=1).max() < 3
    assert sorted(differences.argmin(axis=1)) == list(range(6))


def test_a_pass_has_the_pictures_that_there_are(annotations, tmp_path):
    module = started(annotations, "--images=7")
    with pytest.raises(InputError, match="from 2 pictures, a batch, to 6, all"):
        module.unpacked(annotations, tmp_path / "pictures")
    with pytest.raises(InputError, match="no .*other.zip"):
        module.unpacked(annotations.with_name("other.json"), tmp_path / "pictures")


def test_help_tells_how_it_is_run(capsys):
    module = program("input_pipeline")
    code = module.command.run(module.main, module.FLAGS, module.__doc__,
                              ["input_pipeline", "--help"])
    assert code == 0
    text = capsys.readouterr().out
    assert text.startswith(module.__doc__.strip()) and "--write" in text


@pytest.mark.slow
def test_it_prints_both_tables(annotations):
    before = sorted((ROOT / "docs" / "benchmarks").iterdir())
    result = child([ROOT / "benchmarks" / "input_pipeline", "--images=4", "--runs=2",
                    "--steps=2", "--height=64", "--width=64", "--batch_size=2",
                    f"--annotations={annotations}"], timeout=600)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "4 pictures of" in result.stdout and "command" in lines[-4]
    rows = [line.split("|") for line in lines if line.startswith("| ")]
    rates = {row[1].strip(): float(row[2]) for row in rows[1:9]}
    assert len(rates) == 8 and min(rates.values()) > 0
    steps = {row[1].strip(): row for row in rows[10:]}
    assert set(steps) == {"a batch in memory", "decode", "decode, augment"}
    assert float(steps["a batch in memory"][4]) == 1
    assert 0 <= float(steps["decode"][3].strip(" %")) <= 100
    assert sorted((ROOT / "docs" / "benchmarks").iterdir()) == before
