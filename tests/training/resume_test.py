"""The command killed at random moments, and on two virtual devices."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from mlcvtf.training import checkpoint, report
from tests.case import ROOT

RECIPE = ROOT / "tests/training/small_recipe.py"
# Cosine and AdamW, the moving average and the augmentation are the recipe's own.
KEYS = [
    "--config.early_stopping=val_loss",
    "--config.patience=11",
    "--config.epochs=12",
    "--config.steps=20",
    "--config.checkpoint_steps=3",
]
# Two devices of one processor, then the command as the executable runs it.
MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from mlcvtf.commands import train
sys.argv[0] = "apps/train"
train.cli()
"""


def start(program, workdir, *flags, **environment):
    arguments = [f"--config={RECIPE}", f"--workdir={workdir}", *flags]
    with open(f"{workdir}.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        )


def finish(program, workdir, *flags, **environment):
    """Runs to the end; returns the exit code."""
    return start(program, workdir, *flags, **environment).wait(600)


def steps_done(workdir):
    """Reads how many steps the checkpoint has behind it; 0 without one."""
    path = workdir / checkpoint.FILE
    if not path.is_file():
        return 0
    with np.load(path, allow_pickle=False) as stored:
        return json.loads(stored["meta"].tobytes())["done"]


def outcome(workdir):
    """Returns what must be equal: the figures and the log without its seconds."""
    log = report.read_log(workdir / "log.jsonl")
    lines = [{k: v for k, v in line.items() if k != "seconds"} for line in log]
    return json.loads((workdir / "figures.json").read_text()), lines


def digest(path):
    """Hashes a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def wait_for_a_checkpoint(process, workdir):
    """Returns when a process has written its first one."""
    path = workdir / checkpoint.FILE
    before, deadline = digest(path), time.monotonic() + 300
    while digest(path) == before:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_bit(tmp_path):
    program, flags = ["apps/train"], ["--deterministic", *KEYS, "--config.pause=0.05"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(program, whole, *flags) == 0
    moments, within = random.Random(0), []
    for kill in range(10):
        process = start(program, killed, *flags)
        if kill % 5:
            wait_for_a_checkpoint(process, killed)
            time.sleep(moments.uniform(0.0, 1.5))
        else:
            # While it starts, reads the checkpoint, or builds.
            time.sleep(moments.uniform(0.0, 10.0))
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()
        within.append(steps_done(killed) % 20)
        print(f"kill {kill + 1}: checkpoint at step {steps_done(killed)}")
    assert finish(program, killed, "--resume", *flags) == 0
    middle = sum(step > 0 for step in within)
    print(f"{middle} of {len(within)} kills left a checkpoint within an epoch")
    assert middle >= 5
    assert outcome(killed) == outcome(whole)
    log = (tmp_path / "killed.log").read_text()
    assert "Traceback" not in log and "\r" not in log
    text = (killed / "report.md").read_text()
    assert "where val_loss was best" in text and "--resume" in text


def train_mirrored(workdir, **environment):
    flags = ["--strategy=mirrored", *KEYS, "--config.epochs=3"]
    return finish(["-c", MIRRORED], workdir, *flags, **environment)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(9, -9), (15, 130)])
def test_two_devices_killed_within_an_epoch_change_no_bit(tmp_path, number, code):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train_mirrored(whole) == 0, (tmp_path / "whole.log").read_text()
    assert "MirroredStrategy, 2 replicas" in (whole / "report.md").read_text()
    assert train_mirrored(killed, SMALL_RECIPE_KILL=f"1,18,{number}") == code
    # Batches are made at most ten steps and the next two ahead.
    assert 20 < steps_done(killed) < 40
    if code == 130:
        last = (tmp_path / "killed.log").read_text().splitlines()[-1]
        assert last.startswith("train: stopped by SIGTERM after step "
                               f"{steps_done(killed)}, with a")
    assert train_mirrored(killed) == 0, (tmp_path / "killed.log").read_text()
    figures, lines = outcome(killed)
    expected_figures, expected = outcome(whole)
    assert figures == expected_figures
    # The sums in metrics are kept for both replicas together: equal up to rounding.
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, rel=1e-5)


def test_two_devices_train_the_smoke_form(tmp_path):
    folder = tmp_path / "smoke"
    flags = ["--strategy=mirrored", "--config.smoke=True"]
    code = finish(["-c", MIRRORED], folder, *flags)
    assert code == 0, (tmp_path / "smoke.log").read_text()
    assert "MirroredStrategy, 2 replicas" in (folder / "report.md").read_text()
    assert steps_done(folder) == 2


def test_a_deterministic_run_keeps_its_threads(tmp_path):
    folder, flags = tmp_path / "run", ["--deterministic", "--config.smoke=True"]
    program = ["apps/train"]
    assert finish(program, folder, "--threads=1", *flags) == 0
    text = (folder / "report.md").read_text()
    assert "| deterministic | True |" in text
    assert "| threads within an operation | 1 |" in text
    assert finish(program, folder, "--threads=3", *flags) == 1
    line = (tmp_path / "run.log").read_text().splitlines()[-1]
    assert line.startswith("train: a deterministic training goes on with")
    assert "threads between operations = 1 in" in line and line.endswith("now 3")
