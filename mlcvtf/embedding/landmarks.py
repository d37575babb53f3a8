"""A small network that finds landmarks in a face crop.

One heat map per landmark, read by soft-argmax: Sun, Xiao, Wei, Liang, Wei, 2018,
"Integral Human Pose Regression", arXiv:1711.08229. It prepares training pictures
(`configs/face_landmarks.py`); the shipped detector finds landmarks itself.
"""

import keras
from keras import ops

from mlcvtf.layers.decoder import pyramid_decoder


@keras.saving.register_keras_serializable(package="mlcvtf")
class SoftArgmax(keras.layers.Layer):
    """Expected position under the softmax of each map.

    Args:
        stride: pixels per cell of the maps.

    Input: float `[batch, height, width, points]`, logits.
    Output: float32 `[batch, points, 2]`, x and y in pixels; cell (0, 0) has its
    centre at (stride - 1) / 2.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.stride = stride

    def call(self, inputs):
        batch, height, width, points = ops.shape(inputs)
        flat = ops.reshape(inputs, (batch, height * width, points))
        share = ops.softmax(flat, axis=1)
        share = ops.reshape(share, (batch, height, width, points))
        x = ops.sum(share * ops.arange(width, dtype="float32")[:, None], axis=(1, 2))
        y = ops.sum(
            share * ops.arange(height, dtype="float32")[:, None, None], axis=(1, 2)
        )
        return ops.stack([x, y], axis=-1) * self.stride + (self.stride - 1) / 2

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1], 2)

    def get_config(self):
        config = super().get_config() | {"stride": self.stride}
        del config["dtype"]
        return config


def landmark_network(
    backbone: keras.Model, points: int = 5, width: int = 48
) -> keras.Model:
    """Puts a decoder and heat maps on the trunk of a face embedder.

    Args:
        backbone: what `arcface.face_backbone` gives; its features of stride 4 and
            more are used, its dense end is not.
        points: number of landmarks.
        width: channels of the decoder.

    Returns:
        Functional model: float32 `[batch, size, size, 3]` in 0..255 to float32
        `[batch, points, 2]`, pixels of the crop.
    """
    # A later block of the same side replaces an earlier one.
    stages = {
        layer.output.shape[1]: layer.output
        for layer in backbone.layers
        if isinstance(layer, keras.layers.PReLU)
    }
    size = backbone.input.shape[1]
    pyramid = {
        f"P{level}": stages[size >> level]
        for level in range(2, size.bit_length())
        if size >> level in stages
    }
    decoder = pyramid_decoder({k: v.shape[-1] for k, v in pyramid.items()}, width)
    maps = keras.layers.Conv2D(points, 1, dtype="float32", name="maps")
    return keras.Model(
        backbone.input, SoftArgmax(4, name="points")(maps(decoder(pyramid)))
    )
