"""What the first layers of convolutional backbones share.

The normalisation of pictures that published weights were trained with, and the
convolution with batch normalisation and activation that opens (and often closes) a
network, in the padding of the weights' source.
"""

import keras

# Mean and standard deviation of pixels in 0..1, per channel. "mean_std" is ImageNet's,
# as every release that standardises rounds it; "unit" maps to -1..1.
NORMALISATIONS = {
    "mean_std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "zero_one": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
ACTIVATIONS = {"relu": {}, "relu6": {"max_value": 6.0}}


def image_input(input_shape: tuple, normalisation: str | tuple):
    """Opens a functional model with normalised pictures.

    Args:
        input_shape: height, width and 3 channels; height and width may be None.
        normalisation: key of `NORMALISATIONS`, or (mean, deviation), each a number
            per channel in 0..1.

    Returns:
        (symbolic float32 `[batch, height, width, 3]` in 0..255; the same as
        `(x / 255 - mean) / deviation`).

    Raises:
        ValueError: the input has not three channels, or `normalisation` is unknown.
    """
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    images = keras.Input(input_shape, name="images")
    if isinstance(normalisation, str):
        if normalisation not in NORMALISATIONS:
            raise ValueError(
                f"normalisation is one of {', '.join(NORMALISATIONS)} or (mean, "
                f"deviation), received {normalisation!r}"
            )
        normalisation = NORMALISATIONS[normalisation]
    mean, deviation = normalisation
    if len(set(mean)) == len(set(deviation)) == 1:
        scale, offset = 1 / (255 * deviation[0]), -mean[0] / deviation[0]
    else:
        scale = [1 / (255 * d) for d in deviation]
        offset = [-m / d for m, d in zip(mean, deviation, strict=True)]
    layer = keras.layers.Rescaling(scale, offset=offset, name="normalisation")
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
):
    """Applies a convolution, batch normalisation and an activation.

    Args:
        x: float `[batch, height, width, c]`.
        channels: output channels.
        kernel_size: odd side of the kernel.
        stride: 1 or 2.
        activation: "relu", "relu6" or another that `keras.layers.Activation` knows.
        padding: "same", or "symmetric" as in PyTorch; they differ where the stride
            is 2 and a side even.
        epsilon: of batch normalisation.
        momentum: of batch normalisation's moving statistics.
        name: of the convolution; the normalisation is `name` + "_normalisation".

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
        name=name,
    )(x)
    x = keras.layers.BatchNormalization(
        epsilon=epsilon, momentum=momentum, name=f"{name}_normalisation"
    )(x)
    if activation in ACTIVATIONS:
        options = ACTIVATIONS[activation]
        return keras.layers.ReLU(**options, name=f"{name}_activation")(x)
    return keras.layers.Activation(activation, name=f"{name}_activation")(x)
