"""The rows of the dear suites, in which whole networks of many layers are slow.

Their blocks are rows of their own, so that the default run meets every kind of layer;
`make test-all` runs the networks too.
"""

import pytest

from tests.conformance.descriptors import MODELS

NETWORKS = {
    "anynet",
    "bottleneck_classifier",
    "cell_network",
    "darknet",
    "efficientnet",
    "inception_classifier",
    "inception_resnet",
    "inception_v1",
    "mobilenet_v2_torch",
    "regnet",
    "resnet",
    "resnet_wide",
    "vit_classifier",
}
ROWS = [
    pytest.param(name, marks=pytest.mark.slow) if name in NETWORKS else name
    for name in MODELS
]
