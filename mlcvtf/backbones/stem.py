"""What the first layers of convolutional backbones share.

The normalisation of pictures that published weights were trained with, and the
convolution with batch normalisation and activation that opens (and often closes) a
network, in the padding of the weights' source.
"""

import keras

from mlcvtf.layers.normalisation import ImageNormalisation, named_normalisation


def image_input(input_shape: tuple, normalisation: str | tuple):
    """Opens a functional model with normalised pictures.

    Args:
        input_shape: height, width and 3 channels; height and width may be None.
        normalisation: name that `named_normalisation` knows, or (mean, deviation),
            each a number per channel in 0..255.

    Returns:
        (symbolic float32 `[batch, height, width, 3]` in 0..255, the same normalised).

    Raises:
        ValueError: the input has not three channels, or `normalisation` is unknown.
    """
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    images = keras.Input(input_shape, name="images")
    if isinstance(normalisation, str):
        layer = named_normalisation(normalisation, name="normalisation")
    else:
        layer = ImageNormalisation(*normalisation, name="normalisation")
    return images, layer(images)


def convolution_block(
    x,
    channels: int,
    kernel_size: int,
    stride: int,
    activation: str,
    padding: str,
    epsilon: float,
    momentum: float,
    name: str,
    kernel_initializer="glorot_uniform",
):
    """Applies a convolution, batch normalisation and an activation.

    Args:
        x: float `[batch, height, width, c]`.
        channels: output channels.
        kernel_size: odd side of the kernel.
        stride: 1 or 2.
        activation: "relu6" or one that `keras.layers.Activation` knows.
        padding: "same", or "symmetric" as in PyTorch; they differ where the stride
            is 2 and a side even.
        epsilon: of batch normalisation.
        momentum: of batch normalisation's moving statistics.
        name: of the convolution; the normalisation is `name` + "_normalisation".
        kernel_initializer: of the convolution.

    Returns:
        Float `[batch, ceil(height / stride), ceil(width / stride), channels]`.
    """
    symmetric = padding == "symmetric" and stride > 1
    if symmetric:
        x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_padding")(x)
    x = keras.layers.Conv2D(
        channels,
        kernel_size,
        stride,
        padding="valid" if symmetric else "same",
        use_bias=False,
        kernel_initializer=kernel_initializer,
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(
        epsilon=epsilon, momentum=momentum, name=f"{name}_normalisation"
    )(x)
    if activation == "relu6":
        return keras.layers.ReLU(6.0, name=f"{name}_activation")(x)
    return keras.layers.Activation(activation, name=f"{name}_activation")(x)
