"""What one neuron can represent, and what takes two layers."""

import keras
import numpy as np
import scipy.optimize

from mlcvtf.classification.perceptron import learn, perceptron

PAIRS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
NAND, XOR = np.array([1, 1, 1, 0]), np.array([0, 1, 1, 0])


def separable(targets):
    """Says by linear programming whether a line fits all four pairs."""
    signs = np.where(targets == 1, 1.0, -1.0)[:, None]
    # signs * (w x + b) >= 1 has a solution.
    rows = -signs * np.hstack([PAIRS, np.ones((4, 1))])
    found = scipy.optimize.linprog(np.zeros(3), rows, -np.ones(4), bounds=(None, None))
    return found.success


def test_a_perceptron_represents_nand():
    assert separable(NAND)
    np.testing.assert_array_equal(perceptron(PAIRS, *learn(PAIRS, NAND)), NAND)


def test_no_perceptron_represents_xor():
    assert not separable(XOR)
    assert learn(PAIRS, XOR) is None


def test_all_but_two_of_the_sixteen_functions_are_learned():
    tables = [np.array([n >> bit & 1 for bit in range(4)]) for n in range(16)]
    failed = [table.tolist() for table in tables if learn(PAIRS, table) is None]
    assert failed == [[0, 1, 1, 0], [1, 0, 0, 1]]
    for table in tables:
        if separable(table):
            np.testing.assert_array_equal(
                perceptron(PAIRS, *learn(PAIRS, table)), table)


def test_perceptrons_in_two_layers_represent_xor():
    # XOR = AND(OR, NAND).
    hidden = np.stack([perceptron(PAIRS, [1, 1], -0.5),
                       perceptron(PAIRS, [-1, -1], 1.5)], axis=-1)
    np.testing.assert_array_equal(perceptron(hidden, [1, 1], -1.5), XOR)


def test_the_plane_itself_is_on_the_side_of_one():
    assert perceptron([1.0, 1.0], [1.0, -1.0], 0.0) == 1


def test_a_trained_multi_layer_perceptron_represents_xor():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(8, "tanh"),
        keras.layers.Dense(1, "sigmoid"),
    ])
    # S_in S_out + S_out for each layer.
    assert model.count_params() == (2 * 8 + 8) + (8 * 1 + 1)
    model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
    model.fit(np.tile(PAIRS, (8, 1)), np.tile(XOR, 8), epochs=60, batch_size=32,
              verbose=0)
    scores = keras.ops.convert_to_numpy(model(PAIRS))[:, 0]
    np.testing.assert_array_equal(scores > 0.5, XOR)
    assert np.abs(scores - XOR).max() < 0.1
