"""A small network that finds landmarks in a face crop.

One heat map per landmark, read by soft-argmax: Sun, Xiao, Wei, Liang, Wei, 2018,
"Integral Human Pose Regression", arXiv:1711.08229. It prepares training pictures
(`configs/face_landmarks.py`); the shipped detector finds landmarks itself.
"""

import keras
from keras import ops

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
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


def landmark_network(size: int = 112, points: int = 5, alpha: float = 0.35):
    """Builds the network.

    Args:
        size: side of the crop in pixels, a multiple of 16.
        points: number of landmarks.
        alpha: width multiplier of the MobileNetV2 backbone.

    Returns:
        Functional model: float32 `[batch, size, size, 3]` in 0..255 to float32
        `[batch, points, 2]`, pixels of the crop.
    """
    backbone = mobilenet_v2(
        alpha, last_channels=None, input_shape=(size, size, 3), momentum=0.98
    )
    pyramid = {
        level: maps for level, maps in backbone.output.items() if "P2" <= level <= "P4"
    }
    decoder = pyramid_decoder({k: v.shape[-1] for k, v in pyramid.items()}, width=32)
    maps = keras.layers.Conv2D(points, 1, name="maps")(decoder(pyramid))
    return keras.Model(backbone.input, SoftArgmax(4, name="points")(maps))
