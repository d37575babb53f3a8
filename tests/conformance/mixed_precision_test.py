"""In mixed precision, weights stay float32 and results and steps stay sane."""

import keras
import numpy as np
import pytest

from tests.case import assert_same_tree
from tests.conformance import descriptors
from tests.conformance.rows import ROWS


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", ROWS)
def test_close_to_float32(name, mixed_bfloat16):
    keras.config.set_dtype_policy("float32")
    _, inputs, expected = descriptors.reference(name)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = descriptors.build(name)
    actual = descriptors.arrays(model(inputs, training=False))
    # bfloat16 has 8 significant bits; errors add up over some twenty layers.
    assert_same_tree(actual, expected, 0.05)
    for variable in model.trainable_variables:
        assert keras.backend.standardize_dtype(variable.dtype) == "float32"
    before, after = descriptors.fit_step(name, model, eager=True)
    assert np.isfinite(before) and np.isfinite(after)
