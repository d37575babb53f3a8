"""Names of published ViT weights: torchvision, timm, Hugging Face.

Used as `carry(ImageClassifier(vit(variant, ...), classes), split_fused(arrays),
rules(source), SKIPPED)` with `SETTINGS[source]` as arguments of `vit`.
"""

from collections.abc import Mapping

import numpy as np

from mlcvtf.weights.name_map import Rule

# Source to its names of architectures, each with the variant.
ARCHITECTURES = {
    "torchvision": {
        "vit_b_16": "b16",
        "vit_b_32": "b32",
        "vit_l_16": "l16",
        "vit_h_14": "h14",
    },
    "timm": {
        "vit_tiny_patch16_224": "ti16",
        "vit_small_patch16_224": "s16",
        "vit_base_patch16_224": "b16",
        "vit_base_patch32_224": "b32",
        "vit_large_patch16_224": "l16",
        "vit_huge_patch14_224": "h14",
        "deit_tiny_patch16_224": "ti16",
        "deit_small_patch16_224": "s16",
        "deit_base_patch16_224": "b16",
    },
    "hugging_face": {
        "google/vit-base-patch16-224": "b16",
        "google/vit-base-patch32-384": "b32",
        "google/vit-large-patch16-224": "l16",
        "facebook/deit-tiny-patch16-224": "ti16",
        "facebook/deit-small-patch16-224": "s16",
        "facebook/deit-base-patch16-224": "b16",
    },
}
# What the sources compute with. timm's and Hugging Face's DeiT, and what timm trained
# on ImageNet itself, take "mean_std" as well.
SETTINGS = {
    "torchvision": {"epsilon": 1e-6, "normalisation": "mean_std"},
    "timm": {"epsilon": 1e-6, "normalisation": "unit"},
    "hugging_face": {"epsilon": 1e-12, "normalisation": "unit"},
}
# A layer for pre-training that the classifier does not use.
SKIPPED = (r"vit\.pooler\..*",)
# Arrays of queries, keys and values in one, and what their parts are called.
FUSED = {
    ".in_proj_weight": ".{}.weight",
    ".in_proj_bias": ".{}.bias",
    ".qkv.weight": ".{}.weight",
    ".qkv.bias": ".{}.bias",
}
PARTS = ("query", "key", "value")


def split_fused(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits arrays that hold the projections of queries, keys and values.

    Args:
        arrays: the checkpoint, by name.

    Returns:
        The checkpoint, with "x.query.weight", "x.key.weight", "x.value.weight" in
        place of torchvision's "x.in_proj_weight" or timm's "x.qkv.weight", and biases
        alike; others as they are.
    """
    split = {}
    for name, array in arrays.items():
        ending = next((end for end in FUSED if name.endswith(end)), None)
        if ending is None or len(array) % 3:
            split[name] = array
            continue
        for part, third in zip(PARTS, np.split(np.asarray(array), 3), strict=True):
            split[name.removesuffix(ending) + FUSED[ending].format(part)] = third
    return split


def rules(source: str) -> list[Rule]:
    """Lists where a source's arrays go, for every variant.

    Args:
        source: key of `ARCHITECTURES`.

    Returns:
        Rules for `name_map.carry` to an `ImageClassifier` of a `vit`, after
        `split_fused`.

    Raises:
        ValueError: unknown source.
    """
    if source not in ARCHITECTURES:
        raise ValueError(
            f"source is one of {', '.join(ARCHITECTURES)}, received {source!r}"
        )
    return {"torchvision": _torchvision, "timm": _timm, "hugging_face": _hugging_face}[
        source
    ]()


def _torchvision():
    block = r"encoder\.layers\.encoder_layer_(\d+)\."
    return [
        Rule("class_token", "tokens/class_token"),
        Rule(r"encoder\.pos_embedding", "tokens/positions"),
        *_layer("conv_proj", "patches", "convolution"),
        *_norm(block + "ln_1", r"block\1/attention_norm"),
        *_attention(block + r"self_attention\.", ("query", "key", "value", "out_proj")),
        *_norm(block + "ln_2", r"block\1/feed_forward_norm"),
        # Older files call the two layers by names.
        *_layer(block + r"mlp\.(?:0|linear_1)", r"block\1/feed_forward/expand"),
        *_layer(block + r"mlp\.(?:3|linear_2)", r"block\1/feed_forward/reduce"),
        *_norm(r"encoder\.ln", "norm"),
        *_layer(r"heads\.head", "logits"),
    ]


def _timm():
    block = r"blocks\.(\d+)\."
    return [
        Rule("cls_token", "tokens/class_token"),
        Rule("pos_embed", "tokens/positions"),
        *_layer(r"patch_embed\.proj", "patches", "convolution"),
        *_norm(block + "norm1", r"block\1/attention_norm"),
        *_attention(block + r"attn\.", ("query", "key", "value", "proj")),
        *_norm(block + "norm2", r"block\1/feed_forward_norm"),
        *_layer(block + r"mlp\.fc1", r"block\1/feed_forward/expand"),
        *_layer(block + r"mlp\.fc2", r"block\1/feed_forward/reduce"),
        *_norm("norm", "norm"),
        *_layer("head", "logits"),
    ]


def _hugging_face():
    """Names of transformers since 5, and of the files on the hub before."""
    new, old = r"vit\.layers\.(\d+)\.", r"vit\.encoder\.layer\.(\d+)\."
    block = r"vit\.(?:layers|encoder\.layer)\.(\d+)\."
    return [
        Rule(r"vit\.embeddings\.cls_token", "tokens/class_token"),
        Rule(r"vit\.embeddings\.position_embeddings", "tokens/positions"),
        *_layer(
            r"vit\.embeddings\.patch_embeddings\.projection", "patches", "convolution"
        ),
        *_norm(block + "layernorm_before", r"block\1/attention_norm"),
        *_attention(new + r"attention\.", ("q_proj", "k_proj", "v_proj", "o_proj")),
        *_attention(old + r"attention\.attention\.", PARTS),
        *_layer(old + r"attention\.output\.dense", r"block\1/attention/project"),
        *_norm(block + "layernorm_after", r"block\1/feed_forward_norm"),
        *_layer(
            block + r"(?:mlp\.fc1|intermediate\.dense)", r"block\1/feed_forward/expand"
        ),
        *_layer(block + r"(?:mlp\.fc2|output\.dense)", r"block\1/feed_forward/reduce"),
        *_norm(r"vit\.layernorm", "norm"),
        *_layer("classifier", "logits"),
    ]


def _attention(prefix, names):
    targets = ("query", "key", "value", "project")[: len(names)]
    return [
        rule
        for name, target in zip(names, targets, strict=True)
        for rule in _layer(prefix + name, rf"block\1/attention/{target}")
    ]


def _layer(name, target, layout="dense"):
    return [
        Rule(name + r"\.weight", f"{target}/kernel", layout),
        Rule(name + r"\.bias", f"{target}/bias"),
    ]


def _norm(name, target):
    return [
        Rule(name + r"\.weight", f"{target}/gamma"),
        Rule(name + r"\.bias", f"{target}/beta"),
    ]
