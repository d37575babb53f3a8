"""Newton's method and truncated Newton, for TensorFlow alone: they need its tapes.

A Keras optimizer sees gradients only, these methods evaluate the loss again and again:
at other points for the line search, along directions for the curvature. So they take
the loss as a function without arguments.

- `newton`: the step -learning_rate (H + damping I)^-1 g with the whole Hessian H of k
  variables, O(k^2) of memory and O(k^3) of time. It goes to the nearest critical point,
  saddles and maxima included; `saddle_free` takes |H|, the eigenvalues' absolute values
  (Dauphin et al., 2014, "Identifying and attacking the saddle point problem in
  high-dimensional non-convex optimization", arXiv:1406.2572), and runs from saddles.
- `truncated`: Nocedal, Wright, 2006, "Numerical Optimization", algorithm 7.1: the
  equation is solved by conjugate gradients over Hessian-vector products, as exactly as
  the gradient is small, until a direction without positive curvature is met; then the
  step is halved until the loss falls enough. No matrix is stored.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

METHODS = ("truncated", "newton")
# Variables of which a Hessian is made: it has 64 MiB in float32.
MOST_VARIABLES = 4096
# Share of the decrease that the slope promises (Armijo's rule), and halvings at most.
SUFFICIENT, HALVINGS = 1e-4, 30


class Settings(NamedTuple):
    """How a step is made.

    Attributes:
        method: "truncated" or "newton".
        learning_rate: factor of Newton's step; of the truncated one, the first length
            that the line search tries.
        damping: what is added to the curvature in every direction, at least 0.
        saddle_free: of "newton", whether curvatures count by their absolute values.
        iterations: of "truncated", conjugate gradient steps at most.
    """

    method: str = "truncated"
    learning_rate: float = 1.0
    damping: float = 0.0
    saddle_free: bool = False
    iterations: int = 100

    def check(self) -> None:
        """Raises ValueError for a setting out of its range."""
        if self.method not in METHODS:
            raise ValueError(f"method is one of {METHODS}, received {self.method!r}")
        if self.learning_rate <= 0 or self.damping < 0 or self.iterations < 1:
            raise ValueError(
                "learning_rate is positive, damping at least 0 and iterations at least "
                f"1, received {self.learning_rate}, {self.damping} and "
                f"{self.iterations}"
            )


class Result(NamedTuple):
    """What `minimize` reached.

    Attributes:
        loss: at the end.
        gradient_norm: at the end.
        steps: that were made.
        converged: whether `gradient_norm` is at most the tolerance.
    """

    loss: float
    gradient_norm: float
    steps: int
    converged: bool


def minimize(
    loss_fn: Callable,
    variables: Sequence,
    steps: int = 100,
    tolerance: float = 1e-6,
    callback: Callable | None = None,
    **settings,
) -> Result:
    """Minimises a loss over variables, in place.

    Args:
        loss_fn: gives the loss, a float scalar, at the variables' values; the same at
            every call, without dropout and the like.
        variables: floating `keras.Variable`s or `tf.Variable`s of one dtype.
        steps: at most how many.
        tolerance: norm of the gradient that ends the search.
        callback: called with the number of steps after each.
        **settings: of `Settings`.

    Returns:
        A `Result`.

    Raises:
        ValueError: a setting is out of its range, or there are no variables or, for
            "newton", too many.
    """
    settings = Settings(**settings)
    compiled = tf.function(make_step(loss_fn, variables, settings))
    measure = tf.function(lambda: _loss_and_gradient(loss_fn, _tensors(variables)))
    done = 0
    while True:
        loss, gradient = measure()
        norm = float(tf.norm(gradient))
        moves = norm > tolerance and done < steps
        # A step that is no number is none.
        if not moves or not float(compiled()[1]) > 0:
            return Result(float(loss), norm, done, norm <= tolerance)
        done += 1
        if callback is not None:
            callback(done)


def make_step(
    loss_fn: Callable, variables: Sequence, settings: Settings | None = None
) -> Callable:
    """Makes the function of one step, for a loop or `train_step` of one's own.

    Args:
        loss_fn: as of `minimize`.
        variables: as of `minimize`.
        settings: how it is made; truncated Newton by default.

    Returns:
        A function without arguments that moves the variables and gives the loss before
        the step and the length of the step, 0 where nothing better was found. It works
        eagerly and inside a `tf.function`.

    Raises:
        ValueError: as of `minimize`.
    """
    settings = settings or Settings()
    settings.check()
    tensors = _tensors(variables)
    size = sum(tensor.shape.num_elements() for tensor in tensors)
    if not size:
        raise ValueError("a loss is minimised over at least one variable, received 0")
    if settings.method == "newton" and size > MOST_VARIABLES:
        raise ValueError(
            f"newton stores {MOST_VARIABLES} x {MOST_VARIABLES} curvatures at most, "
            f"received {size} variables: take method='truncated'"
        )

    def step():
        if settings.method == "newton":
            loss, gradient = _loss_and_gradient(loss_fn, tensors)
            change = settings.learning_rate * _newton_direction(
                hessian(loss_fn, tensors), gradient, settings
            )
            _move(tensors, _values(tensors), change)
            return loss, tf.norm(change)
        loss, gradient = _loss_and_gradient(loss_fn, tensors)
        direction = _truncated_direction(loss_fn, tensors, gradient, settings)
        return loss, _search(
            loss_fn, tensors, loss, gradient, direction, settings.learning_rate
        )

    return step


def hessian(loss_fn: Callable, variables: Sequence):
    """Computes the second derivatives of a loss.

    Args:
        loss_fn: as of `minimize`.
        variables: as of `minimize`, of k numbers together.

    Returns:
        `[k, k]`, in the order of the variables, each flattened row by row.
    """
    tensors = _tensors(variables)
    with tf.GradientTape() as outer:
        gradient = _loss_and_gradient(loss_fn, tensors)[1]
    rows = outer.jacobian(gradient, tensors, unconnected_gradients="zero")
    size = gradient.shape[0]
    return tf.concat([tf.reshape(row, (size, -1)) for row in rows], 1)


def hessian_vector_product(loss_fn: Callable, variables: Sequence, vector):
    """Computes H v without H, for about the price of two more gradients.

    Args:
        loss_fn: as of `minimize`.
        variables: as of `minimize`, of k numbers together.
        vector: `[k]`.

    Returns:
        `[k]`.

    References:
        Pearlmutter, 1994, "Fast Exact Multiplication by the Hessian".
    """
    tensors = _tensors(variables)
    with tf.GradientTape() as outer:
        gradient = _loss_and_gradient(loss_fn, tensors)[1]
    # The Hessian is symmetric: the vector from the left is the vector from the right.
    products = outer.gradient(
        gradient, tensors, output_gradients=vector, unconnected_gradients="zero"
    )
    return _flat(products)


def _tensors(variables):
    """Takes the TensorFlow variables out of Keras's."""
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


