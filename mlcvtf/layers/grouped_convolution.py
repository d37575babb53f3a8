"""Grouped convolution with one kernel, split into plain convolutions where it pays."""

import contextlib
import contextvars

import keras
from keras import ops

# What `lowering` asks for: whether to split, and where to note that it was asked.
_ASKED = contextvars.ContextVar("asked", default=(None, None))


@keras.saving.register_keras_serializable(package="mlcvtf")
class GroupedConv2D(keras.layers.Conv2D):
    """Convolves groups of channels, each with kernels of its own.

    Output channels `g C' / G` to `(g + 1) C' / G` see input channels `g C / G` to
    `(g + 1) C / G` only. The kernel is one variable `[k, k, C / G, C']`, as Keras's
    and, transposed, PyTorch's. With as many groups as input channels it runs as a
    depthwise convolution, which is equal.

    On TensorFlow without a GPU it runs as G convolutions whose outputs are
    concatenated: Keras has XLA compile a convolution with groups there, which takes up
    to 30 times longer, its gradient 200 times. Elsewhere it is one operation.

    Args:
        filters: output channels C', a multiple of `groups`.
        kernel_size: height and width of the kernel, one number or two.
        groups: number of groups G, a divisor of the input channels C.
        strides: 1 or more, one number or two.
        padding: "same" or "valid" as in Keras, or "symmetric": `rate (k - 1) / 2` zeros
            on each side for odd k, as PyTorch's networks pad. "same" puts the larger
            part behind, so strided convolutions differ.
        dilation_rate: distance of the kernel's cells, 1 or more.
        use_bias: adds a bias per output channel.
        split: True runs as G convolutions, False as one operation, None (the default)
            as `lowering` says or, outside of it, splits where the backend is
            TensorFlow without a GPU. It changes the speed, not the result. LiteRT takes
            both: ResNeXt-50 has 53 convolutions with False, 549 with True, which took
            7 % longer; a SavedModel with False needs XLA.
        **kwargs: of `keras.layers.Conv2D`.

    Input: float `[batch, height, width, C]`.
    Output: float `[batch, height', width', filters]`.

    Raises:
        ValueError: the groups divide the filters or the input channels not evenly, or
            "symmetric" padding meets an even kernel.

    References:
        Krizhevsky, Sutskever, Hinton, 2012, "ImageNet Classification with Deep
        Convolutional Neural Networks", section 3.5; Xie et al., 2017, "Aggregated
        Residual Transformations for Deep Neural Networks", arXiv:1611.05431.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        groups: int = 1,
        strides: int | tuple[int, int] = 1,
        padding: str = "same",
        dilation_rate: int | tuple[int, int] = 1,
        use_bias: bool = False,
        split: bool | None = None,
        **kwargs,
    ):
        symmetric = padding == "symmetric"
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if symmetric else padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
            groups=groups,
            use_bias=use_bias,
            **kwargs,
        )
        if symmetric and any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                "symmetric padding is for odd kernels, received kernel_size "
                f"{self.kernel_size}"
            )
        self.symmetric, self.split = symmetric, split

    def _margins(self):
        """Returns the zeros on each side, vertically and horizontally."""
        return [
            rate * (size - 1) // 2 if self.symmetric else 0
            for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True)
        ]

    def convolution_op(self, inputs, kernel):
        """Convolves without bias and activation; Keras calls it.

        Args:
            inputs: float `[batch, height, width, C]`.
            kernel: float `[k, k, C / G, filters]`.

        Returns:
            float `[batch, height', width', filters]`.
        """
        padding = self.padding
        if self.symmetric and set(self.strides) == {1}:
            padding = "same"
        elif self.symmetric:
            vertical, horizontal = self._margins()
            inputs = ops.pad(inputs, [[0, 0], [vertical] * 2, [horizontal] * 2, [0, 0]])
        options = {
            "strides": self.strides,
            "padding": padding,
            "dilation_rate": self.dilation_rate,
            "data_format": "channels_last",
        }
        groups, channels = self.groups, inputs.shape[-1]
        if groups == 1:
            return ops.conv(inputs, kernel, **options)
        # TensorFlow's depthwise convolution has one stride for both directions.
        if groups == channels and len(set(self.strides)) == 1:
            shape = (*self.kernel_size, channels, self.filters // channels)
            return ops.depthwise_conv(inputs, ops.reshape(kernel, shape), **options)
        if not (_splits_by_default() if self.split is None else self.split):
            return ops.conv(inputs, kernel, **options)
        parts = zip(
            ops.split(inputs, groups, axis=-1),
            ops.split(kernel, groups, axis=-1),
            strict=True,
        )
        return ops.concatenate([ops.conv(x, k, **options) for x, k in parts], axis=-1)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        sides = [
            None if side is None else side + 2 * margin
            for side, margin in zip(sides, self._margins(), strict=True)
        ]
        return super().compute_output_shape((batch, *sides, channels))

    def get_config(self):
        config = super().get_config() | {"split": self.split}
        del config["data_format"]
        return config | ({"padding": "symmetric"} if self.symmetric else {})


@contextlib.contextmanager
def lowering(split: bool | None = None):
    """Decides for the grouped convolutions that are traced inside and leave it open.

    Args:
        split: as of `GroupedConv2D`; None leaves the default.

    Yields:
        List that has an entry for each of them, afterwards.
    """
    token = _ASKED.set((split, []))
    try:
        yield _ASKED.get()[1]
    finally:
        _ASKED.reset(token)


def _splits_by_default():
    split, asked = _ASKED.get()
    if asked is not None:
        asked.append(split)
    if split is not None:
        return split
    return keras.backend.backend() == "tensorflow" and not any(
        "gpu" in device.lower() for device in keras.distribution.list_devices()
    )
