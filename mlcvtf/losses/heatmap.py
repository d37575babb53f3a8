"""The penalty-reduced focal loss on centre heat maps."""

import keras
from keras import ops

from mlcvtf.ops.replicas import sum_over_replicas


@keras.saving.register_keras_serializable(package="mlcvtf")
class HeatmapFocalLoss(keras.losses.Loss):
    """Focal loss in which cells near a centre count less as background.

    With target Y and prediction p it is, summed over cells and classes,
    `-(1 - p)^gamma ln p` where Y = 1 and `-(1 - Y)^beta p^gamma ln(1 - p)`
    elsewhere. It is divided by the number of centres in the batch (of all replicas that
    train together, whose losses add up), at least 1.

    Args:
        gamma: exponent on the prediction's error.
        beta: exponent that spares the neighbourhood of a centre.

    `y_true`: float `[batch, height, width, classes]` in 0..1.
    `y_pred`: float of the same shape, *logits* (the logarithms stay exact).
    Returns a scalar; there is no reduction to choose, since a mean over cells would
    undo the division by centres.

    References:
        Zhou, Wang, Kraehenbuehl, 2019, "Objects as Points", arXiv:1904.07850,
        equation 1; Law and Deng, 2018, "CornerNet", arXiv:1808.01244.
    """

    def __init__(self, gamma: float = 2.0, beta: float = 4.0, name="heatmap_focal"):
        super().__init__(name=name, reduction=None)
        self.gamma, self.beta = gamma, beta

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, "float32")
        y_true = ops.cast(y_true, "float32")
        probability = ops.sigmoid(y_pred)
        centre = ops.cast(y_true >= 1.0, "float32")
        at_centre = ops.power(1 - probability, self.gamma) * ops.softplus(-y_pred)
        elsewhere = (
            ops.power(1 - y_true, self.beta)
            * ops.power(probability, self.gamma)
            * ops.softplus(y_pred)
        )
        total = ops.sum(centre * at_centre + (1 - centre) * elsewhere)
        return total / ops.maximum(sum_over_replicas(ops.sum(centre)), 1.0)

    def get_config(self):
        return {"gamma": self.gamma, "beta": self.beta, "name": self.name}
