"""A training that is run again, or goes on from a checkpoint, ends bit for bit alike.

Four steps of every model, by one process per backend.
"""

import importlib.util
import json

import pytest

from tests.case import child
from tests.conformance.descriptors import MODELS

# A layer and a model with a loss of its own.
QUICK = ["inverted_residual", "centernet_landmarks"]
BACKENDS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        ),
    )
    for name in ("tensorflow", "jax")
]


def check(backend, names):
    result = child(
        ["-m", "tests.conformance.in_child", "repeat", *names],
        1200,
        KERAS_BACKEND=backend,
        JAX_PLATFORMS="cpu",
    )
    lines = [json.loads(s) for s in result.stdout.splitlines() if s.startswith("{")]
    assert [line["name"] for line in lines] == names, result.stderr[-2000:]
    for line in lines:
        assert line["backend"] == backend and line["moved"] is not False
        assert line["again"] == [], f"two trainings of {line['name']} differ"
        assert line["resumed"] == [], f"{line['name']} goes on otherwise"


@pytest.mark.parametrize("backend", BACKENDS)
def test_again_and_resumed(backend):
    check(backend, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_others_again_and_resumed(backend):
    check(backend, [name for name in MODELS if name not in QUICK])
