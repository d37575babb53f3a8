"""The way up from a pyramid's coarsest level to its finest."""

import keras


def pyramid_decoder(
    channels: dict[str, int], width: int = 32, name: str = "decoder"
) -> keras.Model:
    """Builds the way up from the coarsest level to stride 4.

    Args:
        channels: "P2" to "Pn" and the channels of each.
        width: channels of every level of the decoder.
        name: name of the model.

    Returns:
        Functional model from a dict of those maps to float
        `[batch, height / 4, width / 4, width]`.
    """
    inputs = {
        level: keras.Input((None, None, count), name=level)
        for level, count in channels.items()
    }
    x = None
    for level in sorted(channels, reverse=True):
        lateral = keras.layers.Conv2D(width, 1, use_bias=False)(inputs[level])
        lateral = keras.layers.BatchNormalization()(lateral)
        if x is not None:
            x = keras.layers.UpSampling2D(2, interpolation="nearest")(x)
            lateral = keras.layers.Add()([lateral, x])
        x = keras.layers.ReLU()(lateral)
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, x, name=name)
