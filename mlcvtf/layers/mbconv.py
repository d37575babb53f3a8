"""The mobile inverted bottleneck with squeeze and excitation (EfficientNet)."""

import keras

from mlcvtf.layers.squeeze_excite import SqueezeExcite


def initializer() -> keras.initializers.Initializer:
    """Builds the initializer of the release's convolutions.

    Returns:
        Normal numbers of variance 2 over the outputs that an input reaches.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


@keras.saving.register_keras_serializable(package="mlcvtf")
class MBConv(keras.layers.Layer):
    """Expands with 1x1, filters depthwise, weighs channels, projects linearly with 1x1.

    The inverted residual of MobileNetV2 with swish (x times its sigmoid) in place of
    ReLU6, a kernel of any odd size, and squeeze and excitation of the expanded maps.
    The input is added to the output where stride is 1 and channels agree; a training
    step drops the whole branch for some pictures (stochastic depth). With
    `expansion=1` the first 1x1 convolution is left out.

    Args:
        channels: output channels.
        kernel_size: odd side of the depthwise kernel.
        expansion: factor between input channels and the depthwise convolution's.
        stride: 1 or 2.
        squeeze_ratio: width of the squeeze as a share of the block's *input* channels,
            not of the expanded ones; rounded down, at least 1.
        drop_rate: probability that training drops the branch of a picture, 0 to below
            1; kept branches are divided by `1 - drop_rate`.
        padding: of the strided convolution: "same" as in the authors' release, where
            an even side is padded at its end more than at its start, or "symmetric"
            as in PyTorch.
        epsilon: of batch normalisation: 1e-3 in the release, 1e-5 in PyTorch.
        momentum: of the moving statistics of batch normalisation.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), channels]`.

    Raises:
        ValueError: `stride` is neither 1 nor 2, a number is out of its range, or
            `padding` is unknown.

    References:
        Tan, Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
        Networks", arXiv:1905.11946, section 4; Tan et al., 2019, "MnasNet",
        arXiv:1807.11626, figure 7; Huang et al., 2016, "Deep Networks with Stochastic
        Depth", arXiv:1603.09382.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        expansion: int = 6,
        stride: int = 1,
        squeeze_ratio: float = 0.25,
        drop_rate: float = 0.0,
        padding: str = "same",
        epsilon: float = 1e-3,
        momentum: float = 0.99,
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
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is odd, received {kernel_size}")
        if not 0 <= drop_rate < 1:
            raise ValueError(f"drop_rate is 0 to below 1, received {drop_rate}")
        if not 0 < squeeze_ratio <= 1:
            raise ValueError(f"squeeze_ratio is in (0, 1], received {squeeze_ratio}")
        if padding not in ("same", "symmetric"):
            raise ValueError(f'padding is "same" or "symmetric", received {padding!r}')
        self.channels, self.kernel_size = channels, kernel_size
        self.expansion, self.stride = expansion, stride
        self.squeeze_ratio, self.drop_rate = squeeze_ratio, drop_rate
        self.padding, self.epsilon, self.momentum = padding, epsilon, momentum

    def build(self, input_shape):
        filters = input_shape[-1]
        self.residual = self.stride == 1 and filters == self.channels
        squeezed = max(1, int(filters * self.squeeze_ratio))
        self.steps = []
        if self.expansion > 1:
            filters *= self.expansion
            self.steps += [
                self._pointwise(filters, "expand"),
                self._normalisation("expand_normalisation"),
                self._swish(),
            ]
        self.steps += [
            *self._depthwise(),
            self._normalisation("depthwise_normalisation"),
            self._swish(),
            SqueezeExcite(
                squeezed, "silu", dtype=self.dtype_policy, name="squeeze_excite"
            ),
            self._pointwise(self.channels, "project"),
            self._normalisation("project_normalisation"),
        ]
        if self.residual and self.drop_rate > 0:
            self.steps.append(
                keras.layers.Dropout(
                    self.drop_rate,
                    noise_shape=(None, 1, 1, 1),
                    dtype=self.dtype_policy,
                    name="drop",
                )
            )
        shape = input_shape
        for step in self.steps:
            step.build(shape)
            # Keras freezes only the layers that are there when a block is frozen.
            step.trainable = self.trainable
            shape = step.compute_output_shape(shape)

    def _depthwise(self):
        symmetric = self.padding == "symmetric" and self.stride == 2
        if symmetric:
            margin = self.kernel_size // 2
            yield keras.layers.ZeroPadding2D(margin, dtype=self.dtype_policy)
        yield keras.layers.DepthwiseConv2D(
            self.kernel_size,
            self.stride,
            padding="valid" if symmetric else "same",
            use_bias=False,
            depthwise_initializer=initializer(),
            dtype=self.dtype_policy,
            name="depthwise",
        )

    def _pointwise(self, filters, name):
        return keras.layers.Conv2D(
            filters,
            1,
            use_bias=False,
            kernel_initializer=initializer(),
            dtype=self.dtype_policy,
            name=name,
        )

    def _normalisation(self, name):
        return keras.layers.BatchNormalization(
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name=name,
        )

    def _swish(self):
        return keras.layers.Activation("silu", dtype=self.dtype_policy)

    def call(self, inputs, training=None):
        x = inputs
        for step in self.steps:
            if isinstance(step, keras.layers.BatchNormalization | keras.layers.Dropout):
                x = step(x, training=training)
            else:
                x = step(x)
        return inputs + x if self.residual else x

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if s is None else -(-s // self.stride) for s in (height, width)]
        return (batch, *sides, self.channels)

    def get_config(self):
        names = (
            "channels",
            "kernel_size",
            "expansion",
            "stride",
            "squeeze_ratio",
            "drop_rate",
            "padding",
            "epsilon",
            "momentum",
        )
        return super().get_config() | {name: getattr(self, name) for name in names}
