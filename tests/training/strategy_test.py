"""Training on several devices and machines equals training on one.

Children train the cases of `strategy_child.py`: one on one device, one on two virtual
CPUs, and, where it is slow, two on loopback.
"""

import re
import subprocess
import sys
import time

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.training import strategy
from tests.case import ROOT, child
from tests.training.cluster import cluster, free_ports, run_workers
from tests.training.comparison import check_equal, check_moved, results

CHILD = "tests.training.strategy_child"
# float32, full batches, no random layer: what equals one device.
EXACT = ["everything", "moving_average", "clipping", "decay", "groups",
         "accumulation", "scaled_accumulation", "overflow", "endless", "counted",
         "saved", "masked", "detector", "embedder", "executions"]
CASES = [*EXACT, "half_precision", "odd"]
# Their largest differences by rounding, and by batches that are not full.
LOOSE = {"half_precision": 5e-3, "odd": 0.5}


def run_child(strategy, path, *cases):
    result = child(["-m", CHILD, strategy, path, *cases], 600)
    assert result.returncode == 0, result.stderr[-3000:]
    return results(path)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "out.npz"
    return run_child("one_device", path, *CASES)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    path = tmp_path_factory.mktemp("mirrored") / "out.npz"
    return run_child("mirrored", path, *CASES, "refusals")


@pytest.mark.parametrize("case", EXACT)
def test_two_replicas_equal_one_device(case, mirrored, one_device):
    check_equal(case, mirrored, one_device, 1e-5)
    check_moved(case, one_device)
    assert mirrored[case].get("spread", 0) == 0, "the replicas drifted apart"


def check_figures(cases):
    """What the equality with one device leaves open."""
    # 4 steps an epoch, of which one overflows on the last replica only.
    assert cases["overflow"]["iterations"] == 6
    assert cases["overflow"]["scale"] == 64.0 / 4
    # 16 steps, some left out, none of them NaN, on all replicas alike.
    half = cases["half_precision"]
    assert 0 < half["iterations"] < 16
    assert half["scale"] == 2.0**22 / 2 ** (16 - half["iterations"])
    assert all(np.isfinite(values).all() for values in half.values())
    assert half["spread"] == 0
    # 32 rows in batches of 7.
    assert cases["odd"]["iterations"] == 5 and cases["odd"]["spread"] == 0
    assert all(np.isfinite(values).all() for values in cases["odd"].values())
    # 8 steps, and the same whether one or three are taken at once.
    executions = cases["executions"]
    assert executions["iterations by 3"] == 8
    for name in ("weights", "predicted", "val_loss"):
        np.testing.assert_allclose(executions[f"{name} by 3"],
                                   executions[f"{name} by 1"], rtol=0, atol=1e-6)
    # 4 steps of 8 rows: no phantom step in the count or in the metric.
    assert cases["counted"]["iterations"] == 4
    np.testing.assert_allclose(
        cases["counted"]["accuracy"], cases["counted"]["right"], atol=1e-6
    )
    assert not cases["saved"]["synchronized"].any()


def test_figures_of_two_replicas(mirrored):
    check_figures(mirrored)


REFUSED = {
    "length": "known length.*received data of unknown length",
    "evaluated length": "known length",
    "validation length": "known length",
    "optimizer": "received the optimizer .*iteration from outside",
    "layer": "received the layer weight .*kernel from outside",
    "model": "received sequential.* built outside",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, mirrored):
    check_line(str(mirrored["refusals"][name]), REFUSED[name])


def check_line(text, pattern):
    assert re.search(pattern, text), text
    assert len(text.splitlines()) == 1


def test_auto_shard_off_is_fine_on_one_machine(mirrored):
    assert str(mirrored["refusals"]["off"]) == ""


def test_a_file_written_by_two_replicas_loads_on_jax(tmp_path, mirrored):
    pytest.importorskip("jax", reason="needs jax (the extra jax)")
    path = tmp_path / "model.keras"
    path.write_bytes(mirrored["saved"]["file"].tobytes())
    code = ("import keras, sys; print(keras.backend.backend(), "
            "keras.models.load_model(sys.argv[1]).count_params())")
    result = child(["-c", code, path], KERAS_BACKEND="jax")
    assert result.stdout.startswith("jax "), result.stderr[-2000:]


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    ends = run_workers(
        folder,
        lambda i: ["-m", CHILD, "auto", folder / f"{i}.npz", *CASES, "refusals"],
        600,
    )
    for code, error, _ in ends:
        assert code == 0, error[-3000:]
    return [results(folder / f"{i}.npz") for i in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_workers_equal_each_other_and_one_device(case, two_workers, one_device):
    chief, other = two_workers
    for name, values in chief[case].items():
        if name == "file":
            continue
        np.testing.assert_array_equal(values, other[case][name], err_msg=name)
    check_equal(case, chief, one_device, LOOSE.get(case, 1e-4))


@pytest.mark.slow
def test_figures_of_two_workers(two_workers):
    check_figures(two_workers[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REFUSED, "off"])
def test_what_two_workers_refuse(name, two_workers):
    for cases in two_workers:
        check_line(
            str(cases["refusals"][name]), (REFUSED | {"off": "received OFF"})[name]
        )


CREATE = """
import sys
from mlcvtf.training import strategy
strategy.REPORT_SECONDS = 1
if sys.argv[1:]:
    import tensorflow as tf
    tf.constant(1.0)
try:
    strategy.create("multi_worker", patience=3)
except strategy.InputError as error:
    sys.exit(str(error))
"""


def test_a_missing_worker_is_named():
    ports = free_ports(2)
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", CREATE], cwd=ROOT, env=cluster(ports, 1),
        capture_output=True, text=True, timeout=100,
    )
    assert result.returncode == 1
    assert time.monotonic() - start < 60
    missing = f"worker 0 at 127.0.0.1:{ports[0]}"
    assert f"has waited 1 s for {missing}" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.endswith(f"received no answer from {missing}")


def test_a_tensor_before_the_strategy_is_named():
    result = subprocess.run(
        [sys.executable, "-c", CREATE, "early"], cwd=ROOT,
        env=cluster(free_ports(1), 0), capture_output=True, text=True, timeout=100,
    )
    assert result.returncode == 1
    check_line(result.stderr.splitlines()[-1], "before anything computes")


def test_a_worker_ends_by_sigterm():
    code = ("import os, signal, time\n"
            "from mlcvtf.training import strategy\n"
            "strategy.create('multi_worker', patience=30)\n"
            "os.kill(os.getpid(), signal.SIGTERM)\n"
            "time.sleep(5)")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=cluster(free_ports(1), 0),
        capture_output=True, text=True, timeout=100,
    )
    assert result.returncode == -15, result.stderr[-2000:]


@pytest.mark.parametrize("config", [
    "", "{", "[]", '{"cluster": {"worker": ["host"]}, "task": {"type": "worker", '
    '"index": 0}}', '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": [0]}}',
])
def test_wrong_tf_config_is_one_line(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError) as caught:
        strategy.create("multi_worker")
    check_line(str(caught.value), "TF_CONFIG.*received")


def test_unknown_name_and_one_device(monkeypatch):
    with pytest.raises(InputError, match="one of auto.*received two"):
        strategy.create("two")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    one = strategy.create("one_device")
    assert one.num_replicas_in_sync == 1 == strategy.workers(one)
    assert strategy.is_chief(one)
