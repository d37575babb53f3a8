"""What a training runs on: versions, devices, threads, TensorFlow's determinism."""

import os
import platform
import subprocess

import keras
import numpy as np

import mlcvtf

DETERMINISTIC = "TF_DETERMINISTIC_OPS"


def make_deterministic() -> None:
    """Has TensorFlow choose operations that give the same bits in every run.

    It is read at the first computation, so this comes before; on another backend it
    does nothing. An operation that has no such form raises an error.
    """
    os.environ[DETERMINISTIC] = "1"


def set_threads(count: int) -> None:
    """Has TensorFlow compute with so many threads; comes before anything computes.

    Args:
        count: within an operation and between operations.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)


def arithmetic() -> dict:
    """Returns what the bits of a result depend on, as JSON values by name."""
    threads = {"threads": _cores()}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # 0 stands for TensorFlow's choice, one thread per core.
        threads = {
            "threads within an operation": (
                tf.config.threading.get_intra_op_parallelism_threads() or _cores()
            ),
            "threads between operations": (
                tf.config.threading.get_inter_op_parallelism_threads() or _cores()
            ),
        }
    deterministic = os.environ.get(DETERMINISTIC, "").lower() in ("1", "true")
    return {"deterministic": deterministic, **threads}


def _cores():
    """Counts the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on macOS.
        return os.cpu_count() or 1


def describe(strategy=None) -> dict:
    """Returns versions, machine and devices, as text by name.

    Args:
        strategy: a `tf.distribute.Strategy`, or None for one device.
    """
    described = {
        "mlcvtf": mlcvtf.__version__,
        "Python": platform.python_version(),
        "Keras": f"{keras.__version__} on {keras.backend.backend()}",
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        described["TensorFlow"] = tf.__version__
        gpus = len(tf.config.get_visible_devices("GPU"))
        described["GPUs"] = f"{gpus} ({_gpu_names()})" if gpus else "none"
    described["NumPy"] = np.__version__
    described["machine"] = f"{platform.system()}, {_processor()}, {_cores()} cores"
    described["strategy"] = "one device"
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        described["strategy"] = (
            f"{type(strategy).__name__}, {strategy.num_replicas_in_sync} replicas"
        )
    return described | {name: str(value) for name, value in arithmetic().items()}


def _gpu_names():
    try:
        return (
            subprocess.run(
                ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
            .stdout.replace("\n", " ")
            .strip()
        )
    except (OSError, subprocess.SubprocessError):
        return "of unknown kind"


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
        return lines[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.machine()
