"""Local response normalisation, from the time before batch normalisation."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mlcvtf")
class LocalResponseNormalisation(keras.layers.Layer):
    """Divides each value by a measure of its neighbours in the channels.

    b_i = a_i / (k + alpha * sum of a_j^2 over the `size` channels j around i)^beta,
    where channels that do not exist count as zero.

    Args:
        size: number of neighbouring channels, odd, the channel itself included.
        alpha: factor of the sum; Caffe and PyTorch name `size` times this number alpha.
        beta: exponent.
        k: what is added to the sum, greater than 0.

    Input, output: float `[..., channels]`.

    Raises:
        ValueError: `size` is not odd and positive, or `k` not positive.

    References:
        Krizhevsky, Sutskever, Hinton, 2012, "ImageNet Classification with Deep
        Convolutional Neural Networks", section 3.3, whose constants are the defaults.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 2.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size is odd and positive, received {size}")
        if k <= 0:
            raise ValueError(f"k is greater than 0, received {k}")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, inputs):
        # Squares of half-precision values overflow at 256.
        x = ops.cast(inputs, "float32")
        channels, reach = inputs.shape[-1], self.size // 2
        edges = [[0, 0]] * (len(inputs.shape) - 1) + [[reach, reach]]
        squares = ops.pad(ops.square(x), edges)
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        x = x / ops.power(self.k + self.alpha * total, self.beta)
        return ops.cast(x, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
        }
