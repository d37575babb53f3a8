"""Inception-v1 from torchvision's GoogLeNet.

torchvision's published checkpoint has arrays for the auxiliary heads, which by its own
word were not trained, and was trained with `transform_input=True`: the network's own
input is in -1..1, which is what `inception_v1(origin="torchvision")` makes of a
picture.
"""

from mlcvtf.backbones.inception import AUXILIARY, inception_v1
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.classification.inception_classifier import InceptionClassifier
from mlcvtf.layers.auxiliary_head import AuxiliaryHead
from mlcvtf.weights import convolution_units as units
from mlcvtf.weights.name_map import Rule

# Places of torchvision's branches in our modules; a pooling is step 0 of the last.
BRANCHES = {
    r"branch1": "branch0_0",
    r"branch2\.0": "branch1_0",
    r"branch2\.1": "branch1_1",
    r"branch3\.0": "branch2_0",
    r"branch3\.1": "branch2_1",
    r"branch4\.1": "branch3_1",
}
SKIPPED = units.SKIPPED
# For a classifier without auxiliary heads.
SKIPPED_HEADS = (*SKIPPED, r"aux[12]\..*")


def torchvision_rules() -> list[Rule]:
    """Gives the rules for torchvision's `googlenet`, with or without auxiliary heads.

    Returns:
        Rules for the arrays of its state dict.
    """
    rules = units.unit(r"conv([123])", r"stem\1")
    for source, target in BRANCHES.items():
        rules += units.unit(rf"(inception\w+)\.{source}", rf"\1/{target}")
    rules += units.unit(r"aux([12])\.conv", r"auxiliary\1/reduce")
    rules += units.dense(r"aux([12])\.fc1", r"auxiliary\1/hidden")
    rules += units.dense(r"aux([12])\.fc2", r"auxiliary\1/logits")
    return rules + units.dense("fc", "logits")


def torchvision_classifier(
    classes: int = 1000, auxiliary: bool = True
) -> ImageClassifier:
    """Builds the network that torchvision's `googlenet` is.

    Args:
        classes: number of classes.
        auxiliary: with the auxiliary heads, as torchvision builds it for training.

    Returns:
        `InceptionClassifier` with `auxiliary`, `ImageClassifier` without.
    """
    backbone = inception_v1("torchvision")
    if not auxiliary:
        return ImageClassifier(backbone, classes, dropout=0.2)
    heads = {
        tap: AuxiliaryHead(classes, batch_normalisation=True, name=f"auxiliary{number}")
        for number, tap in enumerate(AUXILIARY, start=1)
    }
    return InceptionClassifier(
        backbone, classes, dropout=0.2, heads=heads, windows="adaptive"
    )
