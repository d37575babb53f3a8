"""A convolution with its batch normalisation and rectifier, as one layer."""

import keras
from keras import ops

PADDINGS = ("same", "valid", "symmetric")


def pair(size: int | tuple) -> tuple:
    """Returns a height and a width.

    Args:
        size: one number for both, or two numbers.

    Returns:
        Tuple of two ints.

    Raises:
        ValueError: there are not two positive numbers.

    >>> pair(3), pair([1, 7])
    ((3, 3), (1, 7))
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"a size is one or two positive numbers, received {size}")
    return sides


@keras.saving.register_keras_serializable(package="mlcvtf")
class ConvolutionUnit(keras.layers.Layer):
    """Convolves, normalises over the batch and rectifies: the brick of many networks.

    Args:
        filters: output channels.
        kernel_size: height and width of the kernel, or one number for both.
        stride: 1 or more.
        padding: "same" (TensorFlow's: where an odd number of rows is missing, the
            last is at the end), "valid" (none) or "symmetric" (half the kernel on each
            side, as PyTorch and DarkNet do, for odd kernels).
        batch_normalisation: normalises in place of a bias.
        scale: batch normalisation has a gamma.
        slope: factor of negative values: 0 is ReLU, None is no rectifier at all.
        epsilon: of batch normalisation.
        momentum: of its moving statistics.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, height / stride, width / stride, filters]`, rounded up but
    with "valid", where the kernel's size less one is taken off before.

    Raises:
        ValueError: `padding` is unknown, a number is out of its range, or an even
            kernel is padded symmetrically.

    References:
        Ioffe, Szegedy, 2015, "Batch Normalization", arXiv:1502.03167, section 3.2 (the
        bias is left out).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple = 1,
        stride: int = 1,
        padding: str = "same",
        batch_normalisation: bool = True,
        scale: bool = True,
        slope: float | None = 0.0,
        epsilon: float = 1e-3,
        momentum: float = 0.99,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if padding not in PADDINGS:
            raise ValueError(f"padding is one of {PADDINGS}, received {padding!r}")
        if filters < 1 or stride < 1:
            raise ValueError(
                f"filters and stride are at least 1, received {filters} and {stride}"
            )
        self.kernel_size = pair(kernel_size)
        if padding == "symmetric" and not all(side % 2 for side in self.kernel_size):
            raise ValueError(
                f"symmetric padding is for odd kernels, received {kernel_size}"
            )
        self.filters, self.stride, self.padding = filters, stride, padding
        self.batch_normalisation, self.scale = batch_normalisation, scale
        self.slope, self.epsilon, self.momentum = slope, epsilon, momentum

    def build(self, input_shape):
        # At stride 1 the two ways to pad an odd kernel are one.
        self.pads = self.padding == "symmetric" and self.stride > 1
        self.convolution = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            self.stride,
            padding="valid" if self.pads or self.padding == "valid" else "same",
            use_bias=not self.batch_normalisation,
            dtype=self.dtype_policy,
            name="convolution",
        )
        self.convolution.build(input_shape)
        self.normalisation = None
        if self.batch_normalisation:
            self.normalisation = keras.layers.BatchNormalization(
                epsilon=self.epsilon,
                momentum=self.momentum,
                scale=self.scale,
                dtype=self.dtype_policy,
                name="normalisation",
            )
            self.normalisation.build((*input_shape[:-1], self.filters))
            self.normalisation.trainable = self.trainable
        # Keras freezes only the layers that are there when a layer is frozen.
        self.convolution.trainable = self.trainable

    def call(self, inputs, training=None):
        x = inputs
        if self.pads:
            rows, columns = (side // 2 for side in self.kernel_size)
            x = ops.pad(x, [[0, 0], [rows, rows], [columns, columns], [0, 0]])
        x = self.convolution(x)
        if self.normalisation is not None:
            x = self.normalisation(x, training=training)
        if self.slope is None:
            return x
        return ops.leaky_relu(x, self.slope) if self.slope else ops.relu(x)

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        if self.padding == "valid":
            sides = [
                None if side is None else side - kernel + 1
                for side, kernel in zip(sides, self.kernel_size, strict=True)
            ]
        sides = [None if side is None else -(-side // self.stride) for side in sides]
        return (batch, *sides, self.filters)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "batch_normalisation": self.batch_normalisation,
            "scale": self.scale,
            "slope": self.slope,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }
