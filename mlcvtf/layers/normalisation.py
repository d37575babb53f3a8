"""The normalisation of pictures that published weights were trained with."""

from collections.abc import Sequence

import keras
from keras import ops

# Name to mean and deviation of red, green and blue in 0..255, and whether the network
# takes blue, green, red. "caffe": He et al.'s release and `keras.applications`;
# "mean_std": torchvision, timm and Hugging Face; "unit": TensorFlow's -1..1;
# "zero_one": 0..1.
NORMALISATIONS = {
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), True),
    "mean_std": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False),
    "unit": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), False),
    "zero_one": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), False),
}


@keras.saving.register_keras_serializable(package="mlcvtf")
class ImageNormalisation(keras.layers.Layer):
    """Subtracts a colour's mean, divides by its deviation: `(x - mean) / std`.

    The numbers are constants, not variables: they belong to the weights of a network
    and are never trained. Computes in float32 and casts the result to the layer's
    compute dtype.

    Args:
        mean: one number per channel, in the order of the input and in its unit.
        std: one number per channel, greater than 0.
        bgr: gives the channels in reverse order.

    Input: `[batch, height, width, channels]`, any numbers, such as 0..255.
    Output: float `[batch, height, width, channels]`.

    Raises:
        ValueError: mean and std differ in length, or a deviation is not positive.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], bgr: bool = False, **kwargs
    ):
        super().__init__(autocast=False, **kwargs)
        self.mean, self.std = [float(v) for v in mean], [float(v) for v in std]
        self.bgr = bgr
        if len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(
                "mean and std have one number per channel and std is greater than 0, "
                f"received {self.mean} and {self.std}"
            )
        # A grey picture would silently become one of three channels.
        self.input_spec = keras.layers.InputSpec(axes={-1: len(self.mean)})

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = (x - ops.array(self.mean, "float32")) / ops.array(self.std, "float32")
        return ops.cast(ops.flip(x, axis=-1) if self.bgr else x, self.compute_dtype)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self):
        return super().get_config() | {
            "mean": self.mean,
            "std": self.std,
            "bgr": self.bgr,
        }


def named_normalisation(source: str, /, **kwargs) -> ImageNormalisation:
    """Builds one of `NORMALISATIONS`.

    Args:
        source: "caffe", "mean_std", "unit" or "zero_one".
        **kwargs: of the layer, such as its name.

    Returns:
        The layer, for RGB pictures in 0..255.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if source not in NORMALISATIONS:
        raise ValueError(
            f"normalisation is one of {', '.join(NORMALISATIONS)}, received {source!r}"
        )
    mean, std, bgr = NORMALISATIONS[source]
    return ImageNormalisation(mean, std, bgr, **kwargs)
