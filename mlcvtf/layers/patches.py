"""From pictures to the tokens of a vision Transformer, and back to maps.

Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words: Transformers for Image
Recognition at Scale", arXiv:2010.11929, section 3.1.
"""

import keras
from keras import ops

from mlcvtf.layers.positions import check_grid
from mlcvtf.ops.positions import resize_grid


@keras.saving.register_keras_serializable(package="mlcvtf")
class PatchEmbedding(keras.layers.Conv2D):
    """Projects every square patch of a picture linearly.

    A convolution whose stride is its size. Where a side is no multiple of the patch,
    zeros are added evenly on both sides, so that nothing is lost.

    Args:
        dimension: channels of a token.
        patch: side of a patch in pixels.

    Input: float `[batch, height, width, c]`.
    Output: float `[batch, ceil(height / patch), ceil(width / patch), dimension]`.

    Raises:
        ValueError: a number is not positive.

    References:
        Dosovitskiy et al., 2021, arXiv:2010.11929, equation 1.
    """

    def __init__(self, dimension: int, patch: int, **kwargs):
        if dimension < 1 or patch < 1:
            raise ValueError(
                f"dimension and patch are at least 1, received {dimension} and {patch}"
            )
        super().__init__(dimension, patch, patch, padding="same", **kwargs)
        self.dimension, self.patch = dimension, patch

    def get_config(self):
        kept = {
            k: v
            for k, v in super().get_config().items()
            if k in ("name", "trainable", "dtype")
        }
        return kept | {"dimension": self.dimension, "patch": self.patch}


@keras.saving.register_keras_serializable(package="mlcvtf")
class VisionTokens(keras.layers.Layer):
    """Makes a sequence of a map, with learned positions and a class token in front.

    Positions of maps of another size are stretched (see
    `mlcvtf.ops.positions.resize_matrix`); the class token keeps its own.

    Args:
        grid: (rows, columns) of the positions that are learned.
        class_token: whether a learned token stands in front of the sequence.
        kernel: "bicubic", as timm stretches positions, or "bilinear".

    Input: float `[batch, height, width, d]`.
    Output: float `[batch, height * width, d]`, one token more with `class_token`.

    Raises:
        ValueError: a side is not positive, or an unknown kernel.

    References:
        Dosovitskiy et al., 2021, arXiv:2010.11929, equation 1 and section 3.2.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        class_token: bool = True,
        kernel: str = "bicubic",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_grid(grid, kernel)
        self.grid, self.class_token, self.kernel = tuple(grid), class_token, kernel

    def build(self, input_shape):
        dimension = input_shape[-1]
        count = self.grid[0] * self.grid[1] + self.class_token
        self.positions = self.add_weight(
            shape=(1, count, dimension),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="positions",
        )
        if self.class_token:
            self.token = self.add_weight(
                shape=(1, 1, dimension), initializer="zeros", name="class_token"
            )

    def table(self):
        """Returns the learned positions of the map: float `[*grid, d]`."""
        table = self.positions[0, int(self.class_token) :]
        return ops.reshape(table, (*self.grid, table.shape[-1]))

    def call(self, inputs):
        shape, dimension = ops.shape(inputs), inputs.shape[-1]
        table = ops.cast(self.table(), "float32")
        table = resize_grid(table, shape[1], shape[2], self.kernel)
        tokens = inputs + ops.cast(table, inputs.dtype)
        tokens = ops.reshape(tokens, (-1, shape[1] * shape[2], dimension))
        if not self.class_token:
            return tokens
        first = ops.cast(self.token, "float32")
        first = first + ops.cast(self.positions[:, :1], "float32")
        # A sum, not a broadcast: the size of the batch may be unknown.
        first = 0 * tokens[:, :1] + ops.cast(first, inputs.dtype)
        return ops.concatenate([first, tokens], axis=1)

    def compute_output_shape(self, input_shape):
        batch, height, width, dimension = input_shape
        known = height is not None and width is not None
        count = height * width + self.class_token if known else None
        return (batch, count, dimension)

    def get_config(self):
        return super().get_config() | {
            "grid": self.grid,
            "class_token": self.class_token,
            "kernel": self.kernel,
        }


@keras.saving.register_keras_serializable(package="mlcvtf")
class TokensToMap(keras.layers.Layer):
    """Lays tokens out as a map again.

    Args:
        class_token: whether the first token is none of the map; it is left out.

    Input: tokens float `[batch, n, d]`, and the map that they were made of, for its
    size.
    Output: float `[batch, height, width, d]`.
    """

    def __init__(self, class_token: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.class_token = class_token

    def call(self, tokens, like):
        shape = ops.shape(like)
        tokens = tokens[:, int(self.class_token) :]
        return ops.reshape(tokens, (-1, shape[1], shape[2], tokens.shape[-1]))

    def compute_output_shape(self, tokens_shape, like_shape):
        return (*like_shape[:-1], tokens_shape[-1])

    def get_config(self):
        return super().get_config() | {"class_token": self.class_token}


@keras.saving.register_keras_serializable(package="mlcvtf")
class ClassToken(keras.layers.Layer):
    """Takes the first token, which stands for the whole picture.

    Input: float `[batch, n, d]`.
    Output: float `[batch, d]`.
    """

    def call(self, tokens):
        return tokens[:, 0]

    def compute_output_shape(self, tokens_shape):
        return (tokens_shape[0], tokens_shape[-1])
