"""The additive angular margin against its formula."""

import numpy as np
import pytest

from mlcvtf.layers.margins import AdditiveAngularMargin


def oracle(x, w, labels, s, m):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    w = w / np.linalg.norm(w, axis=0, keepdims=True)
    angle = np.arccos(np.clip(x @ w, -1, 1))
    logits = np.cos(angle)
    for row, label in enumerate(labels):
        if label >= 0:
            theta = angle[row, label]
            logits[row, label] = (
                np.cos(theta + m)
                if theta + m < np.pi
                else np.cos(theta) - m * np.sin(m)
            )
    return s * logits


def test_equals_the_formula_in_angles():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 5)).astype(np.float32)
    labels = generator.integers(-1, 7, 64)
    layer = AdditiveAngularMargin(7, scale=30.0, margin=0.5)
    found = np.asarray(layer(x, labels))
    expected = oracle(x, np.asarray(layer.centres), labels, 30.0, 0.5)
    assert (labels == -1).any()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_margin_beyond_pi_still_falls():
    layer = AdditiveAngularMargin(2, scale=1.0, margin=0.5)
    layer.build((None, 2))
    layer.centres.assign([[1.0, 0.0], [0.0, 1.0]])
    angles = np.linspace(2.0, np.pi - 1e-3, 50)
    x = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    values = np.asarray(layer(x, np.zeros(50, np.int32)))[:, 0]
    assert np.all(np.diff(values) < 0)


def test_norm_of_the_input_does_not_matter():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    layer = AdditiveAngularMargin(3)
    one = np.asarray(layer(x, np.zeros(4, np.int32)))
    ten = np.asarray(layer(10 * x, np.zeros(4, np.int32)))
    np.testing.assert_allclose(one, ten, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"classes": 1}, "classes is at least 2, received 1"),
        ({"classes": 2, "scale": 0}, "scale is positive, received 0"),
        ({"classes": 2, "margin": 2}, r"margin is in \[0, pi / 2\), received 2"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdditiveAngularMargin(**arguments)
