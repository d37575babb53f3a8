"""Everything public that can be saved is in the descriptors."""

import importlib
import inspect
import typing

import keras
import pytest

from tests.case import ROOT
from tests.conformance.descriptors import LOSSES, METRICS, MODELS
from tests.conformance.rows import NETWORKS

AREAS = ("layers", "losses", "metrics", "optimizers", "backbones", "classification",
         "detection", "segmentation", "depth", "embedding", "generative")
KINDS = (keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric)
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for area in AREAS
    for path in sorted((ROOT / "mlcvtf" / area).rglob("*.py"))
    if path.name != "__init__.py"
]
# What the suites cannot hold, and where it is tested instead.
ELSEWHERE = {
    # It trains with TensorFlow's tapes on one device and in full precision, as its file
    # says; its fit, config and .keras are in tests/optimizers/newton_test.py.
    "mlcvtf.optimizers.newton.NewtonModel",
    # Nothing in it learns by gradients and its weights are integers; TensorFlow only.
    # Config, .keras, SavedModel, LiteRT and precision are in
    # tests/segmentation/forest_model_test.py.
    "mlcvtf.segmentation.body_parts.forest_model.BodyPartForest",
    "mlcvtf.segmentation.body_parts.forest_model.forest_model",
    # Likewise, and the cascade's windows are decided by exact comparisons; see
    # tests/detection/viola_jones/model_test.py.
    "mlcvtf.detection.viola_jones.model.CascadeDetector",
    "mlcvtf.detection.viola_jones.model.cascade_detector",
}
COVERED = {d.covers for part in (MODELS, LOSSES, METRICS) for d in part.values()}


def public(name):
    """Returns what a module defines: classes of `KINDS` and builders of models."""
    module = importlib.import_module(name)
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isclass(value) and issubclass(value, KINDS):
            yield value
        elif inspect.isfunction(value):
            returned = typing.get_type_hints(value).get("return")
            if inspect.isclass(returned) and issubclass(returned, KINDS):
                yield value


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_listed(name):
    missing = [
        thing.__name__ for thing in public(name)
        if thing not in COVERED and f"{name}.{thing.__name__}" not in ELSEWHERE
    ]
    assert not missing, f"list in tests/conformance/descriptors.py: {missing}"


def test_something_was_found():
    found = {thing.__name__ for name in MODULES for thing in public(name)}
    assert {"CenterNet", "InvertedResidual", "mobilenet_v2"} <= found


@pytest.mark.parametrize("thing", sorted(COVERED, key=lambda c: c.__name__))
def test_classes_are_registered_under_the_package(thing):
    if inspect.isclass(thing):
        assert keras.saving.get_registered_name(thing) == f"mlcvtf>{thing.__name__}"


def test_slow_networks_are_models():
    assert set(MODELS) >= NETWORKS
