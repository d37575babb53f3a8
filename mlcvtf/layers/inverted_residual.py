"""The inverted residual block with linear bottleneck (MobileNetV2)."""

import keras


def round_channels(channels: float, divisor: int = 8) -> int:
    """Rounds a channel count to a multiple of `divisor`, never down by over 10 %.

    Args:
        channels: wanted number of channels, greater than 0.
        divisor: the result is a multiple of it and at least as large.

    Returns:
        The number of channels as the authors' release of MobileNetV2 rounds it.

    >>> [round_channels(c) for c in (11.2, 12, 33.6, 5)]
    [16, 16, 32, 8]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@keras.saving.register_keras_serializable(package="mlcvtf")
class InvertedResidual(keras.layers.Layer):
    """Expands with 1x1, filters depthwise with 3x3, projects linearly with 1x1.

    The input is added to the output where stride is 1 and channels agree. With
    `expansion=1` the first 1x1 convolution is left out, as in the paper's first block.

    Args:
        channels: output channels.
        expansion: factor between input channels and the depthwise convolution's.
        stride: 1 or 2.
        momentum: of the moving statistics of batch normalisation; 0.999 as in the
            release suits hundreds of thousands of steps, 0.99 a short training.
        padding: of the strided convolution: "same" as in the authors' release, where
            an even side is padded at its end only, or "symmetric", one pixel on each
            side, as in PyTorch.
        epsilon: of batch normalisation: 1e-3 in the release, 1e-5 in PyTorch.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), channels]`.

    Raises:
        ValueError: `stride` is neither 1 nor 2, a count is not positive, or `padding`
            is unknown.

    References:
        Sandler et al., 2018, "MobileNetV2: Inverted Residuals and Linear
        Bottlenecks", arXiv:1801.04381, table 1 and figure 4d.
    """

    def __init__(
        self,
        channels: int,
        expansion: int = 6,
        stride: int = 1,
        momentum: float = 0.999,
        padding: str = "same",
        epsilon: float = 1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if stride not in (1, 2):
            raise ValueError(f"stride is 1 or 2, received {stride}")
        if channels < 1 or expansion < 1:
            raise ValueError(
                "channels and expansion are at least 1, received "
                f"{channels} and {expansion}"
            )
        if padding not in ("same", "symmetric"):
            raise ValueError(f'padding is "same" or "symmetric", received {padding!r}')
        self.channels, self.expansion, self.stride = channels, expansion, stride
        self.momentum, self.padding, self.epsilon = momentum, padding, epsilon

    def build(self, input_shape):
        filters = input_shape[-1]
        self.residual = self.stride == 1 and filters == self.channels
        self.steps = []
        if self.expansion > 1:
            filters *= self.expansion
            self.steps += [
                keras.layers.Conv2D(
                    filters, 1, use_bias=False, dtype=self.dtype_policy, name="expand"
                ),
                self._normalisation("expand_normalisation"),
                keras.layers.ReLU(6.0, dtype=self.dtype_policy),
            ]
        symmetric = self.padding == "symmetric" and self.stride == 2
        if symmetric:
            self.steps.append(keras.layers.ZeroPadding2D(1, dtype=self.dtype_policy))
        self.steps += [
            keras.layers.DepthwiseConv2D(
                3,
                self.stride,
                padding="valid" if symmetric else "same",
                use_bias=False,
                dtype=self.dtype_policy,
                name="depthwise",
            ),
            self._normalisation("depthwise_normalisation"),
            keras.layers.ReLU(6.0, dtype=self.dtype_policy),
            keras.layers.Conv2D(
                self.channels,
                1,
                use_bias=False,
                dtype=self.dtype_policy,
                name="project",
            ),
            self._normalisation("project_normalisation"),
        ]
        shape = input_shape
        for step in self.steps:
            step.build(shape)
            # Keras freezes only the layers that are there when a block is frozen.
            step.trainable = self.trainable
            shape = step.compute_output_shape(shape)

    def _normalisation(self, name):
        return keras.layers.BatchNormalization(
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs, training=None):
        x = inputs
        for step in self.steps:
            if isinstance(step, keras.layers.BatchNormalization):
                x = step(x, training=training)
            else:
                x = step(x)
        return inputs + x if self.residual else x

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if s is None else -(-s // self.stride) for s in (height, width)]
        return (batch, *sides, self.channels)

    def get_config(self):
        return super().get_config() | {
            "channels": self.channels,
            "expansion": self.expansion,
            "stride": self.stride,
            "momentum": self.momentum,
            "padding": self.padding,
            "epsilon": self.epsilon,
        }
