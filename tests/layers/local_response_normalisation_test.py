"""Local response normalisation against TensorFlow's and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mlcvtf.layers.local_response_normalisation import LocalResponseNormalisation


@pytest.mark.parametrize("size, alpha, beta, k", [
    (5, 1e-4, 0.75, 2.0), (3, 0.5, 0.6, 1.0), (7, 0.1, 1.5, 0.3), (1, 1.0, 0.5, 1.0),
])
def test_equals_tensorflow(size, alpha, beta, k):
    x = np.random.default_rng(0).normal(0, 10, (2, 3, 4, 6)).astype("float32")
    expected = tf.nn.local_response_normalization(x, size // 2, k, alpha, beta)
    found = LocalResponseNormalisation(size, alpha, beta, k)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_by_hand():
    x = np.array([[1.0, 2.0, 3.0]], "float32")
    found = LocalResponseNormalisation(3, 1.0, 1.0, 1.0)(x)
    np.testing.assert_allclose(found, [[1 / 6, 2 / 15, 3 / 14]], rtol=1e-6)


def test_large_values_in_half_precision_stay_finite():
    x = np.full((1, 1, 1, 4), 3000.0, "float16")
    found = np.asarray(LocalResponseNormalisation(alpha=1.0, dtype="float16")(x))
    assert found.dtype == np.float16 and np.isfinite(found).all() and found.min() > 0


def test_refuses():
    with pytest.raises(ValueError, match="size is odd and positive, received 4"):
        LocalResponseNormalisation(4)
    with pytest.raises(ValueError, match="k is greater than 0, received 0"):
        LocalResponseNormalisation(k=0)
