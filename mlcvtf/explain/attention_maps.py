"""What a vision Transformer has learned, as numbers that can be drawn.

The pictures of Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words: Transformers
for Image Recognition at Scale", arXiv:2010.11929, figures 6 and 7, of any backbone of
`mlcvtf.backbones.vit` or a model that holds one. `attention_pictures.py` draws them.
"""

import keras
import numpy as np

from mlcvtf.errors import InputError


def vision_transformer(model: keras.Model) -> keras.Model:
    """Finds the vision Transformer in a model.

    Args:
        model: the backbone itself, or a model whose `backbone` it is.

    Returns:
        The backbone.

    Raises:
        InputError: there is none.
    """
    backbone = getattr(model, "backbone", model)
    names = {layer.name for layer in backbone.layers}
    if not {"patches", "tokens"} <= names or not _blocks(backbone):
        raise InputError(
            f"attention maps are of a model with a vision Transformer, {model.name} "
            "has none"
        )
    return backbone


def patch_filters(backbone: keras.Model, count: int = 28) -> np.ndarray:
    """Returns the principal components of the filters that project patches.

    Args:
        backbone: of `vision_transformer`.
        count: the most components, those of the largest variance first.

    Returns:
        float32 `[count, patch, patch, 3]` in 0..1, each stretched to this range by
        itself; fewer where there are fewer.
    """
    kernel = _array(backbone.get_layer("patches").kernel)
    filters = kernel.reshape(-1, kernel.shape[-1]).T
    centred = filters - filters.mean(axis=0)
    components = np.linalg.svd(centred, full_matrices=False)[2][:count]
    low = components.min(axis=1, keepdims=True)
    high = components.max(axis=1, keepdims=True)
    scaled = (components - low) / np.maximum(high - low, 1e-12)
    return scaled.reshape(-1, *kernel.shape[:3]).astype(np.float32)


def position_similarity(backbone: keras.Model) -> np.ndarray:
    """Returns how alike the learned positions are.

    Args:
        backbone: of `vision_transformer`.

    Returns:
        float32 `[rows, columns, rows, columns]`: the cosine of the position at the
        first two places with that at the last two, in -1..1.
    """
    table = _array(backbone.get_layer("tokens").table())
    unit = table / np.maximum(np.linalg.norm(table, axis=-1, keepdims=True), 1e-12)
    return np.einsum("abd,cde->abce", unit, unit.transpose(0, 2, 1)).astype(np.float32)


def attention_weights(backbone: keras.Model, images) -> np.ndarray:
    """Returns the attention of every block.

    Args:
        backbone: of `vision_transformer`.
        images: float32 `[batch, height, width, 3]` in 0..255.

    Returns:
        float32 `[depth, batch, heads, n, n]`; rows are queries and sum to 1. A class
        token is the first of n.
    """
    blocks = _blocks(backbone)
    inputs = keras.Model(backbone.inputs[0], [block.input for block in blocks])
    tokens = inputs(np.asarray(images, np.float32), training=False)
    return np.stack(
        [
            _array(block.attention_weights(x)).astype(np.float32)
            for block, x in zip(blocks, keras.tree.flatten(tokens), strict=True)
        ]
    )


def grid_of(backbone: keras.Model, images) -> tuple[int, int]:
    """Returns how many rows and columns of patches pictures have.

    Args:
        backbone: of `vision_transformer`.
        images: `[batch, height, width, 3]`.
    """
    patch = backbone.get_layer("patches").patch
    height, width = np.shape(images)[1:3]
    return -(-height // patch), -(-width // patch)


def mean_attention_distance(
    weights: np.ndarray, grid: tuple[int, int], patch: int
) -> np.ndarray:
    """Returns how far heads look, in the mean over queries and pictures.

    The distance between a patch and those that it attends to, weighted by the
    attention among patches: what a class token takes or gives does not count.

    Args:
        weights: float `[depth, batch, heads, n, n]` of `attention_weights`.
        grid: rows and columns of patches.
        patch: side of a patch in pixels.

    Returns:
        float32 `[depth, heads]` in pixels.
    """
    count = grid[0] * grid[1]
    weights = weights[..., -count:, -count:].astype(np.float64)
    weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)
    places = np.stack(np.mgrid[: grid[0], : grid[1]], axis=-1).reshape(-1, 2) * patch
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return (weights * distances).sum(axis=-1).mean(axis=(1, 3)).astype(np.float32)


def attention_rollout(weights: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Returns from which patches the output comes, through all blocks.

    The heads' mean, with half of it given to the residual connection, multiplied over
    the blocks: `A_L ... A_1` with `A = (W + I) / 2`. The row of the class token, or
    the mean of all rows without one.

    Args:
        weights: float `[depth, batch, heads, n, n]` of `attention_weights`.
        grid: rows and columns of patches.

    Returns:
        float32 `[batch, rows, columns]`; the sum is 1 less what stays on the class
        token.

    References:
        Abnar and Zuidema, 2020, "Quantifying Attention Flow in Transformers",
        arXiv:2005.00928, section 4.
    """
    count = grid[0] * grid[1]
    mean = weights.astype(np.float64).mean(axis=2)
    identity = np.eye(mean.shape[-1])
    flow = np.broadcast_to(identity, mean.shape[1:])
    for block in mean:
        flow = (block + identity) / 2 @ flow
    row = flow[:, 0] if mean.shape[-1] > count else flow.mean(axis=1)
    return row[:, -count:].reshape(-1, *grid).astype(np.float32)


def _blocks(backbone):
    """Lists the layers that attend, from the first to the last."""
    return [layer for layer in backbone.layers if hasattr(layer, "attention_weights")]


def _array(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
