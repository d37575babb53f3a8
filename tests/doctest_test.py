"""Runs the `>>>` examples of every docstring in the package."""

import doctest
import importlib

import pytest

from tests.case import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "mlcvtf").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples():
    assert "mlcvtf.embedding.alignment" in MODULES
    assert any(name.startswith("mlcvtf.ops.") for name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    module = importlib.import_module(name)
    result = doctest.testmod(
        module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert result.attempted > 0 and result.failed == 0
