"""The auxiliary softmax heads of Inception-v1."""

import keras
from keras import ops

from mlcvtf.layers.convolution_unit import ConvolutionUnit

WINDOWS = ("overlapping", "adaptive")
GRID = 4


@keras.saving.register_keras_serializable(package="mlcvtf")
class GridPooling(keras.layers.Layer):
    """Averages a map of any size over a fixed grid of windows.

    Args:
        grid: number of windows in each direction.
        windows: "overlapping" has equal windows, of ceil(5 / 14 of the side) and with
            equal distances: on a map of 14 x 14 they are Inception-v1's average pooling
            of 5 x 5 with stride 3. "adaptive" cuts the side into `grid` parts and
            widens each to whole places, as PyTorch's adaptive average pooling does.

    Input: float `[batch, height, width, channels]`.
    Output: float `[batch, grid, grid, channels]`.

    Raises:
        ValueError: `windows` is unknown or `grid` less than 2.

    References:
        Szegedy et al., 2014, "Going Deeper with Convolutions", arXiv:1409.4842,
        section 5.
    """

    def __init__(self, grid: int = GRID, windows: str = "overlapping", **kwargs):
        super().__init__(**kwargs)
        if windows not in WINDOWS:
            raise ValueError(f"windows is one of {WINDOWS}, received {windows!r}")
        if grid < 2:
            raise ValueError(f"grid is at least 2, received {grid}")
        self.grid, self.windows = grid, windows

    def call(self, inputs):
        _, height, width, _ = ops.shape(inputs)
        x = ops.einsum("ih,bhwc->biwc", self._weights(height), inputs)
        return ops.einsum("jw,biwc->bijc", self._weights(width), x)

    def _weights(self, side):
        """Returns `[grid, side]`, a window's share of each place."""
        window = ops.arange(self.grid, dtype="int32")
        if self.windows == "overlapping":
            size = (5 * side + 13) // 14
            start = window * (side - size) // (self.grid - 1)
            end = start + size
        else:
            start = window * side // self.grid
            end = ((window + 1) * side + self.grid - 1) // self.grid
        place = ops.arange(side, dtype="int32")[None]
        inside = (place >= start[:, None]) & (place < end[:, None])
        counts = ops.cast(end - start, "float32")[:, None]
        return ops.cast(ops.cast(inside, "float32") / counts, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.grid, self.grid, input_shape[-1])

    def get_config(self):
        return super().get_config() | {"grid": self.grid, "windows": self.windows}


@keras.saving.register_keras_serializable(package="mlcvtf")
class AuxiliaryHead(keras.layers.Layer):
    """Classifies by a grid of averages from the middle of a network.

    A 1x1 convolution, a dense layer, dropout, a dense layer to the classes.

    Args:
        classes: number of classes, at least 2.
        channels: of the 1x1 convolution.
        units: of the first dense layer.
        dropout: share of its outputs that training drops, 0 to below 1.
        batch_normalisation: the convolution has it in place of a bias.
        epsilon: of batch normalisation.

    Input: float `[batch, 4, 4, c]`, from `GridPooling`.
    Output: float32 `[batch, classes]`, logits.

    Raises:
        ValueError: a number is out of its range.

    References:
        Szegedy et al., 2014, "Going Deeper with Convolutions", arXiv:1409.4842,
        section 5.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 128,
        units: int = 1024,
        dropout: float = 0.7,
        batch_normalisation: bool = False,
        epsilon: float = 1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if classes < 2:
            raise ValueError(f"classes is at least 2, received {classes}")
        if channels < 1 or units < 1:
            raise ValueError(
                f"channels and units are at least 1, received {channels} and {units}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is 0 to below 1, received {dropout}")
        self.classes, self.channels, self.units = classes, channels, units
        self.dropout, self.epsilon = dropout, epsilon
        self.batch_normalisation = batch_normalisation
        self.reduce = ConvolutionUnit(
            channels,
            batch_normalisation=batch_normalisation,
            epsilon=epsilon,
            dtype=self.dtype_policy,
            name="reduce",
        )
        self.hidden = keras.layers.Dense(
            units, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.logits = keras.layers.Dense(classes, dtype="float32", name="logits")

    def build(self, input_shape):
        self.reduce.build(input_shape)
        places = input_shape[1] * input_shape[2]
        self.hidden.build((None, places * self.channels))
        self.logits.build((None, self.units))
        # A head that was saved frozen is built frozen.
        for layer in (self.reduce, self.hidden, self.logits):
            layer.trainable = self.trainable

    def call(self, inputs, training=None):
        x = self.reduce(inputs, training=training)
        # Channel by channel, as published kernels of the dense layer count.
        x = ops.transpose(x, (0, 3, 1, 2))
        x = ops.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
        x = self.drop(self.hidden(x), training=training)
        return self.logits(x)

    def compute_output_spec(self, inputs, training=None):
        return keras.KerasTensor((inputs.shape[0], self.classes), "float32")

    def get_config(self):
        return super().get_config() | {
            "classes": self.classes,
            "channels": self.channels,
            "units": self.units,
            "dropout": self.dropout,
            "batch_normalisation": self.batch_normalisation,
            "epsilon": self.epsilon,
        }
