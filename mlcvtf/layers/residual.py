"""Residual blocks: basic, bottleneck (ResNet, ResNeXt, SENet) and pre-activated (WRN).

All pad symmetrically, as Caffe and PyTorch do, in strided convolutions too.
"""

import keras
from keras import ops

from mlcvtf.layers.grouped_convolution import GroupedConv2D
from mlcvtf.layers.squeeze_excite import SqueezeExcite

SHORTCUTS = ("projection", "padding")
STRIDED = ("conv1", "conv2")


class _Residual(keras.layers.Layer):
    """A branch of convolutions that is added to a shortcut."""

    def __init__(
        self,
        filters,
        stride=1,
        rate=1,
        use_bias=False,
        epsilon=1e-5,
        momentum=0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("stride", stride), ("rate", rate)):
            if value < 1:
                raise ValueError(f"{name} is at least 1, received {value}")
        self.filters, self.stride, self.rate = filters, stride, rate
        self.use_bias, self.epsilon, self.momentum = use_bias, epsilon, momentum

    def _convolution(self, name, filters, size, stride=1, rate=1, groups=1):
        options = {
            "use_bias": self.use_bias,
            "kernel_initializer": "he_normal",
            "dtype": self.dtype_policy,
            "name": name,
        }
        if groups == 1 and stride == 1:
            return keras.layers.Conv2D(
                filters, size, padding="same", dilation_rate=rate, **options
            )
        return GroupedConv2D(
            filters, size, groups, stride, "symmetric", rate, **options
        )

    def _normalisation(self, name, gamma="ones"):
        return keras.layers.BatchNormalization(
            epsilon=self.epsilon,
            momentum=self.momentum,
            gamma_initializer=gamma,
            dtype=self.dtype_policy,
            name=f"{name}_normalisation",
        )

    def _relu(self):
        return keras.layers.ReLU(dtype=self.dtype_policy)

    def _finish(self, parts, input_shape):
        """Builds lists of layers that are applied one after the other."""
        for steps in parts:
            shape = input_shape
            for step in steps:
                step.build(shape)
                shape = step.compute_output_shape(shape)
                # Keras freezes the layers that are there when a block is frozen; one
                # frozen, or saved so, before it is built would train its statistics.
                step.trainable = self.trainable

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        sides = [None if s is None else -(-s // self.stride) for s in (height, width)]
        return (batch, *sides, self.filters)

    def get_config(self):
        names = ("filters", "stride", "rate", "use_bias", "epsilon", "momentum")
        return super().get_config() | {name: getattr(self, name) for name in names}


class _Activated(_Residual):
    """`relu(branch(x) + shortcut(x))`, the order of He et al., 2016."""

    def __init__(
        self, filters, squeeze_ratio=None, shortcut="projection", zero_gamma=False, **kw
    ):
        super().__init__(filters, **kw)
        if shortcut not in SHORTCUTS:
            raise ValueError(
                f"shortcut is one of {', '.join(SHORTCUTS)}, received {shortcut!r}"
            )
        self.squeeze_ratio, self.shortcut = squeeze_ratio, shortcut
        self.zero_gamma = zero_gamma

    def build(self, input_shape):
        channels = input_shape[-1]
        last = "zeros" if self.zero_gamma else "ones"
        self.branch = []
        convolutions = self._convolutions()
        for convolution in convolutions[:-1]:
            self.branch += [
                convolution,
                self._normalisation(convolution.name),
                self._relu(),
            ]
        self.branch += [
            convolutions[-1],
            self._normalisation(convolutions[-1].name, last),
        ]
        if self.squeeze_ratio is not None:
            self.branch.append(
                SqueezeExcite(
                    max(1, self.filters // self.squeeze_ratio),
                    dtype=self.dtype_policy,
                    name="squeeze_excite",
                )
            )
        self.projection = []
        self.changes = self.stride > 1 or channels != self.filters
        if self.changes and self.shortcut == "projection":
            self.projection = [
                self._convolution("shortcut", self.filters, 1, self.stride),
                self._normalisation("shortcut"),
            ]
        elif channels > self.filters:
            raise ValueError(
                "a shortcut by padding adds channels, received "
                f"{channels} for {self.filters}"
            )
        self._finish((self.branch, self.projection), input_shape)

    def call(self, inputs, training=None):
        x = _run(self.branch, inputs, training)
        shortcut = _run(self.projection, inputs, training)
        if self.changes and not self.projection:
            shortcut = shortcut[:, :: self.stride, :: self.stride]
            more = self.filters - inputs.shape[-1]
            shortcut = ops.pad(shortcut, [[0, 0], [0, 0], [0, 0], [0, more]])
        return ops.relu(x + shortcut)

    def get_config(self):
        names = ("squeeze_ratio", "shortcut", "zero_gamma")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="mlcvtf")
class BasicBlock(_Activated):
    """Adds two 3x3 convolutions to the input: `relu(x + B(conv(relu(B(conv(x))))))`.

    B is batch normalisation. Where stride or channels change, the shortcut is a strided
    1x1 convolution with batch normalisation, or the input with zero channels added.

    Args:
        filters: output channels.
        stride: of the first convolution, 1 or more.
        rate: dilation of both convolutions, 1 or more.
        squeeze_ratio: channels over the width of the squeeze of `SqueezeExcite` at the
            branch's end; None leaves it out.
        shortcut: where the shape changes, "projection" (option B of He et al.) or
            "padding" (option A, without parameters).
        use_bias: convolutions have biases, as in `keras.applications`.
        zero_gamma: the last gamma starts at zero, so that the block starts as the
            identity (Goyal et al., 2017, arXiv:1706.02677, section 5.1).
        epsilon: of batch normalisation.
        momentum: of the moving statistics of batch normalisation.
        **kwargs: of `keras.layers.Layer`.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), filters]`.

    Raises:
        ValueError: a number is out of its range, unknown `shortcut`, or a shortcut by
            padding with fewer channels out than in.

    References:
        He, Zhang, Ren, Sun, 2016, "Deep Residual Learning for Image Recognition",
        arXiv:1512.03385, figure 5, left.
    """

    def __init__(
        self,
        filters: int,
        stride: int = 1,
        rate: int = 1,
        squeeze_ratio: int | None = None,
        shortcut: str = "projection",
        use_bias: bool = False,
        zero_gamma: bool = False,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(
            filters,
            squeeze_ratio=squeeze_ratio,
            shortcut=shortcut,
            zero_gamma=zero_gamma,
            stride=stride,
            rate=rate,
            use_bias=use_bias,
            epsilon=epsilon,
            momentum=momentum,
            **kwargs,
        )

    def _convolutions(self):
        return [
            self._convolution("conv1", self.filters, 3, self.stride, self.rate),
            self._convolution("conv2", self.filters, 3, 1, self.rate),
        ]


@keras.saving.register_keras_serializable(package="mlcvtf")
class BottleneckBlock(_Activated):
    """Adds 1x1, 3x3 and 1x1 convolutions to the input; grouped, it is ResNeXt's.

    Each convolution has batch normalisation; ReLU follows the first two and the sum.

    Args:
        filters: output channels.
        width: channels of the 3x3 convolution, all groups together.
        stride: 1 or more.
        rate: dilation of the 3x3 convolution, 1 or more.
        groups: of the 3x3 convolution, a divisor of `width`.
        strided: the convolution with the stride, "conv1" (the first 1x1, as in the
            paper and `keras.applications`) or "conv2" (the 3x3, "v1.5", torchvision).
        squeeze_ratio: as in `BasicBlock`; SENet.
        shortcut: as in `BasicBlock`.
        use_bias: as in `BasicBlock`.
        zero_gamma: as in `BasicBlock`.
        epsilon: of batch normalisation.
        momentum: of the moving statistics of batch normalisation.
        **kwargs: of `keras.layers.Layer`.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), filters]`.

    Raises:
        ValueError: a number is out of its range, `groups` does not divide `width`, or
            unknown `strided` or `shortcut`.

    References:
        He et al., 2016, arXiv:1512.03385, figure 5, right; Xie et al., 2017,
        "Aggregated Residual Transformations for Deep Neural Networks",
        arXiv:1611.05431, figure 3c; Hu et al., 2018, arXiv:1709.01507, figure 3.
    """

    def __init__(
        self,
        filters: int,
        width: int,
        stride: int = 1,
        rate: int = 1,
        groups: int = 1,
        strided: str = "conv2",
        squeeze_ratio: int | None = None,
        shortcut: str = "projection",
        use_bias: bool = False,
        zero_gamma: bool = False,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(
            filters,
            squeeze_ratio=squeeze_ratio,
            shortcut=shortcut,
            zero_gamma=zero_gamma,
            stride=stride,
            rate=rate,
            use_bias=use_bias,
            epsilon=epsilon,
            momentum=momentum,
            **kwargs,
        )
        if width < 1 or groups < 1 or width % groups:
            raise ValueError(
                f"groups divides width, received {groups} groups of {width} channels"
            )
        if strided not in STRIDED:
            raise ValueError(
                f"strided is one of {', '.join(STRIDED)}, received {strided!r}"
            )
        self.width, self.groups, self.strided = width, groups, strided

    def _convolutions(self):
        first = self.stride if self.strided == "conv1" else 1
        second = self.stride if self.strided == "conv2" else 1
        return [
            self._convolution("conv1", self.width, 1, first),
            self._convolution("conv2", self.width, 3, second, self.rate, self.groups),
            self._convolution("conv3", self.filters, 1),
        ]

    def get_config(self):
        names = ("width", "groups", "strided")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="mlcvtf")
class PreActivationBlock(_Residual):
    """Adds two 3x3 convolutions, each after batch normalisation and ReLU, to the input.

    Where the channels change, the shortcut is a strided 1x1 convolution of the
    activated input, as in the authors' release.

    Args:
        filters: output channels.
        stride: of the first convolution, 1 or more.
        dropout: share of values dropped between the convolutions, 0 to below 1.
        epsilon: of batch normalisation.
        momentum: of the moving statistics of batch normalisation.
        **kwargs: of `keras.layers.Layer`.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / stride), ceil(width / stride), filters]`.

    Raises:
        ValueError: a number is out of its range.

    References:
        He et al., 2016, "Identity Mappings in Deep Residual Networks",
        arXiv:1603.05027; Zagoruyko, Komodakis, 2016, "Wide Residual Networks",
        arXiv:1605.07146, figure 1c and d.
    """

    def __init__(
        self,
        filters: int,
        stride: int = 1,
        dropout: float = 0.0,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(
            filters, stride=stride, epsilon=epsilon, momentum=momentum, **kwargs
        )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is 0 to below 1, received {dropout}")
        self.dropout = dropout

    def build(self, input_shape):
        self.opening = [self._normalisation("conv1"), self._relu()]
        self.branch = [
            self._convolution("conv1", self.filters, 3, self.stride),
            self._normalisation("conv2"),
            self._relu(),
            keras.layers.Dropout(self.dropout, dtype=self.dtype_policy),
            self._convolution("conv2", self.filters, 3),
        ]
        self.projection = []
        if self.stride > 1 or input_shape[-1] != self.filters:
            self.projection = [
                self._convolution("shortcut", self.filters, 1, self.stride)
            ]
        self._finish((self.opening, self.branch, self.projection), input_shape)

    def call(self, inputs, training=None):
        x = _run(self.opening, inputs, training)
        shortcut = _run(self.projection, x, training) if self.projection else inputs
        return shortcut + _run(self.branch, x, training)

    def get_config(self):
        config = super().get_config() | {"dropout": self.dropout}
        return {k: v for k, v in config.items() if k not in ("rate", "use_bias")}


def _run(steps, x, training):
    """Applies layers one after the other."""
    trained = (keras.layers.BatchNormalization, keras.layers.Dropout)
    for step in steps:
        x = step(x, training=training) if isinstance(step, trained) else step(x)
    return x