def _flat(tensors):
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def _values(tensors):
    """Reads the variables into one vector `[k]`."""
    return _flat([tf.convert_to_tensor(tensor) for tensor in tensors])


def _move(tensors, start, change):
    """Sets the variables to start + change."""
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    for tensor, part in zip(tensors, tf.split(start + change, sizes), strict=True):
        tensor.assign(tf.reshape(part, tensor.shape))


def _loss_and_gradient(loss_fn, tensors):
    """Returns the loss and its gradient `[k]`; a variable without influence has 0."""
    with tf.GradientTape() as tape:
        loss = loss_fn()
    return loss, _flat(tape.gradient(loss, tensors, unconnected_gradients="zero"))


def _newton_direction(matrix, gradient, settings):
    """Solves by eigenvalues: a direction without curvature gives no step."""
    values, vectors = tf.linalg.eigh((matrix + tf.transpose(matrix)) / 2)
    if settings.saddle_free:
        values = tf.abs(values)
    values += settings.damping
    rounding = np.finfo(values.dtype.as_numpy_dtype).eps * values.shape[0]
    flat = tf.abs(values) <= rounding * tf.reduce_max(tf.abs(values))
    inverse = tf.math.divide_no_nan(tf.cast(~flat, values.dtype), values)
    return -tf.linalg.matvec(
        vectors, inverse * tf.linalg.matvec(vectors, gradient, transpose_a=True)
    )


