"""DarkNet from timm."""

from mlcvtf.backbones.darknet import VARIANTS, darknet
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.weights import convolution_units as units
from mlcvtf.weights.name_map import Rule

SKIPPED = units.SKIPPED


def timm_rules() -> list[Rule]:
    """Gives the rules for timm's `darknet17`, `darknet21` and `darknet53`.

    Returns:
        Rules for the arrays of their state dicts.
    """
    rules = units.unit(r"stem\.conv1", "stem")
    for stage in range(len(VARIANTS["53"])):
        source, target = rf"stages\.{stage}", f"stage{stage + 1}"
        rules += units.unit(rf"{source}\.conv_down", f"{target}_down")
        rules += units.unit(
            rf"{source}\.blocks\.(\d+)\.(conv[12])", rf"{target}_block\1_\2"
        )
    return rules + units.dense(r"head\.fc", "logits")


def timm_classifier(variant: str = "53", classes: int = 1000) -> ImageClassifier:
    """Builds the network that timm's weights fit.

    Args:
        variant: "17", "21" or "53".
        classes: number of classes.

    Returns:
        The classifier; its rectifiers leak with timm's 0.01, and its pictures are
        normalised by ImageNet's mean and deviation.
    """
    backbone = darknet(variant, slope=0.01, normalisation="mean_std")
    return ImageClassifier(backbone, classes)
