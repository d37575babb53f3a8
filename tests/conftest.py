"""Settings of every test: quiet TensorFlow, fixed seeds, no network."""

import gc
import importlib.util
import os
import random
import signal
import socket
import sys

import numpy as np
import pytest

# Before TensorFlow is imported by any test.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "agg")

# A shell starts what it runs in the background with Ctrl-C ignored, and the programs
# under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# PyTorch's compiler, which torchvision imports, hangs when TensorFlow was there first.
if importlib.util.find_spec("torchvision"):
    import torchvision  # noqa: F401

LOCAL = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "")


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Starts every test from the same random state, Keras included if imported."""
    random.seed(0)
    np.random.seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def forgotten_models():
    """Frees a module's models at its end; without that thousands add up to 10 GB."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
        gc.collect()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Fails a test that connects to anything but this machine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in LOCAL:
            pytest.fail(f"tests need no network, one connects to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
