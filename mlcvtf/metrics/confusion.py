"""What was taken for what: accuracy and mean intersection over union. NumPy only."""

import numpy as np


def confusion_matrix(true, predicted, classes: int) -> np.ndarray:
    """Counts which class was taken for which.

    Args:
        true: integers of any shape. What is no class (negative, or `classes` and
            more, such as the 255 of VOC's borders) is left out.
        predicted: integers in 0..classes-1 of the same shape.
        classes: number of classes.

    Returns:
        int64 `[classes, classes]`: row is the truth, column the prediction.

    Raises:
        ValueError: shapes differ, or a prediction that counts is no class.

    >>> confusion_matrix([0, 0, 1, 255], [0, 1, 1, 0], 2).tolist()
    [[1, 1], [0, 1]]
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    if true.shape != predicted.shape:
        raise ValueError(
            f"Truth and prediction have one shape, received "
            f"{list(true.shape)} and {list(predicted.shape)}"
        )
    known = (true >= 0) & (true < classes)
    true, predicted = true[known].astype(np.int64), predicted[known].astype(np.int64)
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < classes:
        raise ValueError(
            f"A prediction is in 0..{classes - 1}, received "
            f"{predicted.min()}..{predicted.max()}"
        )
    counts = np.bincount(true * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def intersection_over_union(matrix) -> np.ndarray:
    """Returns each class's share of what is it or was taken for it that is both.

    Its mean over the classes that occur (`np.nanmean`) is the mean intersection over
    union of semantic segmentation, as `keras.metrics.MeanIoU` counts it.

    Args:
        matrix: of `confusion_matrix`, `[classes, classes]`.

    Returns:
        float64 `[classes]`, NaN for a class that is in neither truth nor prediction.

    >>> intersection_over_union([[3, 1], [0, 2]]).round(2).tolist()
    [0.75, 0.67]
    """
    matrix = np.asarray(matrix, np.float64)
    both = np.diagonal(matrix)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    return np.where(either > 0, both / np.where(either > 0, either, 1), np.nan)


def recall(matrix) -> np.ndarray:
    """Returns the share of each class that was recognised, NaN where there is none.

    Args:
        matrix: of `confusion_matrix`, `[classes, classes]`.
    """
    matrix = np.asarray(matrix, np.float64)
    count = matrix.sum(axis=1)
    return np.where(
        count > 0, np.diagonal(matrix) / np.where(count > 0, count, 1), np.nan
    )


def in_top(scores, true, k: int) -> np.ndarray:
    """Says whether fewer than `k` classes score higher than the true one.

    Args:
        scores: float `[n, classes]`.
        true: int `[n]`.
        k: at least 1.

    Returns:
        bool `[n]`.

    >>> in_top([[0.1, 0.5, 0.4], [0.2, 0.3, 0.5]], [2, 0], 2).tolist()
    [True, False]
    """
    scores, true = np.asarray(scores), np.asarray(true)
    own = np.take_along_axis(scores, true[:, None], axis=1)
    return np.sum(scores > own, axis=1) < k
