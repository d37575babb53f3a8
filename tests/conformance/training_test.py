"""Some steps of `fit` on one batch lower the loss and change every weight."""

import numpy as np
import pytest

from tests.conformance import descriptors
from tests.conformance.rows import ROWS


@pytest.mark.parametrize("name", ROWS)
def test_fit(name):
    model = descriptors.build(name)
    if not model.trainable_variables:
        pytest.skip(f"{name} has nothing to train")
    start = [np.array(v) for v in model.trainable_variables]
    before, after = descriptors.fit_step(name, model)
    assert np.isfinite(before) and after < before
    still = [v.path for v, w in zip(model.trainable_variables, start, strict=True)
             if np.array_equal(v, w)]
    assert not still, "weights that no gradient reaches"
