"""The same models take steps of `fit` on the JAX backend."""

import importlib.util
import json
import math

import pytest

from tests.case import child
from tests.conformance.descriptors import MODELS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None,
    reason="JAX is not installed (pip install 'mlcvtf[jax]')",
)


@pytest.fixture(scope="module")
def reports():
    result = child(["-m", "tests.conformance.in_child", "fit", *MODELS], 900,
                   KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    lines = [json.loads(s) for s in result.stdout.splitlines() if s.startswith("{")]
    return {line["name"]: line for line in lines}, result.stderr


@pytest.mark.parametrize("name", MODELS)
def test_fit(reports, name):
    assert name in reports[0], reports[1][-2000:]
    report = reports[0][name]
    assert report["backend"] == "jax" and report["finite"]
    if report["losses"] is not None:
        first, last = report["losses"]
        assert math.isfinite(first) and last < first
