"""Processes on loopback that train together, for tests."""

import json
import os
import socket
import subprocess
import sys
import time

from tests.case import ROOT


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
