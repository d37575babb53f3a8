"""The inception module: chains of convolutions side by side, concatenated."""

import keras

from mlcvtf.layers.convolution_unit import ConvolutionUnit

POOLINGS = {
    "max": keras.layers.MaxPooling2D,
    "average": keras.layers.AveragePooling2D,
}


@keras.saving.register_keras_serializable(package="mlcvtf")
class InceptionModule(keras.layers.Layer):
    """Sends its input through several branches and concatenates their channels.

    A branch is a sequence of steps, each `(filters, kernel_size)` for a convolution
    with its rectifier, or `("max", size)` or `("average", size)` for a pooling; a third
    number is the stride. The module of Inception-v1 with 64 + 128 + 32 + 32 channels is

        (((64, 1),), ((96, 1), (128, 3)), ((16, 1), (32, 5)), (("max", 3), (32, 1)))

    and a module whose branches all end with stride 2 reduces the map.

    Args:
        branches: the sequences of steps, at least one.
        padding: of strided steps, as `ConvolutionUnit` takes it ("same" or "valid");
            those of stride 1 keep the size.
        batch_normalisation: the convolutions have it in place of biases.
        scale: batch normalisation has a gamma.
        epsilon: of batch normalisation.
        momentum: of its moving statistics.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, height / s, width / s, sum of the branches' channels]` for
    branches of stride s, rounded as `padding` does. An average leaves out the places
    beyond the border.

    Raises:
        ValueError: a step is none of the forms above, or branches give maps of
            different sizes.

    References:
        Szegedy et al., 2014, "Going Deeper with Convolutions", arXiv:1409.4842, figure
        2b.
    """

    def __init__(
        self,
        branches: tuple,
        padding: str = "same",
        batch_normalisation: bool = False,
        scale: bool = True,
        epsilon: float = 1e-3,
        momentum: float = 0.99,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if padding not in ("same", "valid"):
            raise ValueError(f"padding is 'same' or 'valid', received {padding!r}")
        if not branches or not all(branches):
            raise ValueError(f"every branch has a step, received {branches}")
        self.branches = tuple(tuple(map(_step, branch)) for branch in branches)
        self.padding, self.batch_normalisation = padding, batch_normalisation
        self.scale, self.epsilon, self.momentum = scale, epsilon, momentum
        # One flat list: Keras saves the layers of a list, but not of lists in it.
        self.steps = [
            self._layer(step, f"branch{number}_{place}")
            for number, branch in enumerate(self.branches)
            for place, step in enumerate(branch)
        ]

    def _layer(self, step, name):
        kind, size, stride = step
        padding = "same" if stride == 1 else self.padding
        if kind in POOLINGS:
            return POOLINGS[kind](
                size, stride, padding=padding, dtype=self.dtype_policy, name=name
            )
        return ConvolutionUnit(
            kind,
            size,
            stride,
            padding,
            self.batch_normalisation,
            self.scale,
            epsilon=self.epsilon,
            momentum=self.momentum,
            dtype=self.dtype_policy,
            name=name,
        )

    def _chains(self):
        """Yields the layers of each branch."""
        layers = iter(self.steps)
        for branch in self.branches:
            yield [next(layers) for _ in branch]

    def build(self, input_shape):
        shapes = []
        for chain in self._chains():
            shape = input_shape
            for layer in chain:
                layer.build(shape)
                # A module that was saved frozen is built frozen.
                layer.trainable = self.trainable
                shape = layer.compute_output_shape(shape)
            shapes.append(shape)
        if len({tuple(shape[1:3]) for shape in shapes}) > 1:
            raise ValueError(
                f"branches end with maps of one size, received {[*shapes]}"
            )

    def call(self, inputs, training=None):
        results = []
        for chain in self._chains():
            x = inputs
            for layer in chain:
                if isinstance(layer, ConvolutionUnit):
                    x = layer(x, training=training)
                else:
                    x = layer(x)
            results.append(x)
        return keras.ops.concatenate(results, axis=-1)

    def compute_output_shape(self, input_shape):
        channels = 0
        for chain in self._chains():
            shape = input_shape
            for layer in chain:
                shape = layer.compute_output_shape(shape)
            channels += shape[-1]
        return (*shape[:-1], channels)

    def get_config(self):
        return super().get_config() | {
            "branches": self.branches,
            "padding": self.padding,
            "batch_normalisation": self.batch_normalisation,
            "scale": self.scale,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }


@keras.saving.register_keras_serializable(package="mlcvtf")
class InceptionResidual(keras.layers.Layer):
    """Adds a scaled inception module to its input.

    relu(x + scale * project(module(x))), where `project` is a 1x1 convolution with a
    bias and no rectifier that gives the module's output the channels of the input.
    Scaling keeps the training of wide networks from dying early.

    Args:
        branches: as in `InceptionModule`, with stride 1.
        scale: factor of what is added; 0.1 to 0.3 in the paper.
        rectified: ends with a ReLU.
        gamma: batch normalisation has a gamma.
        epsilon: of batch normalisation.
        momentum: of its moving statistics.

    Input, output: float `[batch, height, width, c]`.

    Raises:
        ValueError: a branch has a stride, or a step is malformed.

    References:
        Szegedy, Ioffe, Vanhoucke, Alemi, 2016, "Inception-v4, Inception-ResNet and the
        Impact of Residual Connections on Learning", arXiv:1602.07261, figures 10 to 19
        and section 3.3 (scaling).
    """

    def __init__(
        self,
        branches: tuple,
        scale: float = 0.17,
        rectified: bool = True,
        gamma: bool = True,
        epsilon: float = 1e-3,
        momentum: float = 0.99,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.scale, self.rectified, self.gamma = scale, rectified, gamma
        self.epsilon, self.momentum = epsilon, momentum
        self.module = InceptionModule(
            branches,
            batch_normalisation=True,
            scale=gamma,
            epsilon=epsilon,
            momentum=momentum,
            dtype=self.dtype_policy,
            name="module",
        )
        self.branches = self.module.branches
        if any(stride > 1 for branch in self.branches for *_, stride in branch):
            raise ValueError(f"a residual keeps the size, received {branches}")

    def build(self, input_shape):
        self.module.build(input_shape)
        self.project = keras.layers.Conv2D(
            input_shape[-1], 1, dtype=self.dtype_policy, name="project"
        )
        self.project.build(self.module.compute_output_shape(input_shape))
        self.module.trainable = self.project.trainable = self.trainable

    def call(self, inputs, training=None):
        x = self.project(self.module(inputs, training=training))
        x = inputs + self.scale * x
        return keras.ops.relu(x) if self.rectified else x

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "branches": self.branches,
            "scale": self.scale,
            "rectified": self.rectified,
            "gamma": self.gamma,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
        }


def _step(step):
    """Checks a step; returns its filters or kind, its size and its stride."""
    step = tuple(step)
    named = bool(step) and isinstance(step[0], str)
    if len(step) not in (2, 3) or (named and step[0] not in POOLINGS):
        raise ValueError(
            "a step is (filters, kernel_size), ('max', size) or ('average', size), "
            f"each with or without a stride, received {step}"
        )
    kind, size, stride = step if len(step) == 3 else (*step, 1)
    return kind, size if isinstance(size, int) else tuple(size), stride
