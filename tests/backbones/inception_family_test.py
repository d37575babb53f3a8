"""Seeded Inception-v1, Inception-ResNet and DarkNet compute what their peers did."""

import numpy as np
import pytest

from tests.weights import make_inception_goldens as goldens
from tests.weights import peers


@pytest.mark.parametrize("name", goldens.NETWORKS)
def test_golden(name):
    with np.load(goldens.GOLDENS / f"{name}.npz") as file:
        expected = file["logits"]
    model, images = goldens.ours(name)
    found = np.asarray(model(images, training=False)["logits"])
    # The pictures differ by a hundred times the tolerance.
    assert peers.difference(expected[:1], expected[1:]) > 1e-2
    assert peers.difference(found, expected) <= 1e-4
