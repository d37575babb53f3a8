"""Chooses devices and machines through TensorFlow's `tf.distribute`.

    strategy = mlcvtf.training.strategy.create("auto")
    with strategy.scope():
        model = ...
        model.compile(...)
    model.fit(...)

`create` also installs what Keras lacks there (`keras_distribution.py`), so a script of
one's own needs no more than this. On two machines it runs once on each, with
`TF_CONFIG` set as docs/training.md says.
"""

import faulthandler
import functools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from mlcvtf.errors import InputError

NAMES = ("auto", "one_device", "mirrored", "multi_worker")
# Seconds between two lines about workers that are not there yet.
REPORT_SECONDS = 15.0
# A process that lost a worker may hang in TensorFlow's threads when it ends.
EXIT_SECONDS = 20
# Of a process whose peer is gone.
LOST_EXIT_CODE = 3


def create(
    name: str = "auto",
    devices: list[str] | None = None,
    patience: float = 600.0,
) -> tf.distribute.Strategy:
    """Makes the strategy that a name stands for and installs what Keras lacks.

    Args:
        name: `one_device`; `mirrored` for all devices of this machine (its GPUs, or
            its CPUs where it has none); `multi_worker` for the machines of
            `TF_CONFIG`, which must come before anything computes with TensorFlow;
            `auto`: multi_worker where `TF_CONFIG` is set, mirrored with two visible
            GPUs or more, else one_device.
        devices: of `mirrored`, such as `["GPU:0", "GPU:1"]`; all by default.
        patience: seconds that a worker waits for the others to start. It names
            missing ones on stderr every 15 seconds and then ends with code 3.

    Returns:
        A `tf.distribute.Strategy`: models are built and compiled in its `scope()`.

    Raises:
        InputError: an unknown name, a wrong `TF_CONFIG`, a version of Keras that is
            not supported, or TensorFlow computed before `multi_worker` was made.
    """
    from mlcvtf.training import keras_distribution

    if name not in NAMES:
        raise InputError(f"a strategy is one of {', '.join(NAMES)}; received {name}")
    if name == "auto":
        several = len(tf.config.get_visible_devices("GPU")) > 1
        name = "mirrored" if several else "one_device"
        name = "multi_worker" if os.environ.get("TF_CONFIG") else name
    if name == "one_device":
        keras_distribution.expect(None)
        return tf.distribute.get_strategy()
    keras_distribution.install()
    strategy = _mirrored(devices) if name == "mirrored" else _multi_worker(patience)
    several = strategy.num_replicas_in_sync > 1
    keras_distribution.expect(strategy if several else None)
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Says whether this process is the one that writes models, logs and figures."""
    if workers(strategy) == 1:
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def workers(strategy: tf.distribute.Strategy) -> int:
    """Counts the processes that train together."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1
    cluster = strategy.cluster_resolver.cluster_spec()
    return max(1, sum(cluster.num_tasks(job) for job in cluster.jobs))


def gather(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """Collects numbers from every replica; all workers call it together.

    Args:
        strategy: of this process.
        numbers: n int64 of this process, as many on all workers.

    Returns:
        int64 `[replicas, n]`, equal on all workers.
    """
    found = _gathering(strategy)(tf.constant([numbers], tf.int64))
    found = found.values[0] if hasattr(found, "values") else found
    return found.numpy()


@functools.lru_cache(maxsize=1)
def _gathering(strategy):
    """Compiles the collection once: it is called again and again while training."""

    @tf.function
    def collect(numbers):
        # A copy is on the replica's device, which an argument is not.
        numbers = tf.identity(numbers)
        return tf.distribute.get_replica_context().all_gather(numbers, axis=0)

    return lambda numbers: strategy.run(collect, args=(numbers,))


def end_soon() -> None:
    """Ends this process in 20 seconds, with code 1, should it not end by itself.

    A worker whose peer died can wait for it without end in TensorFlow's threads,
    where no Python runs any more; so this uses a watchdog in C.
    """
    null = open(os.devnull, "w")  # noqa: SIM115 (open until the process ends)
    faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=null)


def _mirrored(devices):
    if devices is None:
        devices = tf.config.list_logical_devices("GPU")
        devices = devices or tf.config.list_logical_devices("CPU")
        devices = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(devices)


def _multi_worker(patience):
    own, peers = _cluster(os.environ.get("TF_CONFIG", ""))
    _wait_for(peers, own, patience)
    # Should a worker die right now, TensorFlow would wait for it without running any
    # Python, so the watchdog is one in C.
    faulthandler.dump_traceback_later(patience, exit=True)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise InputError(
            "multi_worker is created before anything computes with TensorFlow (a "
            "tensor, a variable, a layer with a seed); received a program that "
            "already did"
        ) from None
    finally:
        faulthandler.cancel_dump_traceback_later()
        if threading.current_thread() is threading.main_thread():
            # TensorFlow's coordination swallows SIGTERM; a worker must end by it.
            signal.signal(signal.SIGTERM, terminate or signal.SIG_DFL)


def _cluster(text):
    """Checks TF_CONFIG; returns the own address and {name: address} of the others."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        own = task["type"], task["index"]
        hash(own)
        addresses = {
            (job, index): address
            for job, job_addresses in cluster.items()
            for index, address in enumerate(job_addresses)
        }
        valid = all(
            isinstance(address, str) and address.rpartition(":")[2].isdigit()
            for address in addresses.values()
        )
        valid = valid and {job for job, _ in addresses} <= {"chief", "worker"}
        valid = valid and len(cluster.get("chief", [0])) == 1
    except (ValueError, TypeError, KeyError, AttributeError):
        valid = False
    if not valid:
        raise InputError(
            'TF_CONFIG is {"cluster": {"worker": ["host:port", ...]}, "task": '
            '{"type": "worker", "index": 0}}, with or without one chief; received '
            + (" ".join(text.split())[:200] or "none")
        )
    if own not in addresses:
        raise InputError(
            f"the task of TF_CONFIG is one of its cluster, received {own[0]} {own[1]} "
            f"of {', '.join(f'{job} {index}' for job, index in addresses)}"
        )
    address = addresses.pop(own)
    return address, {f"{job} {i}": peer for (job, i), peer in addresses.items()}


def _wait_for(peers, own, patience):
    """Returns when all other workers listen, here or already in TensorFlow.

    Raises:
        InputError: some do not within `patience` seconds.
    """
    start = time.monotonic()
    reported = 0.0
    port = int(own.rpartition(":")[2])
    try:
        listener = socket.create_server(("", port), backlog=128)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"a worker listens on its port of TF_CONFIG; received {own}: {error}",
            LOST_EXIT_CODE,
        ) from None
    with listener:
        listener.setblocking(False)
        while missing := [f"{n} at {a}" for n, a in peers.items() if not _listens(a)]:
            waited = time.monotonic() - start
            if waited >= patience:
                raise InputError(
                    f"all workers start within {patience:.0f} s of each other; "
                    f"received no answer from {', '.join(missing)}", LOST_EXIT_CODE
                )
            if waited - reported >= REPORT_SECONDS:
                reported = waited
                print(f"{own} has waited {waited:.0f} s for {', '.join(missing)}",
                      file=sys.stderr, flush=True)
            _hang_up(listener)
            time.sleep(0.2)


def _hang_up(listener):
    """Ends the calls of others, who only want to know whether somebody answers."""
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return


def _listens(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 2).close()
    except OSError:
        return False
    return True