def _truncated_direction(loss_fn, tensors, gradient, settings):
    """Approximates -(H + damping I)^-1 g by conjugate gradients."""
    norm = tf.norm(gradient)
    enough = tf.minimum(tf.cast(0.5, norm.dtype), tf.sqrt(norm)) * norm

    def unfinished(count, _, residual, __, ended):
        more = tf.logical_and(count < settings.iterations, tf.norm(residual) > enough)
        return tf.logical_and(more, tf.logical_not(ended))

    def iterate(count, solution, residual, direction, _):
        product = hessian_vector_product(loss_fn, tensors, direction)
        product += settings.damping * direction
        curvature = tf.tensordot(direction, product, 1)
        squared = tf.tensordot(residual, residual, 1)
        positive = curvature > 0
        length = tf.math.divide_no_nan(squared, tf.nn.relu(curvature))
        # Without positive curvature there is no minimum along the direction: what was
        # solved so far is the step, and at the start the way downhill.
        first = tf.logical_and(tf.logical_not(positive), count == 0)
        solution = tf.where(first, direction, solution + length * direction)
        after = residual - length * product
        factor = tf.tensordot(after, after, 1) / squared
        return (
            count + 1,
            solution,
            after,
            after + factor * direction,
            tf.logical_not(positive),
        )

    start = (0, tf.zeros_like(gradient), -gradient, -gradient, norm == 0)
    return tf.while_loop(unfinished, iterate, start)[1]


def _search(loss_fn, tensors, loss, gradient, direction, first):
    """Halves the step until the loss falls; returns the length of the step made."""
    start = _values(tensors)
    slope = tf.tensordot(gradient, direction, 1)

    def too_long(count, length, reached):
        fell = reached <= loss + SUFFICIENT * length * slope
        return tf.logical_and(count < HALVINGS, tf.logical_not(fell))

    def halve(count, length, _):
        length = tf.where(count < 0, length, length / 2)
        _move(tensors, start, length * direction)
        reached = loss_fn()
        # A loss that is not a number is none that fell; comparisons with it are not
        # kept as written when TensorFlow simplifies a graph.
        return (
            count + 1,
            length,
            tf.where(tf.math.is_finite(reached), reached, infinite),
        )

    infinite = tf.constant(float("inf"), loss.dtype)
    count, length, _ = tf.while_loop(
        too_long, halve, (-1, tf.cast(first, loss.dtype), infinite)
    )
    # Rounding ends what a line search can see: then nothing is moved.
    length *= tf.cast(count < HALVINGS, length.dtype)
    _move(tensors, start, length * direction)
    return length * tf.norm(direction)


@keras.saving.register_keras_serializable(package="mlcvtf")
class NewtonModel(keras.Model):
    """Lets `fit` train a model by Newton's methods, one step per batch.

    The optimizer given to `compile` is not used ("sgd" stores least). Every loss is
    computed as at inference, since the methods need the same loss at every evaluation:
    dropout drops nothing, batch normalisation uses its moving statistics and does not
    change them. For one device and full precision.

    Args:
        model: what is trained; its variables are changed in place.
        **settings: of `Settings`.

    Input and output: those of `model`.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(self, model: keras.Model, name: str | None = None, **settings):
        super().__init__(name=name)
        self.model, self.settings = model, Settings(**settings)
        self.settings.check()

    def build(self, input_shape):
        if not self.model.built:
            self.model.build(input_shape)

    def call(self, inputs, training=None):
        return self.model(inputs, training=training)

    def train_step(self, data):
        """Makes one step on a batch; Keras calls it from `fit`."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def loss_fn():
            return self.compute_loss(
                x, y, self(x, training=False), sample_weight, training=False
            )

        predictions = self(x, training=False)
        loss, _ = make_step(loss_fn, self.trainable_variables, self.settings)()
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, keras.ops.shape(keras.tree.flatten(x)[0])[0])
        return self.compute_metrics(x, y, predictions, sample_weight)

    def get_config(self):
        return {
            "name": self.name,
            "model": keras.saving.serialize_keras_object(self.model),
            **self.settings._asdict(),
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        return cls(**dict(config, model=restore(config["model"])))
