"""COCO's average precision as a Keras metric."""

import keras
import numpy as np

from mlcvtf.metrics.average_precision import coco_average_precision


@keras.saving.register_keras_serializable(package="mlcvtf")
class MeanAveragePrecision(keras.metrics.Metric):
    """Collects detections batch by batch and measures COCO's average precision.

    The measure sorts the detections of all pictures together, so they are kept (in
    main memory, as NumPy arrays) until `reset_state`. It cannot run inside a compiled
    graph: in `fit`, measure at the end of an epoch from a callback,

        def measure(epoch, logs):
            metric.reset_state()
            for images, truths in validation:
                metric.update_state(truths, model.detect(images))
            logs["val_AP"] = metric.result()

        model.fit(..., callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=measure)])

    or compile the model with `run_eagerly=True`.

    Args:
        kind: which number `result` returns, a key of `coco_average_precision`.
        name: name of the metric, `kind` by default.

    Raises:
        ValueError: there is no such kind.
    """

    KINDS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs",
             "ARm", "ARl")

    def __init__(self, kind: str = "AP", name: str | None = None, **kwargs):
        if kind not in self.KINDS:
            raise ValueError(f"A kind is one of {self.KINDS}, received {kind}")
        super().__init__(name=name or kind, **kwargs)
        self.kind = kind
        self._truths, self._detections = [], []

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch of pictures.

        Args:
            y_true: dict of `boxes` `[batch, m, 4]` xyxy and `labels` `[batch, m]`,
                padded with label -1, optionally `crowd` and `area` `[batch, m]`.
            y_pred: dict of `boxes` `[batch, n, 4]`, `scores` and `labels`
                `[batch, n]`, padded with label -1.
            sample_weight: not supported.

        Raises:
            ValueError: batches of different size, or weights.
            RuntimeError: called inside a compiled graph.
        """
        if sample_weight is not None:
            raise ValueError("Average precision has no sample weights, received some")
        truths = _pictures(y_true, ("boxes", "labels", "crowd", "area"))
        detections = _pictures(y_pred, ("boxes", "scores", "labels"))
        if len(truths) != len(detections):
            raise ValueError("Truths and detections are of the same pictures, received "
                             f"{len(truths)} and {len(detections)}")
        self._truths += truths
        self._detections += detections

    def results(self) -> dict[str, float]:
        """Returns all twelve numbers, see `coco_average_precision`."""
        return coco_average_precision(self._detections, self._truths)

    def result(self):
        """Returns the number of this kind, -1 where nothing can be measured."""
        return keras.ops.convert_to_tensor(self.results()[self.kind], "float32")

    def reset_state(self):
        """Forgets all pictures."""
        self._truths, self._detections = [], []

    def get_config(self):
        return super().get_config() | {"kind": self.kind}


def _pictures(batch, keys):
    """Splits a dict of padded batches into one dict of NumPy arrays per picture."""
    try:
        arrays = {key: np.asarray(keras.ops.convert_to_numpy(batch[key]))
                  for key in keys if key in batch}
    except (NotImplementedError, TypeError) as error:
        raise RuntimeError("Average precision is measured outside compiled graphs, "
                           "from a callback or with run_eagerly=True; received a "
                           "symbolic tensor") from error
    real = arrays["labels"] >= 0
    return [{key: value[i][real[i]] for key, value in arrays.items()}
            for i in range(len(real))]
