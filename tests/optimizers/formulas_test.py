"""Keras's optimizers step by step against the course's formulas in numpy.

The formulas stand here as they are printed, and where Keras differs, how is a factor or
an argument that a test names; docs/optimizers.md says the same in words. Numbers are
float64, and the settings are sums of powers of two, which float32 holds exactly.
"""

import keras
import numpy as np
import pytest

STEPS, RATE, MU, BETA = 25, 0.0625, 0.875, 0.875
BETA_2, EPSILON, DECAY = 0.984375, 2.0**-10, 2.0**-5
START = np.array([1.5, -0.75, 0.5, 2.0])


def gradient(w):
    """Of a loss that is no quadratic and that couples its variables."""
    return np.array([
        2 * w[0] + np.cos(w[1]), 8 * w[1] - w[0] * np.sin(w[1]) / 2,
        w[2] ** 3 + w[3] / 4, w[3] + w[2] / 4 + np.sin(3 * w[3])])


def keras_path(optimizer, added=lambda w: 0.0, slope=gradient):
    """Returns all points `[STEPS + 1, 4]` that an optimizer visits."""
    variable = keras.Variable(START, dtype="float64")
    path = [START]
    for _ in range(STEPS):
        slopes = slope(path[-1]) + added(path[-1])
        optimizer.apply([keras.ops.convert_to_tensor(slopes)], [variable])
        path.append(keras.ops.convert_to_numpy(variable.value))
    return np.array(path)


def assert_same(actual, expected):
    assert np.ptp(expected, axis=0).min() > 1e-3, "nothing moved"
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def furthest(one, other):
    return np.abs(one - other).max()


def sgd(decay=0.0):
    path = [START]
    for _ in range(STEPS):
        w = path[-1]
        path.append(w - RATE * (gradient(w) + decay * w))
    return np.array(path)


def adaptive(first=0.0, beta=None, inside=0.0, outside=0.0, slope=gradient):
    """AdaGrad, or RMSProp where there is a beta; M 1.4.1 and 1.4.2."""
    path, s = [START], np.full(4, first)
    for _ in range(STEPS):
        g = slope(path[-1])
        s = s + g * g if beta is None else beta * s + (1 - beta) * g * g
        path.append(path[-1] - RATE / (np.sqrt(s + inside) + outside) * g)
    return np.array(path)


def adam(epsilon, decay=0.0, in_loss=0.0):
    """M 1.4.3 and 1.4.4; `epsilon` is a function of the step, from 1."""
    path, g, s = [START], np.zeros(4), np.zeros(4)
    for t in range(1, STEPS + 1):
        w = path[-1]
        slope = gradient(w) + in_loss * w
        g = BETA * g + (1 - BETA) * slope
        s = BETA_2 * s + (1 - BETA_2) * slope * slope
        step = (g / (1 - BETA**t)) / (np.sqrt(s / (1 - BETA_2**t)) + epsilon(t))
        path.append(w - RATE * step - decay * w)
    return np.array(path)


def keras_adam(kind=keras.optimizers.Adam, epsilon=EPSILON, **kwargs):
    return kind(RATE, beta_1=BETA, beta_2=BETA_2, epsilon=epsilon, **kwargs)


def hat(t):
    """Epsilon of the course's Adam where Keras is given `EPSILON`."""
    return EPSILON / np.sqrt(1 - BETA_2**t)


def test_sgd():
    assert_same(keras_path(keras.optimizers.SGD(RATE)), sgd())


def test_momentum_and_the_sign_of_its_velocity():
    path, v = [START], np.zeros(4)
    for _ in range(STEPS):
        v = MU * v - RATE * gradient(path[-1])
        path.append(path[-1] + v)
    optimizer = keras.optimizers.SGD(RATE, momentum=MU)
    assert_same(keras_path(optimizer), np.array(path))
    # Keras's slot is the course's velocity: it points downhill, and holds the rate.
    np.testing.assert_allclose(optimizer.momentums[0].numpy(), v, rtol=1e-10)


def test_nesterov_keeps_the_point_that_looks_ahead():
    w, v, ahead = START, np.zeros(4), [START]
    for _ in range(STEPS):
        v = MU * v - RATE * gradient(w + MU * v)
        w = w + v
        ahead.append(w + MU * v)
    optimizer = keras.optimizers.SGD(RATE, momentum=MU, nesterov=True)
    path = keras_path(optimizer)
    assert_same(path, np.array(ahead))
    # The course's own point lies the velocity's share behind.
    np.testing.assert_allclose(path[-1] - MU * optimizer.momentums[0].numpy(), w,
                               rtol=1e-10)
    assert furthest(path[-1], w) > 1e-4


