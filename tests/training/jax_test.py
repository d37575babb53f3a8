"""Training on the JAX backend, on one device and on two, without TensorFlow."""

import importlib.util
import pathlib

import numpy as np
import pytest

from mlcvtf.training import fit
from tests.case import child
from tests.training.comparison import check_equal, check_moved, results

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed (pip install 'mlcvtf[jax]')",
)

CASES = ["everything", "generator", "settings", "detector", "embedder"]
OPTIONAL = [name for name in ("grain", "tensorflow") if importlib.util.find_spec(name)]
RECIPES = sorted(
    path.stem
    for path in (pathlib.Path(fit.__file__).parents[1] / "configs").glob("[a-z]*.py")
)
TWO = "--xla_force_host_platform_device_count=2"


def run_child(folder, strategy, *cases, seconds=600):
    path = folder / "out.npz"
    result = child(
        ["-m", "tests.training.jax_child", strategy, path, *cases],
        seconds,
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=TWO,
        # A model that is built again is not compiled again.
        JAX_COMPILATION_CACHE_DIR=str(folder),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return results(path)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return run_child(
        tmp_path_factory.mktemp("one"),
        "one_device",
        "placement",
        "resumed",
        *CASES,
        *OPTIONAL,
    )


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    return run_child(
        tmp_path_factory.mktemp("two"),
        "mirrored",
        "placement",
        "resumed",
        *CASES,
        *OPTIONAL,
    )


@pytest.mark.parametrize("case", [*CASES, "grain", "tensorflow"])
def test_two_devices_equal_one(case, mirrored, one_device):
    if case not in [*CASES, *OPTIONAL]:
        pytest.skip(f"{case} is not installed")
    check_equal(case, mirrored, one_device, 1e-5)
    check_moved(case, one_device)


def test_where_weights_and_batches_are(mirrored, one_device):
    assert one_device["placement"] == {"weights": 1}
    assert mirrored["placement"] == {"weights": 2, "rows of 8": 4, "rows of 7": 7}


def test_no_batch_is_left_out(mirrored):
    # 32 rows by 7 are 5 steps, twice; 21 rows are predicted.
    assert mirrored["everything"]["iterations"] == 10
    assert mirrored["everything"]["predicted"].shape == (21, 3)


def check_resumed(arrays):
    names = [key for key in arrays if key.startswith("whole ")]
    assert len(names) > 10
    for name in names:
        other = name.replace("whole", "again", 1)
        np.testing.assert_array_equal(arrays[name], arrays[other], err_msg=name)


@pytest.mark.parametrize("devices", ["one_device", "mirrored"])
def test_a_killed_training_goes_on_bit_for_bit(devices, request):
    check_resumed(request.getfixturevalue(devices)["resumed"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_goes_on_bit_for_bit_on_two_devices(name, tmp_path):
    case = f"recipe={name}"
    found = run_child(tmp_path, "mirrored", case, seconds=1200)
    check_resumed(found[case])
    assert not found["tensorflow"][""], "something imported TensorFlow"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "mirrored"])
def test_the_command_on_jax(strategy, tmp_path):
    result = child(
        [
            "apps/train",
            "--config=face_embedder",
            "--config.smoke=True",
            f"--workdir={tmp_path}",
            f"--strategy={strategy}",
        ],
        600,
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS=TWO,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "parameters: " in result.stdout


@pytest.mark.parametrize(
    "flag, environment", [("multi_worker", {}), ("auto", {"TF_CONFIG": "{}"})]
)
def test_several_machines_are_refused_in_one_line(flag, environment, tmp_path):
    result = child(
        [
            "apps/train",
            "--config=face_embedder",
            "--config.smoke=True",
            f"--workdir={tmp_path / 'none'}",
            f"--strategy={flag}",
        ],
        KERAS_BACKEND="jax",
        JAX_PLATFORMS="cpu",
        **environment,
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "several machines train on the TensorFlow backend" in result.stderr
    assert not (tmp_path / "none").exists()
