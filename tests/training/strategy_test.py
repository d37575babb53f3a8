"""Training on several devices and machines equals training on one.

Children train the cases of `strategy_child.py`: one on one device, one on two virtual
CPUs, and, where it is slow, two on loopback.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.training import checkpoint, strategy
from tests.case import ROOT, child
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


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cluster(ports, index):
    """Gives the environment of a worker."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    config = json.dumps({"cluster": {"worker": workers}, "task": task})
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_CONFIG": config}


def run_workers(folder, arguments, seconds):
    """Runs two workers on loopback.

    Args:
        folder: for their output.
        arguments: gives, for an index, what follows the interpreter's name.
        seconds: after which both are killed.

    Returns:
        [(exit code, stderr, time of the end)] of both.
    """
    ports, processes, ends = free_ports(2), [], [None, None]
    deadline = time.monotonic() + seconds
    try:
        for index in range(2):
            with open(folder / f"stderr{index}", "w") as stderr:
                processes.append(subprocess.Popen(
                    [sys.executable, *map(str, arguments(index))], cwd=ROOT,
                    env=cluster(ports, index), stdout=subprocess.DEVNULL,
                    stderr=stderr,
                ))
        while None in ends and time.monotonic() < deadline:
            for index, process in enumerate(processes):
                if ends[index] is None and process.poll() is not None:
                    ends[index] = time.monotonic()
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    errors = [(folder / f"stderr{i}").read_text() for i in range(2)]
    assert None not in ends, f"no end after {seconds} s: {errors[0][-2000:]}"
    return [(p.returncode, errors[i], ends[i]) for i, p in enumerate(processes)]


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


RECIPE = """
import json, os, pathlib, signal
import keras, numpy as np
from mlcvtf.data.batches import EndlessBatches

KILL = pathlib.Path(__file__).with_name("kill")

def get_config():
    return {"seed": 1, "epochs": 3, "snapshot_epochs": 10, "checkpoint_steps": 3}

def smoke(config):
    pass

class Points(EndlessBatches):
    def __len__(self):
        return 20

    def batch(self, epoch, index):
        worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        if KILL.exists() and worker == 1 and (epoch, index) == (1, 18):
            os.kill(os.getpid(), signal.SIGKILL)
        x = np.random.default_rng((epoch, index)).normal(size=(8, 4))
        return x.astype("float32"), x[:, :1].astype("float32")

def build(config):
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, use_bias=False),
                              layers.BatchNormalization(), layers.ReLU(),
                              layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(0.01, use_ema=True), loss="mse")
    return model

def data(config):
    return Points()

def finish(config, model, workdir):
    model.evaluate(*Points().batch(0, 0), verbose=0)
    return {"weights": [w.tolist() for w in model.get_weights()]}
"""


@pytest.mark.slow
def test_a_killed_worker_ends_the_other_and_both_go_on_together(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE)

    def train(name):
        workdir = tmp_path / name
        return run_workers(tmp_path, lambda i: [
            "apps/train", f"--config={recipe}", f"--workdir={workdir}"], 200)

    assert [end[0] for end in train("whole")] == [0, 0]
    kill = tmp_path / "kill"
    kill.touch()
    survivor, dead = train("killed")
    kill.unlink()
    assert dead[0] == -9
    assert survivor[0] == 3
    assert survivor[2] - dead[2] < 60
    assert "one of them went away" in survivor[1].splitlines()[-1]
    assert "Traceback" not in survivor[1]
    log = (tmp_path / "killed/log.jsonl").read_text().splitlines()
    # The batches are made some steps ahead of the training.
    assert len(log) == 1 and not (tmp_path / "killed/model.keras").exists()
    with np.load(tmp_path / "killed" / checkpoint.FILE) as stored:
        done = json.loads(stored["meta"].tobytes())["done"]
    assert 20 < done < 40 and done % 3 == 0
    assert [end[0] for end in train("killed")] == [0, 0]
    whole, killed = (
        json.loads((tmp_path / name / "figures.json").read_text())["weights"]
        for name in ("whole", "killed")
    )
    assert whole == killed
    # A workdir that one of them does not see.
    ends = run_workers(tmp_path, lambda i: [
        "apps/train", f"--config={recipe}",
        f"--workdir={tmp_path / ('killed' if i == 0 else 'other')}"], 100)
    for code, error, _ in ends:
        assert code == 1
        assert "received finished steps 60, 0" in error.splitlines()[-1]
    assert not (tmp_path / "other").exists()


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
