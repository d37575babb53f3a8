"""A model saved as `.keras` and loaded without its code's help does the same."""

import keras
import pytest

from tests.case import assert_same_tree
from tests.conformance import descriptors


@pytest.mark.parametrize("name", descriptors.MODELS)
def test_keras_file(name, tmp_path):
    model, inputs, outputs = descriptors.reference(name)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert [v.shape for v in copy.variables] == [v.shape for v in model.variables]
    actual = descriptors.arrays(copy(inputs, training=False))
    assert_same_tree(actual, outputs, 1e-6)
