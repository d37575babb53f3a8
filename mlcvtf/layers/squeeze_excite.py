"""Squeeze and excitation: channels weighed by what the whole picture holds."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="mlcvtf")
class SqueezeExcite(keras.layers.Layer):
    """Multiplies each channel by a weight that two dense layers give it.

    `y_c = gate(W2 activation(W1 z + b1) + b2)_c x_c`, where z is the average of x over
    all places.

    Args:
        channels: width of the squeeze, W1's outputs; the paper's ratio r is the
            input's channels divided by it, 16 in its networks.
        activation: after the squeeze; "relu" in the paper, "silu" in EfficientNet.
        gate: makes the weights, "sigmoid".

    Input and output: float `[batch, height, width, c]`.

    Raises:
        ValueError: `channels` is not positive.

    References:
        Hu, Shen, Albanie, Sun, Wu, 2018, "Squeeze-and-Excitation Networks",
        arXiv:1709.01507, section 3.
    """

    def __init__(
        self, channels: int, activation: str = "relu", gate: str = "sigmoid", **kwargs
    ):
        super().__init__(**kwargs)
        if channels < 1:
            raise ValueError(f"channels is at least 1, received {channels}")
        self.channels, self.activation, self.gate = channels, activation, gate

    def build(self, input_shape):
        self.squeeze = keras.layers.Dense(
            self.channels,
            self.activation,
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            name="squeeze",
        )
        self.excite = keras.layers.Dense(
            input_shape[-1], self.gate, dtype=self.dtype_policy, name="excite"
        )
        self.squeeze.build((input_shape[0], input_shape[-1]))
        self.excite.build((input_shape[0], self.channels))

    def call(self, inputs):
        weights = self.excite(self.squeeze(ops.mean(inputs, axis=(1, 2))))
        return inputs * weights[:, None, None, :]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "activation": self.activation,
            "gate": self.gate,
        }
