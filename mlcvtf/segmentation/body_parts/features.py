"""Depth comparison features of single pixels.

Shotton, Fitzgibbon, Cook, Sharp, Finocchio, Moore, Kipman, Blake, 2011, "Real-Time
Human Pose Recognition in Parts from Single Depth Images", CVPR, equation 1:

    f(I, x; u, v) = d(x + u / d(x)) - d(x + v / d(x))

Faithful: offsets in pixel metres (pixels at a depth of one metre), so that they reach
equally far on a body at any distance; every coordinate of u and v uniform up to a
largest offset, 129 pixel metres (its section 3.2 and figure 8c); background, missing
depth and what is outside the picture a large constant.

Different: offsets are multiples of 1/128 pixel metre and thresholds of 1/512 metre, so
that both fit 16 bits and that counting values below a threshold is exact whatever
computes it (the sensor's own steps are 2 to 30 mm); thresholds lie within 1 metre,
more of them near 0, since beyond it only background differs; and a node's features
share its thresholds. u / d is u times the reciprocal of d in float32, here as in the
kernels and in the graph: they take the same pixel, to the bit.

NumPy only; this is the definition that the fast paths are tested against.
"""

import numpy as np

from mlcvtf.errors import InputError

# Metres. Beyond any depth that a sensor gives.
BACKGROUND = 1000.0
# Steps of an offset per pixel metre, and of a threshold per metre.
OFFSET_STEPS = 128
THRESHOLD_STEPS = 512
# Thresholds lie within one metre.
LARGEST_THRESHOLD = THRESHOLD_STEPS - 1
LARGEST_OFFSET = 32767 / OFFSET_STEPS
# Metres that a depth sensor of this kind can see; larger numbers are millimetres.
FARTHEST = 100.0


def check_depth(depth) -> np.ndarray:
    """Checks that an array is one depth picture in metres.

    Args:
        depth: float `[height, width]` in metres, 0 where missing.

    Returns:
        The same as float32.

    Raises:
        InputError: another rank or type, NaN or infinite, negative, or so large that
            it is millimetres.
    """
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.size == 0:
        raise InputError(
            f"a depth picture has height and width, received shape {depth.shape}"
        )
    if depth.dtype.kind != "f":
        raise InputError(
            "a depth picture is floating point in metres, received "
            f"{depth.dtype} (16-bit files of millimetres are divided by 1000)"
        )
    least, most = float(depth.min()), float(depth.max())
    if not np.isfinite([least, most]).all():
        raise InputError("depth is finite, 0 where missing; received NaN or infinity")
    if least < 0:
        raise InputError(f"depth is 0 or larger, received {least:g} metres")
    if most > FARTHEST:
        raise InputError(
            f"depth is in metres, at most {FARTHEST:g}; received {most:g} (millimetres "
            "are divided by 1000)"
        )
    return np.ascontiguousarray(depth, np.float32)


def pad_depth(depth: np.ndarray) -> np.ndarray:
    """Frames a picture with one pixel of background and fills missing depth with it.

    Coordinates that are clamped to the frame then read background, without a test.

    Args:
        depth: float32 `[height, width]` in metres, 0 where missing.

    Returns:
        float32 `[height + 2, width + 2]`.
    """
    filled = np.where(depth > 0, depth, np.float32(BACKGROUND)).astype(np.float32)
    return np.pad(filled, 1, constant_values=np.float32(BACKGROUND))


def depth_features(depth, rows, columns, offsets) -> np.ndarray:
    """Computes depth comparison features of pixels.

    Args:
        depth: float32 `[height, width]` in metres, 0 where missing.
        rows: int `[n]`.
        columns: int `[n]`; the depth of each of these pixels is known.
        offsets: int16 `[f, 4]`: x and y of u, x and y of v, in 1/128 pixel metres.

    Returns:
        float32 `[n, f]` in metres.

    >>> depth = np.full((3, 3), 2.0, np.float32)
    >>> depth[1, 2] = 1.5
    >>> offsets = np.array([[2 * OFFSET_STEPS, 0, 0, 0]], np.int16)
    >>> float(depth_features(depth, [1], [1], offsets)[0, 0])
    -0.5
    """
    padded = pad_depth(depth)
    rows, columns = np.asarray(rows), np.asarray(columns)
    values = [probe_differences(padded, rows, columns, pair) for pair in offsets]
    return np.stack(values, 1)


def probe_differences(padded, rows, columns, offsets) -> np.ndarray:
    """Computes one feature of each pixel.

    Args:
        padded: of `pad_depth`.
        rows: int `[n]` in the picture without its frame.
        columns: int `[n]`, likewise.
        offsets: int16 `[n, 4]`, or `[4]` for all alike, as of `depth_features`.

    Returns:
        float32 `[n]` in metres.
    """
    reciprocal = np.float32(1) / padded[rows + 1, columns + 1]
    steps = np.asarray(offsets, np.float32) / np.float32(OFFSET_STEPS)

    def probe(x, y):
        # Half a pixel for rounding and one for the frame.
        column = (columns + 1.5).astype(np.float32) + x * reciprocal
        row = (rows + 1.5).astype(np.float32) + y * reciprocal
        column = np.clip(column, 0, padded.shape[1] - 1).astype(np.int64)
        return padded[np.clip(row, 0, padded.shape[0] - 1).astype(np.int64), column]

    return probe(steps[..., 0], steps[..., 1]) - probe(steps[..., 2], steps[..., 3])
