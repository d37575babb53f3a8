"""Layers that add to every token where it is: sinusoidal and learned, 1-D and 2-D."""

import keras
from keras import ops

from mlcvtf.ops.positions import (
    KERNELS,
    resize_grid,
    resize_matrix,
    sinusoidal_grid,
    sinusoidal_positions,
)


@keras.saving.register_keras_serializable(package="mlcvtf")
class SinusoidalPositions(keras.layers.Layer):
    """Adds sines and cosines of the place, which are fixed.

    A sequence is encoded as in the paper; of a map, half of the channels encode the
    row and half the column.

    Args:
        base: ratio of the longest wave to the shortest.

    Input: float `[batch, n, d]`, d even, or `[batch, height, width, d]`, d a multiple
    of 4; and `start`, int, the place of the first token of a sequence.
    Output: as the input.

    Raises:
        ValueError: `base` is not above 1, or d does not fit.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.5; in two dimensions Parmar
        et al., 2018, "Image Transformer", arXiv:1802.05751, section 3.1.
    """

    def __init__(self, base: float = 10000.0, **kwargs):
        super().__init__(**kwargs)
        if base <= 1:
            raise ValueError(f"base is above 1, received {base}")
        self.base = base

    def call(self, inputs, start=0):
        shape, dimension = ops.shape(inputs), inputs.shape[-1]
        if len(inputs.shape) == 4:
            code = sinusoidal_grid(shape[1], shape[2], dimension, self.base)
        else:
            places = ops.arange(shape[1], dtype="int32") + start
            code = sinusoidal_positions(places, dimension, self.base)
        return inputs + ops.cast(code, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"base": self.base}


@keras.saving.register_keras_serializable(package="mlcvtf")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector per place of a sequence.

    Args:
        length: number of places that are learned.
        interpolate: stretches the table linearly to a sequence of any length, for
            signals that are sampled otherwise; without it a sequence takes the places
            from `start` on.

    Input: float `[batch, n, d]`, n at most `length` without interpolation; and
    `start`, int, the place of the first token.
    Output: as the input.

    Raises:
        ValueError: `length` is not positive, or a sequence is longer.
    """

    def __init__(self, length: int, interpolate: bool = False, **kwargs):
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"length is at least 1, received {length}")
        self.length, self.interpolate = length, interpolate

    def build(self, input_shape):
        self.positions = self.add_weight(
            shape=(self.length, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="positions",
        )

    def call(self, inputs, start=0):
        count = ops.shape(inputs)[1]
        table = ops.cast(self.positions, inputs.dtype)
        if self.interpolate:
            matrix = resize_matrix(self.length, count, "bilinear")
            return inputs + ops.matmul(ops.cast(matrix, inputs.dtype), table)
        if isinstance(count, int) and count > self.length:
            raise ValueError(
                f"a sequence has at most {self.length} places, received {count}"
            )
        places = ops.arange(count, dtype="int32") + start
        return inputs + ops.take(table, places, axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "length": self.length,
            "interpolate": self.interpolate,
        }


@keras.saving.register_keras_serializable(package="mlcvtf")
class LearnedPositions2D(keras.layers.Layer):
    """Adds a learned vector per place of a map, stretched to maps of another size.

    Args:
        grid: (rows, columns) that are learned.
        kernel: "bicubic" or "bilinear", see `mlcvtf.ops.positions.resize_matrix`.

    Input: float `[batch, height, width, d]` of any size.
    Output: as the input.

    Raises:
        ValueError: a side is not positive, or an unknown kernel.
    """

    def __init__(self, grid: tuple[int, int], kernel: str = "bicubic", **kwargs):
        super().__init__(**kwargs)
        check_grid(grid, kernel)
        self.grid, self.kernel = tuple(grid), kernel

    def build(self, input_shape):
        self.positions = self.add_weight(
            shape=(*self.grid, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="positions",
        )

    def call(self, inputs):
        shape = ops.shape(inputs)
        table = ops.cast(self.positions, "float32")
        table = resize_grid(table, shape[1], shape[2], self.kernel)
        return inputs + ops.cast(table, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {"grid": self.grid, "kernel": self.kernel}


def check_grid(grid, kernel: str) -> None:
    """Checks the size of a table of positions and how it is stretched.

    Args:
        grid: (rows, columns).
        kernel: one of `KERNELS`.

    Raises:
        ValueError: a side is not positive, or an unknown kernel.
    """
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid is two positive sides, received {tuple(grid)}")
    if kernel not in KERNELS:
        raise ValueError(f"kernel is one of {', '.join(KERNELS)}, received {kernel}")
