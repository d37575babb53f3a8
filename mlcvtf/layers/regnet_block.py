"""The block of RegNet: a bottleneck without a bottleneck, in groups of equal width."""

import keras
from keras import ops

from mlcvtf.layers.grouped_convolution import GroupedConv2D
from mlcvtf.layers.squeeze_excite import SqueezeExcite


@keras.saving.register_keras_serializable(package="mlcvtf")
class RegNetBlock(keras.layers.Layer):
    """Adds 1x1, grouped 3x3 and 1x1 convolutions, all of one width, to the input.

    The X block of the paper; with `squeeze_ratio` the Y block, whose squeeze and
    excitation stands behind the 3x3 convolution. Every convolution has batch
    normalisation, ReLU follows the first two and the sum. Where stride or channels
    change, the shortcut is a strided 1x1 convolution with batch normalisation. Strided
    convolutions pad symmetrically, as in PyTorch.

    Args:
        filters: output channels, a multiple of `group_width`.
        group_width: channels per group of the 3x3 convolution.
        stride: of the 3x3 convolution, 1 or more.
        squeeze_ratio: width of the squeeze as a share of the block's *input* channels;
            None leaves squeeze and excitation out.
        epsilon: of batch normalisation.
        momentum: of the moving statistics of batch normalisation.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), filters]`.

    Raises:
        ValueError: a number is out of its range, or the groups are not even.

    References:
        Radosavovic, Kosaraju, Girshick, He, Dollar, 2020, "Designing Network Design
        Spaces", arXiv:2003.13678, figure 4 and section 5.
    """

    def __init__(
        self,
        filters: int,
        group_width: int,
        stride: int = 1,
        squeeze_ratio: float | None = None,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if stride < 1:
            raise ValueError(f"stride is at least 1, received {stride}")
        if group_width < 1 or filters < 1 or filters % group_width:
            raise ValueError(
                "filters is a multiple of group_width, received "
                f"{filters} and {group_width}"
            )
        if squeeze_ratio is not None and squeeze_ratio <= 0:
            raise ValueError(f"squeeze_ratio is positive, received {squeeze_ratio}")
        self.filters, self.group_width, self.stride = filters, group_width, stride
        self.squeeze_ratio = squeeze_ratio
        self.epsilon, self.momentum = epsilon, momentum

    def build(self, input_shape):
        channels = input_shape[-1]
        groups = self.filters // self.group_width
        self.branch = [
            *self._convolution("conv1", 1),
            keras.layers.ReLU(dtype=self.dtype_policy),
            *self._convolution("conv2", 3, self.stride, groups),
            keras.layers.ReLU(dtype=self.dtype_policy),
        ]
        if self.squeeze_ratio is not None:
            squeezed = max(1, round(channels * self.squeeze_ratio))
            self.branch.append(
                SqueezeExcite(squeezed, dtype=self.dtype_policy, name="squeeze_excite")
            )
        self.branch += self._convolution("conv3", 1)
        self.projection = []
        if self.stride > 1 or channels != self.filters:
            self.projection += self._convolution("shortcut", 1, self.stride)
        for steps in (self.branch, self.projection):
            shape = input_shape
            for step in steps:
                step.build(shape)
                # Keras freezes only the layers that are there when a block is frozen.
                step.trainable = self.trainable
                shape = step.compute_output_shape(shape)

    def _convolution(self, name, kernel_size, stride=1, groups=1):
        yield GroupedConv2D(
            self.filters,
            kernel_size,
            groups,
            stride,
            "symmetric",
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            name=name,
        )
        yield keras.layers.BatchNormalization(
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name=f"{name}_normalisation",
        )

    def call(self, inputs, training=None):
        x = _run(self.branch, inputs, training)
        return ops.relu(x + _run(self.projection, inputs, training))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if s is None else -(-s // self.stride) for s in (height, width)]
        return (batch, *sides, self.filters)

    def get_config(self):
        return super().get_config() | {
            "filters": self.filters,
            "group_width": self.group_width,
            "stride": self.stride,
            "squeeze_ratio": self.squeeze_ratio,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }


def _run(steps, x, training):
    for step in steps:
        if isinstance(step, keras.layers.BatchNormalization):
            x = step(x, training=training)
        else:
            x = step(x)
    return x
