"""Newton's methods against closed forms, numpy and scipy."""

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from mlcvtf.optimizers import newton

GENERATOR = np.random.default_rng(3)
# Symmetric with eigenvalues 0.5 to 40, and with one of them negative.
AXES = np.linalg.qr(GENERATOR.normal(size=(6, 6)))[0]
CONVEX = AXES @ np.diag([0.5, 1.0, 3.0, 9.0, 20.0, 40.0]) @ AXES.T
INDEFINITE = AXES @ np.diag([-0.5, 1.0, 3.0, 9.0, 20.0, 40.0]) @ AXES.T
SLOPE = GENERATOR.normal(size=6)


def quadratic(matrix):
    """Two variables of six numbers together, and x^T A x / 2 - b^T x over them."""
    variables = [
        keras.Variable(np.ones((2, 2)), dtype="float64"),
        keras.Variable(np.full(2, -3.0), dtype="float64"),
    ]

    def loss():
        x = tf.concat([tf.reshape(v.value, [-1]) for v in variables], 0)
        return tf.tensordot(x, tf.linalg.matvec(matrix, x), 1) / 2 - tf.tensordot(
            x, SLOPE, 1)

    return variables, loss


def read(variables):
    return np.concatenate([np.ravel(v.numpy()) for v in variables])


def rosenbrock(dtype="float64"):
    w = keras.Variable([-1.2, 1.0], dtype=dtype)
    return w, lambda: (1 - w.value[0]) ** 2 + 100 * (w.value[1] - w.value[0] ** 2) ** 2


def test_newton_minimises_a_quadratic_in_one_step():
    variables, loss = quadratic(CONVEX)
    result = newton.minimize(loss, variables, steps=1, method="newton")
    np.testing.assert_allclose(read(variables), np.linalg.solve(CONVEX, SLOPE),
                               rtol=1e-9)
    assert result.steps == 1 and result.converged


def test_the_learning_rate_is_the_share_of_the_way_that_is_gone():
    variables, loss = quadratic(CONVEX)
    start, minimum = read(variables), np.linalg.solve(CONVEX, SLOPE)
    newton.minimize(loss, variables, steps=1, method="newton", learning_rate=0.25)
    np.testing.assert_allclose(read(variables), start + 0.25 * (minimum - start))


def test_hessian_and_its_products():
    variables, loss = quadratic(CONVEX)
    np.testing.assert_allclose(newton.hessian(loss, variables), CONVEX, atol=1e-12)
    vector = GENERATOR.normal(size=6)
    np.testing.assert_allclose(
        newton.hessian_vector_product(loss, variables, tf.constant(vector)),
        CONVEX @ vector, atol=1e-12)


def test_hessian_of_a_network_by_finite_differences():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((3,), dtype="float64"),
        keras.layers.Dense(2, activation="tanh", dtype="float64"),
        keras.layers.Dense(1, dtype="float64")])
    x, y = GENERATOR.normal(size=(8, 3)), GENERATOR.normal(size=(8, 1))

    def loss():
        return tf.reduce_mean((model(x) - y) ** 2)

    def gradient_at(point):
        parts = np.split(point, np.cumsum([v.numpy().size for v in weights])[:-1])
        for v, part in zip(weights, parts, strict=True):
            v.assign(part.reshape(v.shape))
        with tf.GradientTape() as tape:
            value = loss()
        return read(tape.gradient(value, [v.value for v in weights]))

    weights = model.trainable_variables
    point, step = read(weights), 1e-5
    matrix = newton.hessian(loss, weights).numpy()
    expected = [(gradient_at(point + step * e) - gradient_at(point - step * e))
                / (2 * step) for e in np.eye(len(point))]
    np.testing.assert_allclose(matrix, expected, atol=1e-8)


@pytest.mark.parametrize("method", newton.METHODS)
def test_damping_is_added_to_the_curvature(method):
    variables, loss = quadratic(CONVEX)
    start = read(variables)
    # Conjugate gradients end within six iterations; the tolerance of a step falls with
    # the gradient, so three steps are compared.
    expected = start
    for _ in range(3):
        expected = expected - np.linalg.solve(
            CONVEX + 2 * np.eye(6), CONVEX @ expected - SLOPE)
    newton.minimize(loss, variables, steps=3, method=method, damping=2.0)
    if method == "newton":
        np.testing.assert_allclose(read(variables), expected, rtol=1e-9)
    else:
        # The step is inexact, but the damped one is what it approaches.
        undamped = np.linalg.solve(CONVEX, SLOPE)
        way = np.linalg.norm(expected - start)
        assert np.linalg.norm(read(variables) - expected) < 0.5 * way
        assert np.linalg.norm(read(variables) - undamped) > 1e-3


def test_truncated_newton_is_exact_on_a_quadratic_with_exact_steps():
    variables, loss = quadratic(CONVEX)
    # Near the minimum the forcing term makes the steps exact: superlinear convergence.
    result = newton.minimize(loss, variables, steps=12, tolerance=1e-9)
    assert result.converged and result.steps <= 8
    np.testing.assert_allclose(read(variables), np.linalg.solve(CONVEX, SLOPE),
                               rtol=1e-8)


def test_one_eigenvalue_is_one_conjugate_gradient_and_one_step():
    variables, loss = quadratic(4 * np.eye(6))
    result = newton.minimize(loss, variables, steps=1)
    np.testing.assert_allclose(read(variables), SLOPE / 4, rtol=1e-12)
    assert result.converged


