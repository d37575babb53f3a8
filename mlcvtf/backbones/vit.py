"""Vision Transformer backbones.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer,
Heigold, Gelly, Uszkoreit, Houlsby, 2021, "An Image is Worth 16x16 Words: Transformers
for Image Recognition at Scale", arXiv:2010.11929. Faithful to section 3.1 and table 1:
pre-norm blocks with exact GELU, learned positions, a class token, epsilon 1e-6 as in
the authors' release. Ti and S are those of Touvron et al., 2021, "Training
data-efficient image transformers", arXiv:2012.12877, table 1, without distillation.
Differs: pictures of any size, whose positions are stretched bicubically (the release
does so bilinearly, before fine-tuning); the map of patches comes out beside the class
token; the representation layer of pre-training ("pre-logits") is left out.
"""

from typing import NamedTuple

import keras

from mlcvtf.layers.normalisation import named_normalisation
from mlcvtf.layers.patches import ClassToken, PatchEmbedding, TokensToMap, VisionTokens
from mlcvtf.layers.transformer import TransformerEncoderBlock


class Variant(NamedTuple):
    """A row of table 1.

    Attributes:
        depth: number of blocks.
        dimension: channels of a token, D.
        hidden: units of the feed-forward networks.
        heads: of attention.
        patch: side of a patch in pixels.
    """

    depth: int
    dimension: int
    hidden: int
    heads: int
    patch: int


# Table 1 of arXiv:2010.11929; Ti and S of table 1 of arXiv:2012.12877.
VARIANTS = {
    "ti16": Variant(12, 192, 768, 3, 16),
    "s16": Variant(12, 384, 1536, 6, 16),
    "b16": Variant(12, 768, 3072, 12, 16),
    "b32": Variant(12, 768, 3072, 12, 32),
    "l16": Variant(24, 1024, 4096, 16, 16),
    "h14": Variant(32, 1280, 5120, 16, 14),
}


def vit(
    variant: str | Variant = "b16",
    input_shape: tuple = (None, None, 3),
    resolution: int | tuple[int, int] = 224,
    patch: int | None = None,
    class_token: bool = True,
    normalisation: str = "unit",
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-6,
    kernel: str = "bicubic",
    name: str | None = None,
) -> keras.Model:
    """Builds a Vision Transformer as a backbone of one map.

    For small pictures: `vit("ti16", resolution=32, patch=4)`.

    Args:
        variant: key of `VARIANTS`, or a `Variant`.
        input_shape: height, width and 3 channels; height and width may be None.
        resolution: side (or height and width) in pixels of the pictures whose
            positions are learned; those of others are interpolated.
        patch: side of a patch in pixels in place of the variant's.
        class_token: whether there is one; without it heads average the map.
        normalisation: "unit" as the authors' release, timm's augreg and Hugging Face's
            google/vit, "mean_std" as torchvision and DeiT (see
            `mlcvtf.layers.normalisation`).
        dropout: share that training drops of the embedded patches and of what blocks
            add.
        attention_dropout: share of the attention weights that training drops.
        epsilon: of layer normalisation.
        kernel: of the interpolation, "bicubic" or "bilinear".
        name: name of the model.

    Returns:
        A functional model. Input: float32 `[batch, height, width, 3]` in 0..255.
        Output: dict with one map `[batch, height / patch, width / patch, D]`, rounded
        up, after the last normalisation, named by its stride: "P4" for 16, "P5" for
        32, "P2" for 4, and "stride14" for 14 or any other that is no power of two;
        and "class_token" `[batch, D]` if there is one.

    Raises:
        ValueError: an unknown variant or normalisation, a resolution that the patch
            does not divide, or the input has not three channels.
    """
    row = _variant(variant)
    patch = row.patch if patch is None else patch
    grid = _grid(resolution, patch)
    if len(input_shape) != 3 or input_shape[-1] != 3:
        raise ValueError(
            f"input_shape is (height, width, 3), received {tuple(input_shape)}"
        )
    images = keras.Input(input_shape, name="images")
    x = named_normalisation(normalisation, name="normalisation")(images)
    patches = PatchEmbedding(row.dimension, patch, name="patches")(x)
    x = VisionTokens(grid, class_token, kernel, name="tokens")(patches)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    for index in range(row.depth):
        x = TransformerEncoderBlock(
            row.heads,
            row.hidden,
            activation="gelu",
            dropout=dropout,
            attention_dropout=attention_dropout,
            epsilon=epsilon,
            name=f"block{index}",
        )(x)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    outputs = {level(patch): TokensToMap(class_token, name="map")(x, patches)}
    if class_token:
        outputs["class_token"] = ClassToken(name="class_token")(x)
    named = variant if isinstance(variant, str) else "custom"
    return keras.Model(images, outputs, name=name or f"vit_{named}")


def level(stride: int) -> str:
    """Names a map by its stride: "P4" for 16, "stride14" for no power of two.

    >>> level(16), level(14)
    ('P4', 'stride14')
    """
    power = stride.bit_length() - 1
    return f"P{power}" if stride == 1 << power else f"stride{stride}"


def _variant(variant):
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"variant is one of {', '.join(VARIANTS)}, received {variant}")
    return VARIANTS[variant]


def _grid(resolution, patch):
    sides = (resolution,) * 2 if isinstance(resolution, int) else tuple(resolution)
    if len(sides) != 2 or any(side < 1 or side % patch for side in sides):
        raise ValueError(
            f"resolution is a multiple of the patch ({patch}), received {resolution}"
        )
    return tuple(side // patch for side in sides)
