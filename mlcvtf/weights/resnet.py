"""Names of published ResNet weights: Keras, torchvision, timm, Hugging Face.

Every source's names, such as "layer1.0.conv2.weight", go to the variables of an
`ImageClassifier` on `backbones.resnet.resnet(variant, origin)`.
"""

from mlcvtf.backbones.resnet import VARIANTS
from mlcvtf.weights.name_map import Rule

# Source to its names of architectures, each with the variant and the origin.
ARCHITECTURES = {
    "keras": {
        "resnet50": ("resnet50", "keras"),
        "resnet101": ("resnet101", "keras"),
        "resnet152": ("resnet152", "keras"),
    },
    "torchvision": {
        name: (name, "torch") for name in VARIANTS if not name.startswith("se")
    },
    "timm": {
        **{name: (name, "torch") for name in VARIANTS if name != "seresnext50"},
        "seresnext50_32x4d": ("seresnext50", "torch"),
        "legacy_seresnet50": ("seresnet50", "senet"),
        "legacy_seresnet101": ("seresnet101", "senet"),
        "legacy_seresnext50_32x4d": ("seresnext50", "senet"),
    },
    "hugging_face": {
        "resnet-18": ("resnet18", "torch"),
        "resnet-34": ("resnet34", "torch"),
        "resnet-50": ("resnet50", "torch"),
        "resnet-101": ("resnet101", "torch"),
        "resnet-152": ("resnet152", "torch"),
    },
}
# Counters of training steps, which are no part of the network.
SKIPPED = (r".*\.num_batches_tracked",)
# PyTorch's names of batch normalisation's arrays, and ours.
STATISTICS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def rules(source: str, variant: str) -> list[Rule]:
    """Lists where a source's arrays go.

    Args:
        source: key of `ARCHITECTURES`.
        variant: key of `backbones.resnet.VARIANTS`.

    Returns:
        Rules for `name_map.carry`; arrays of `SKIPPED` names are left out.

    Raises:
        ValueError: unknown source or variant.
    """
    if source not in ARCHITECTURES:
        raise ValueError(
            f"source is one of {', '.join(ARCHITECTURES)}, received {source!r}"
        )
    if variant not in VARIANTS:
        raise ValueError(
            f"variant is one of {', '.join(VARIANTS)}, received {variant!r}"
        )
    if source == "keras":
        return _keras(variant)
    if source == "hugging_face":
        return _hugging_face(variant)
    return _torch()


def _torch():
    """Covers torchvision, timm and, of timm, the releases of SENet's authors."""
    block, ours = r"layer(\d)\.(\d+)\.", r"stage\1_block\2/"
    result = [
        Rule(r"(?:layer0\.)?conv1\.weight", "stem/kernel", "convolution"),
        *_statistics(r"(?:layer0\.)?bn1", "stem_normalisation"),
        Rule(block + r"conv(\d)\.weight", ours + r"conv\3/kernel", "convolution"),
        *_statistics(block + r"bn(\d)", ours + r"conv\3_normalisation"),
        Rule(block + r"downsample\.0\.weight", ours + "shortcut/kernel", "convolution"),
        *_statistics(block + r"downsample\.1", ours + "shortcut_normalisation"),
        *_dense(r"(?:fc|last_linear)", "logits"),
    ]
    for theirs, name in (("fc1", "squeeze"), ("fc2", "excite")):
        result += _dense(
            block + rf"(?:se|se_module)\.{theirs}", ours + f"squeeze_excite/{name}"
        )
    return result


def _hugging_face(variant):
    embedder = r"resnet\.embedder\.embedder\."
    result = [
        Rule(embedder + r"convolution\.weight", "stem/kernel", "convolution"),
        *_statistics(embedder + "normalization", "stem_normalisation"),
        *_dense(r"classifier\.1", "logits"),
    ]
    # Stages and layers are counted from 0, blocks of a stage on both sides.
    for stage in range(len(VARIANTS[variant].repeats)):
        block = rf"resnet\.encoder\.stages\.{stage}\.layers\.(\d+)\."
        names = {r"shortcut": "shortcut"}
        names |= {rf"layer\.{i}": f"conv{i + 1}" for i in range(3)}
        for theirs, name in names.items():
            ours = rf"stage{stage + 1}_block\1/{name}"
            result += [
                Rule(
                    block + theirs + r"\.convolution\.weight",
                    ours + "/kernel",
                    "convolution",
                ),
                *_statistics(
                    block + theirs + r"\.normalization", ours + "_normalisation"
                ),
            ]
    return result


def _keras(variant):
    result = [
        Rule(r"conv1_conv/(kernel|bias)", r"stem/\1"),
        Rule(r"conv1_bn/(\w+)", r"stem_normalisation/\1"),
        Rule(r"predictions/(kernel|bias)", r"logits/\1"),
    ]
    # Keras counts stages from 2 and blocks from 1.
    for stage, repeats in enumerate(VARIANTS[variant].repeats):
        for block in range(repeats):
            theirs = f"conv{stage + 2}_block{block + 1}_"
            ours = f"stage{stage + 1}_block{block}/"
            result += [
                Rule(theirs + r"0_conv/(\w+)", ours + r"shortcut/\1"),
                Rule(theirs + r"0_bn/(\w+)", ours + r"shortcut_normalisation/\1"),
                Rule(theirs + r"(\d)_conv/(\w+)", ours + r"conv\1/\2"),
                Rule(theirs + r"(\d)_bn/(\w+)", ours + r"conv\1_normalisation/\2"),
            ]
    return result


def _statistics(theirs, ours):
    return [
        Rule(rf"{theirs}\.{name}", f"{ours}/{variable}")
        for name, variable in STATISTICS.items()
    ]


def _dense(theirs, ours):
    return [
        Rule(rf"{theirs}\.weight", f"{ours}/kernel", "dense"),
        Rule(rf"{theirs}\.bias", f"{ours}/bias"),
    ]