@pytest.mark.parametrize("first", [0.0, 0.125])
def test_adagrad_adds_epsilon_under_the_root(first):
    optimizer = keras.optimizers.Adagrad(
        RATE, initial_accumulator_value=first, epsilon=EPSILON)
    path = keras_path(optimizer)
    assert_same(path, adaptive(first=first, inside=EPSILON))
    assert furthest(path, adaptive(first=first, outside=EPSILON)) > 1e-5


def test_rmsprop_adds_epsilon_under_the_root():
    path = keras_path(keras.optimizers.RMSprop(RATE, rho=BETA, epsilon=EPSILON))
    assert_same(path, adaptive(beta=BETA, inside=EPSILON))
    assert furthest(path, adaptive(beta=BETA, outside=EPSILON)) > 1e-5


def test_without_epsilon_they_are_the_course_s():
    optimizer = keras.optimizers.Adagrad(
        RATE, initial_accumulator_value=0.0, epsilon=0.0)
    assert_same(keras_path(optimizer), adaptive())
    assert_same(keras_path(keras.optimizers.RMSprop(RATE, rho=BETA, epsilon=0.0)),
                adaptive(beta=BETA))
    assert_same(keras_path(keras_adam(epsilon=0.0)), adam(lambda t: 0.0))


def test_the_place_of_epsilon_matters_where_gradients_are_small():
    """Default epsilon: the course's first step is 30 times Keras's."""
    def tiny(w):
        return np.full(4, 1e-5)

    optimizer = keras.optimizers.Adagrad(RATE, initial_accumulator_value=0.0)
    step = np.abs(np.diff(keras_path(optimizer, slope=tiny), axis=0)[0])
    printed = np.abs(np.diff(adaptive(outside=1e-7, slope=tiny), axis=0)[0])
    np.testing.assert_allclose(printed / step, 31.3, rtol=1e-2)


def test_adam_s_epsilon_grows_to_the_course_s():
    path = keras_path(keras_adam())
    assert_same(path, adam(hat))
    assert furthest(path, adam(lambda t: EPSILON)) > 1e-5


def test_adamw_multiplies_decay_by_the_rate():
    path = keras_path(keras_adam(keras.optimizers.AdamW, weight_decay=DECAY))
    assert_same(path, adam(hat, decay=RATE * DECAY))
    assert furthest(path, adam(hat, decay=DECAY)) > 1e-2
    assert_same(keras_path(keras_adam(weight_decay=DECAY)), path)


def test_l2_in_the_loss_is_decoupled_decay_for_sgd():
    decoupled = keras_path(keras.optimizers.SGD(RATE, weight_decay=DECAY))
    in_loss = keras_path(keras.optimizers.SGD(RATE), lambda w: DECAY * w)
    assert_same(decoupled, in_loss)
    assert_same(in_loss, sgd(DECAY))
    assert furthest(in_loss, sgd()) > 1e-2


def test_l2_in_the_loss_is_not_decoupled_decay_for_adam():
    decoupled = keras_path(keras_adam(keras.optimizers.AdamW, weight_decay=DECAY))
    in_loss = keras_path(keras_adam(), lambda w: DECAY * w)
    assert_same(in_loss, adam(hat, in_loss=DECAY))
    assert furthest(decoupled, in_loss) > 1e-2


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_l2_and_decay_in_fit(kind):
    """The same through Keras's own regulariser, whose factor is half the decay."""
    x = np.random.default_rng(0).normal(size=(16, 4))
    y = x @ START[:, None] * 0.5

    def weights(regularizer, decay):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(
            1, use_bias=False, kernel_regularizer=regularizer)])
        model.set_weights([START[:, None]])
        optimizer = getattr(keras.optimizers, kind)(RATE, weight_decay=decay)
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=16, epochs=STEPS, shuffle=False, verbose=0)
        return model.get_weights()[0]

    l2 = weights(keras.regularizers.L2(DECAY / 2), None)
    decoupled, plain = weights(None, DECAY), weights(None, None)
    assert furthest(l2, plain) > 1e-3
    if kind == "SGD":
        np.testing.assert_allclose(l2, decoupled, rtol=1e-5)
    else:
        assert furthest(l2, decoupled) > 1e-3
