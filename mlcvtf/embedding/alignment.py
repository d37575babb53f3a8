"""Similarity alignment of a face to 112x112 pixels from five landmarks.

The template is the one that ArcFace (Deng, Guo, Xue, Zafeiriou, 2019, "ArcFace:
Additive Angular Margin Loss for Deep Face Recognition", arXiv:1801.07698) and most
work after it use. Landmarks are left eye, right eye, nose tip, left and right corner
of the mouth, where left is the image's left. NumPy only; OpenCV where pixels move.
"""

import numpy as np

SIZE = 112
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
# The face box of every set and of the shipped detector, in template pixels: about
# ear to ear and hairline to chin, between the framings of WIDER FACE and of dlib.
BOX_CENTRE = (56.0, 67.0)
BOX_SIZE = (76.0, 98.0)


def similarity(source, target) -> np.ndarray:
    """Fits the least-squares similarity (rotation, scale, shift) between point sets.

    In complex numbers the map is z -> a z + b, which is a linear problem with a
    closed solution; a reflection cannot be expressed.

    Args:
        source: `[n, 2]` points, n >= 2, not all equal.
        target: `[n, 2]` points.

    Returns:
        `[2, 3]` float64: `target ~ M[:, :2] @ source + M[:, 2]`.

    Raises:
        ValueError: the points of `source` coincide or are not finite.

    >>> similarity([[0, 0], [1, 0]], [[2, 3], [2, 5]]).round(6) + 0.0
    array([[ 0., -2.,  2.],
           [ 2.,  0.,  3.]])
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    z = source[:, 0] + 1j * source[:, 1]
    w = target[:, 0] + 1j * target[:, 1]
    centred = z - z.mean()
    spread = np.sum(np.abs(centred) ** 2)
    if not np.isfinite(spread) or spread < 1e-12:
        raise ValueError(
            "A similarity needs two different finite points, received "
            f"{source.tolist()}"
        )
    a = np.sum(np.conj(centred) * (w - w.mean())) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(image: np.ndarray, landmarks, size: int = SIZE) -> np.ndarray:
    """Cuts a face out of a picture so that its landmarks lie on the template.

    Args:
        image: uint8 `[height, width, 3]`.
        landmarks: `[5, 2]` x, y in pixels of `image`.
        size: side of the result in pixels; the template scales with it.

    Returns:
        uint8 `[size, size, 3]`; outside the picture it is black.

    Raises:
        ValueError: the landmarks coincide or are not finite.
    """
    import cv2

    matrix = similarity(landmarks, TEMPLATE * (size / SIZE))
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    if scale < 0.5:
        # A bilinear look-up alone would skip pixels of a large face: shrink the
        # picture around it by whole-area averages first.
        image, matrix = _shrink(image, matrix, scale)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)


def _shrink(image, matrix, scale):
    """Returns a smaller copy of the picture and the matrix that goes with it."""
    import cv2

    height, width = image.shape[:2]
    new_width = max(1, round(width * scale))
    new_height = max(1, round(height * scale))
    small = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    fx, fy = width / new_width, height / new_height
    # Pixel centres: x_large = fx * x_small + (fx - 1) / 2.
    back = np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])
    return small, matrix @ back


def face_box(landmarks) -> np.ndarray:
    """Returns the face box that belongs to five landmarks, by the house convention.

    The box is upright: the template's box centre carried by the similarity of the
    landmarks, and the template's width and height times its scale.

    Args:
        landmarks: `[5, 2]` x, y in pixels.

    Returns:
        float64 `[4]`: x1, y1, x2, y2.

    >>> face_box(TEMPLATE).round(3)
    array([ 18.,  18.,  94., 116.])
    """
    matrix = similarity(TEMPLATE, landmarks)
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    centre = matrix[:, :2] @ np.array(BOX_CENTRE) + matrix[:, 2]
    half = np.array(BOX_SIZE) * scale / 2
    return np.concatenate([centre - half, centre + half])
