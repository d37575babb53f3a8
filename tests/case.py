"""What every part of the tests shares: places, checks and child processes."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def shared_data(name):
    """Returns the folder of a shared data set, or skips the test without it."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs the shared data set {name}, there is no {folder}")
    return folder


def child(arguments, timeout=120, **environment):
    """Runs this Python on `arguments` in a child process, from the checkout.

    Args:
        arguments: what follows the interpreter's name.
        timeout: seconds, after which the test fails.
        **environment: variables to set in the child.

    Returns:
        `subprocess.CompletedProcess` with text in `stdout` and `stderr`.
    """
    variables = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def assert_same_tree(actual, expected, tolerance=0.0):
    """Checks that two nested outputs have equal keys, shapes and near values.

    Args:
        actual: a tensor, or a dict, list or tuple of such.
        expected: the same structure.
        tolerance: largest absolute difference, relative to the larger of 1 and the
            largest expected value.
    """
    if isinstance(expected, dict):
        assert set(actual) == set(expected)
        for key in expected:
            assert_same_tree(actual[key], expected[key], tolerance)
        return
    if isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same_tree(one, other, tolerance)
        return
    actual, expected = as_array(actual), as_array(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all(), "the expected values are not finite"
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def as_array(tensor):
    """Converts a tensor of any floating type to a float32 or integer array."""
    array = np.asarray(tensor)
    if array.dtype.kind not in "iub":
        return array.astype(np.float32)
    return array
