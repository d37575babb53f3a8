"""The perceptron: one neuron that thresholds a weighted sum.

Rosenblatt, 1958, "The perceptron: a probabilistic model for information storage and
organization in the brain", Psychological Review 65(6). What one neuron can and cannot
represent: Minsky, Papert, 1969, "Perceptrons".
"""

import numpy as np


def perceptron(inputs, weights, bias: float):
    """Says on which side of a hyperplane points are: w x + b >= 0.

    Args:
        inputs: float `[..., features]`.
        weights: float `[features]`.
        bias: b.

    Returns:
        int `[...]`, 1 on the side that the weights point to and on the plane, else 0.

    >>> pairs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> perceptron(pairs, [-1, -1], 1.5)  # NAND
    array([1, 1, 1, 0])
    """
    return (np.asarray(inputs) @ np.asarray(weights) + bias >= 0).astype(int)


def learn(inputs, targets, most_epochs: int = 1000):
    """Learns a perceptron by Rosenblatt's rule: w += (t - y) x, b += (t - y).

    It ends with weights that fit whenever there are such (Novikoff, 1962).

    Args:
        inputs: float `[points, features]`.
        targets: int `[points]`, 0 or 1.
        most_epochs: passes over the points after which it gives up.

    Returns:
        (weights `[features]`, bias), or None where no pass was without a mistake.
    """
    inputs, targets = np.asarray(inputs, float), np.asarray(targets)
    weights, bias = np.zeros(inputs.shape[1]), 0.0
    for _ in range(most_epochs):
        mistakes = 0
        for point, target in zip(inputs, targets, strict=True):
            error = int(target) - int(perceptron(point, weights, bias))
            weights, bias = weights + error * point, bias + error
            mistakes += abs(error)
        if not mistakes:
            return weights, bias
    return None
