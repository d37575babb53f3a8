"""Reads and compares what the children of the training tests computed."""

import numpy as np


def results(path):
    """Reads {case: {name: array}}."""
    cases = {}
    with np.load(path) as file:
        for key in file:
            case, _, name = key.partition(": ")
            cases.setdefault(case, {})[name] = file[key]
    return cases


def check_equal(case, actual, expected, tolerance):
    """Compares what two children computed, relative to the largest value."""
    assert actual[case].keys() == expected[case].keys()
    for name, one in expected[case].items():
        if name == "file":
            continue
        one, other = one.astype("float64"), actual[case][name].astype("float64")
        assert np.isfinite(one).all(), (case, name)
        scale = max(1.0, np.abs(one).max())
        np.testing.assert_allclose(
            other, one, rtol=0, atol=tolerance * scale, err_msg=f"{case}: {name}"
        )


def check_moved(case, expected):
    """An equality of weights that never moved would say nothing."""
    if "losses" in expected[case]:
        first, last = expected[case]["losses"]
        assert last < 0.99 * first
        return
    for name in expected[case]:
        if name.endswith("|kernel"):
            assert np.abs(expected[case][name]).max() > 0.1
