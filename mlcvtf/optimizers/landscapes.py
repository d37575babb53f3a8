"""Surfaces of two variables, and the ways of all optimizers over them, in TensorFlow.

The surfaces of the course: a sphere, a canyon, a saddle, and the functions of Beale
(1955) and Rosenbrock (1960). A surface stands for the mean loss over a training set:
example i has the loss f(w) + e_i w, where the e_i are normal and have mean 0, so that a
mini-batch has the gradient of the surface and noise that falls with the root of its
size, and the whole set has none.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from mlcvtf.optimizers import newton

EXAMPLES = 256
MOMENTUM, DECAY = 0.9, 0.01


class Surface(NamedTuple):
    """A loss of two variables.

    Attributes:
        value: maps the coordinates, numbers, arrays or tensors, to the loss.
        minima: points of the lowest value, `[n, 2]`.
        start: where trajectories begin.
        window: least and largest w1, least and largest w2 of a picture.
        steps: of a trajectory.
        noise: standard deviation of the gradient of one example.
        rate: learning rate of SGD, momentum and Nesterov.
        adaptive_rate: learning rate of AdaGrad, RMSProp and Adam: what a variable
            moves per step, about.
    """

    value: Callable
    minima: tuple
    start: tuple[float, float]
    window: tuple[float, float, float, float]
    steps: int
    noise: float
    rate: float
    adaptive_rate: float


def _beale(x, y):
    return (
        (1.5 - x + x * y) ** 2
        + (2.25 - x + x * y**2) ** 2
        + (2.625 - x + x * y**3) ** 2
    )


SURFACES = {
    "sphere": Surface(
        lambda x, y: x**2 + y**2,
        ((0.0, 0.0),),
        (-2.0, 1.5),
        (-2.5, 2.5, -2.5, 2.5),
        120,
        3.0,
        0.02,
        0.1,
    ),
    # A hundred times as curved along w1 as along w2; SGD with a rate of 0.1 does
    # not converge, Nesterov's momentum with one of 0.068.
    "canyon": Surface(
        lambda x, y: 10 * x**2 + 0.1 * y**2,
        ((0.0, 0.0),),
        (1.2, 2.0),
        (-2.0, 2.0, -1.25, 2.75),
        120,
        0.8,
        0.065,
        0.1,
    ),
    # A saddle at 0 between two minima. The start is next to the way into the saddle.
    "saddle": Surface(
        lambda x, y: x**2 - y**2 + y**4 / 4,
        ((0.0, 2**0.5), (0.0, -(2**0.5))),
        (-2.0, 1e-3),
        (-2.5, 2.5, -2.5, 2.5),
        120,
        0.5,
        0.02,
        0.1,
    ),
    "beale": Surface(
        _beale,
        ((3.0, 0.5),),
        (0.8, 1.6),
        (-1.0, 4.0, -2.25, 2.25),
        300,
        1.0,
        0.003,
        0.1,
    ),
    "rosenbrock": Surface(
        lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2,
        ((1.0, 1.0),),
        (-1.2, 1.0),
        (-1.8, 1.8, -0.8, 2.2),
        400,
        0.3,
        0.001,
        0.05,
    ),
}

OPTIMIZERS = {
    "SGD": lambda s: keras.optimizers.SGD(s.rate),
    "momentum": lambda s: keras.optimizers.SGD(s.rate, MOMENTUM),
    "Nesterov": lambda s: keras.optimizers.SGD(s.rate, MOMENTUM, nesterov=True),
    # Without Keras's initial 0.1, as the course has it.
    "AdaGrad": lambda s: keras.optimizers.Adagrad(s.adaptive_rate, 0.0),
    "RMSProp": lambda s: keras.optimizers.RMSprop(s.adaptive_rate),
    "Adam": lambda s: keras.optimizers.Adam(s.adaptive_rate),
    "AdamW": lambda s: keras.optimizers.AdamW(s.adaptive_rate, DECAY),
    "Newton": lambda s: newton.Settings("newton"),
    "truncated Newton": lambda s: newton.Settings(),
}


def trajectories(
    surface: Surface,
    names: Sequence[str] = tuple(OPTIMIZERS),
    batch_size: int = 32,
    steps: int | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Lets optimizers walk over a surface, all with the same mini-batches.

    Args:
        surface: the loss.
        names: of optimizers, of `OPTIMIZERS`.
        batch_size: examples per mini-batch, 1 to `EXAMPLES`; all of them: no noise.
        steps: that are made; the surface's own number by default.
        seed: of the examples and their order.

    Returns:
        float32 `[steps + 1, 2]` by name: the start and every point after it.

    Raises:
        ValueError: a name is unknown, or a number out of its range.
    """
    unknown = [name for name in names if name not in OPTIMIZERS]
    if unknown:
        raise ValueError(f"optimizers are of {list(OPTIMIZERS)}, received {unknown}")
    if not 1 <= batch_size <= EXAMPLES:
        raise ValueError(f"batch_size is 1 to {EXAMPLES}, received {batch_size}")
    steps = surface.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps is at least 1, received {steps}")
    walkers = {name: keras.Variable(surface.start, dtype="float32") for name in names}
    step = _step(surface, walkers)
    points = [np.stack([np.array(surface.start, np.float32)] * len(names))]
    slopes = noise(surface.noise, batch_size, seed)
    for _ in range(steps):
        points.append(step(tf.constant(next(slopes))).numpy())
    return dict(zip(names, np.stack(points, 1), strict=True))


def noise(deviation: float, batch_size: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Gives the mean e of one mini-batch after the other, epoch after epoch.

    Args:
        deviation: of the e of one example, in both directions.
        batch_size: examples per mini-batch; the last one of an epoch may be smaller.
        seed: of the examples and their order.

    Yields:
        float32 `[2]`.
    """
    generator = np.random.default_rng(seed)
    examples = generator.normal(0, deviation, (EXAMPLES, 2))
    examples -= examples.mean(0)
    while True:
        order = generator.permutation(EXAMPLES)
        for first in range(0, EXAMPLES, batch_size):
            yield examples[order[first : first + batch_size]].mean(0).astype(np.float32)


def _step(surface, walkers):
    """Compiles a step of all walkers: from a mini-batch's e to their points."""
    optimizers = {name: OPTIMIZERS[name](surface) for name in walkers}
    for name, walker in walkers.items():
        if isinstance(optimizers[name], keras.optimizers.Optimizer):
            optimizers[name].build([walker])

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def step(slope):
        for name, walker in walkers.items():

            def loss_fn(w=walker.value):
                return surface.value(w[0], w[1]) + tf.tensordot(slope, w, 1)

            if isinstance(optimizers[name], newton.Settings):
                newton.make_step(loss_fn, [walker], optimizers[name])()
                continue
            with tf.GradientTape() as tape:
                loss = loss_fn()
            optimizers[name].apply([tape.gradient(loss, walker.value)], [walker])
        return tf.stack([walker.value for walker in walkers.values()])

    return step
