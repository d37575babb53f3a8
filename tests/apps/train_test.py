"""The training command as a user calls it."""

import pathlib
import re
import subprocess
import sys

APP = pathlib.Path(__file__).parents[2] / "apps/train"


def train(*arguments):
    return subprocess.run(
        [sys.executable, APP, *arguments], capture_output=True, text=True, timeout=300
    )


def test_smoke_prints_figures_and_writes_a_model(tmp_path):
    result = train(
        "--config=face_embedder",
        "--config.smoke=True",
        f"--workdir={tmp_path}",
        "--config.batch_size=4",
    )
    assert result.returncode == 0, result.stderr
    assert "parameters: " in result.stdout
    assert (tmp_path / "model.keras").is_file()


def test_bad_input_is_one_line(tmp_path):
    for arguments, message in (
        (["--config=nothing"], "received nothing"),
        (["--config=face_detector", "--config.epoch=1"], "the nearest is epochs"),
        (["--config=face_detector", "--config.epochs=few"], "config.epochs=few"),
        (["--config=face_detector", "--config.epochs"], "--config.key=value, received"),
        (["--config=face_detector", "--resume"], "received .*, where there is none"),
        (
            ["--config=face_detector", "--config.checkpoint_steps=-1"],
            "checkpoint_steps is 0 or more; received -1",
        ),
    ):
        result = train(*arguments, f"--workdir={tmp_path}")
        assert result.returncode == 1
        # TensorFlow logs lines of its own when it is imported.
        assert re.search(message, result.stderr.splitlines()[-1])
        assert "Traceback" not in result.stderr
    assert train("--config=face_detector").returncode == 2
    for wrong in ("here", "--threads=0", "--deterministic=maybe", "--resume=perhaps",
                  "--tensorboard=some"):
        result = train("--config=face_detector", "--workdir=x", wrong)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