def test_newton_goes_to_a_saddle_and_saddle_free_runs_from_it():
    saddle = np.linalg.solve(INDEFINITE, SLOPE)
    variables, loss = quadratic(INDEFINITE)
    newton.minimize(loss, variables, steps=1, method="newton")
    np.testing.assert_allclose(read(variables), saddle, rtol=1e-9)
    variables, loss = quadratic(INDEFINITE)
    start = read(variables)
    newton.minimize(loss, variables, steps=1, method="newton", saddle_free=True)
    # To the minimum along positive curvature, as far away along the negative.
    moved = AXES.T @ (read(variables) - saddle)
    np.testing.assert_allclose(moved, [2 * (AXES.T @ (start - saddle))[0], *[0] * 5],
                               atol=1e-9)


def test_truncated_newton_leaves_a_saddle_downhill():
    w = keras.Variable([1.5, 1e-3], dtype="float64")

    def loss():
        # A saddle at 0, minima of -1 at (0, 1) and (0, -1).
        return w.value[0] ** 2 + w.value[1] ** 4 - 2 * w.value[1] ** 2

    losses = []
    result = newton.minimize(loss, [w],
                             callback=lambda _: losses.append(float(loss())))
    assert result.converged and losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(w.numpy(), [0, 1], atol=1e-6)


@pytest.mark.parametrize("method", newton.METHODS)
def test_no_curvature_and_no_influence(method):
    """A linear loss, and a variable that it does not depend on."""
    w, idle = keras.Variable([2.0, 1.0]), keras.Variable([5.0])
    result = newton.minimize(lambda: w.value[0], [w, idle], steps=3, method=method)
    assert np.isfinite(w.numpy()).all() and idle.numpy() == 5
    if method == "newton":
        assert result.steps == 0 and w.numpy()[0] == 2
    else:
        assert result.steps == 3 and w.numpy()[0] == -1


def test_rosenbrock_as_scipy_and_in_float32():
    w, loss = rosenbrock()
    result = newton.minimize(loss, [w], steps=100)
    expected = scipy.optimize.minimize(
        scipy.optimize.rosen, [-1.2, 1.0], method="Newton-CG",
        jac=scipy.optimize.rosen_der, hess=scipy.optimize.rosen_hess, tol=1e-8)
    assert result.converged and result.steps <= expected.nit
    np.testing.assert_allclose(w.numpy(), expected.x, atol=1e-6)
    w, loss = rosenbrock("float32")
    newton.minimize(loss, [w], steps=100)
    np.testing.assert_allclose(w.numpy(), [1, 1], atol=2e-3)


def test_a_loss_that_is_not_a_number_on_the_way_is_stepped_back_from():
    w = keras.Variable([3.0], dtype="float64")
    # The step from 3 would reach below 0, where the root is not a number.
    result = newton.minimize(
        lambda: tf.reduce_sum(w.value - 2 * tf.sqrt(w.value)), [w])
    assert result.converged
    np.testing.assert_allclose(w.numpy(), [1], atol=1e-6)


def test_what_cannot_be_minimised_is_said():
    w = keras.Variable(np.zeros(5000))
    with pytest.raises(ValueError, match="received 5000 variables"):
        newton.minimize(lambda: tf.reduce_sum(w.value**2), [w], method="newton")
    with pytest.raises(ValueError, match="at least one variable"):
        newton.minimize(lambda: 0.0, [])
    with pytest.raises(ValueError, match="method is one of"):
        newton.minimize(lambda: 0.0, [w], method="bfgs")
    with pytest.raises(ValueError, match="damping at least 0"):
        newton.minimize(lambda: 0.0, [w], damping=-1.0)


def regression():
    keras.utils.set_random_seed(1)
    x = GENERATOR.normal(size=(64, 3)).astype("float32")
    y = (x @ [1.0, -2.0, 0.5] + 0.25)[:, None].astype("float32")
    return x, y, keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def test_fit_solves_least_squares_in_one_step():
    x, y, inner = regression()
    model = newton.NewtonModel(inner, method="newton")
    model.compile("sgd", loss="mse", metrics=["mae"])
    history = model.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
    expected = np.linalg.lstsq(np.c_[x, np.ones(64)], y, rcond=None)[0]
    kernel, bias = (w.numpy() for w in inner.weights)
    np.testing.assert_allclose(np.r_[kernel, bias[:, None]], expected, atol=1e-5)
    assert history.history["loss"][1] < 1e-8 < 1 < history.history["loss"][0]
    assert set(history.history) == {"loss", "mae"}


def test_fit_trains_a_classifier_with_regulariser_weights_and_dropout():
    keras.utils.set_random_seed(2)
    x = GENERATOR.normal(size=(60, 2)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    inner = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(8, activation="tanh", kernel_regularizer=keras.regularizers.
                           L2(1e-4)),
        keras.layers.BatchNormalization(), keras.layers.Dropout(0.5),
        keras.layers.Dense(2)])
    model = newton.NewtonModel(inner, iterations=30)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, metrics=["accuracy"])
    weights = np.ones(60, "float32")
    history = model.fit(x, y, batch_size=60, epochs=25, sample_weight=weights,
                        verbose=0).history
    assert history["loss"] == sorted(history["loss"], reverse=True)
    assert history["accuracy"][-1] >= 0.95 > history["accuracy"][0]
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(history["loss"][-1], rel=0.2) and accuracy >= 0.95


def test_model_round_trips(tmp_path):
    x, y, inner = regression()
    model = newton.NewtonModel(inner, damping=0.5, saddle_free=True, method="newton")
    model.compile("sgd", loss="mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.settings == model.settings
    assert again.settings.damping == 0.5 and again.settings.method == "newton"
    np.testing.assert_array_equal(again.predict(x, verbose=0),
                                  model.predict(x, verbose=0))
    with pytest.raises(ValueError, match="method is one of"):
        newton.NewtonModel(inner, method="none")
