"""The values of Haar features, compiled by numba.

Arithmetic follows OpenCV 4 to the bit: integers of 32 bits, features in float32. A
feature whose weights are whole numbers and whose sums float32 holds exactly is computed
in integers, as differences of corners: the result is the same.

Windows come in two forms. Where several of `LANES` neighbours are wanted, all of them
are computed, since neighbours in memory are read by one instruction; single windows are
listed and each corner is looked up by itself. Offsets are unsigned, since numba looks
for negative ones otherwise.
"""

import numpy as np
from numba import njit

# Windows of a block.
LANES = 16

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def _block_three(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    u, v, w = weights[0], weights[1], weights[2]
    for i in range(len(places)):
        place, first = places[i], np.uint64(i * LANES)
        for k in range(np.uint64(LANES)):
            p = place + k
            values[first + k] = np.float32(
                np.int32(
                    u * (image[p + a] - image[p + b])
                    + v * (image[p + c] - image[p + d])
                    + w * (image[p + e] - image[p + f])
                )
            )


@compiled
def _block_four(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    g, h = corners[3, 0], corners[3, 1]
    u, v, w, x = weights[0], weights[1], weights[2], weights[3]
    for i in range(len(places)):
        place, first = places[i], np.uint64(i * LANES)
        for k in range(np.uint64(LANES)):
            p = place + k
            values[first + k] = np.float32(
                np.int32(
                    u * (image[p + a] - image[p + b])
                    + v * (image[p + c] - image[p + d])
                    + w * (image[p + e] - image[p + f])
                    + x * (image[p + g] - image[p + h])
                )
            )


@compiled
def _block_six(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    g, h = corners[3, 0], corners[3, 1]
    j, m = corners[4, 0], corners[4, 1]
    n, o = corners[5, 0], corners[5, 1]
    u, v, w, x = weights[0], weights[1], weights[2], weights[3]
    y, z = weights[4], weights[5]
    for i in range(len(places)):
        place, first = places[i], np.uint64(i * LANES)
        for k in range(np.uint64(LANES)):
            p = place + k
            values[first + k] = np.float32(
                np.int32(
                    u * (image[p + a] - image[p + b])
                    + v * (image[p + c] - image[p + d])
                    + w * (image[p + e] - image[p + f])
                    + x * (image[p + g] - image[p + h])
                    + y * (image[p + j] - image[p + m])
                    + z * (image[p + n] - image[p + o])
                )
            )


@compiled
def _block_rectangle(image, places, corners, weight, values):
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    for i in range(len(places)):
        place, first = places[i], np.uint64(i * LANES)
        for k in range(np.uint64(LANES)):
            p = place + k
            values[first + k] += weight * np.float32(
                np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
            )


@compiled
def block_values(image, places, node, plan, values):
    """Computes a node's feature for blocks of windows, given by their first."""
    counts, corners, weights, rectangles, rectangle_weights = plan
    count = counts[node]
    if count == 3:
        _block_three(image, places, corners[node], weights[node], values)
    elif count == 4:
        _block_four(image, places, corners[node], weights[node], values)
    elif count == 6:
        _block_six(image, places, corners[node], weights[node], values)
    else:
        values[:] = np.float32(0.0)
        for k in range(3):
            weight = rectangle_weights[node, k]
            if weight != 0:
                _block_rectangle(image, places, rectangles[node, k], weight, values)


@compiled
def _list_three(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    u, v, w = weights[0], weights[1], weights[2]
    for i in range(len(places)):
        p = places[i]
        values[i] = np.float32(
            np.int32(
                u * (image[p + a] - image[p + b])
                + v * (image[p + c] - image[p + d])
                + w * (image[p + e] - image[p + f])
            )
        )


@compiled
def _list_four(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    g, h = corners[3, 0], corners[3, 1]
    u, v, w, x = weights[0], weights[1], weights[2], weights[3]
    for i in range(len(places)):
        p = places[i]
        values[i] = np.float32(
            np.int32(
                u * (image[p + a] - image[p + b])
                + v * (image[p + c] - image[p + d])
                + w * (image[p + e] - image[p + f])
                + x * (image[p + g] - image[p + h])
            )
        )


@compiled
def _list_six(image, places, corners, weights, values):
    a, b = corners[0, 0], corners[0, 1]
    c, d = corners[1, 0], corners[1, 1]
    e, f = corners[2, 0], corners[2, 1]
    g, h = corners[3, 0], corners[3, 1]
    j, m = corners[4, 0], corners[4, 1]
    n, o = corners[5, 0], corners[5, 1]
    u, v, w, x = weights[0], weights[1], weights[2], weights[3]
    y, z = weights[4], weights[5]
    for i in range(len(places)):
        p = places[i]
        values[i] = np.float32(
            np.int32(
                u * (image[p + a] - image[p + b])
                + v * (image[p + c] - image[p + d])
                + w * (image[p + e] - image[p + f])
                + x * (image[p + g] - image[p + h])
                + y * (image[p + j] - image[p + m])
                + z * (image[p + n] - image[p + o])
            )
        )


@compiled
def _list_rectangle(image, places, corners, weight, values):
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    for i in range(len(places)):
        p = places[i]
        values[i] += weight * np.float32(
            np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
        )


@compiled
def list_values(image, places, node, plan, values):
    """Computes a node's feature for a list of windows."""
    counts, corners, weights, rectangles, rectangle_weights = plan
    count = counts[node]
    if count == 3:
        _list_three(image, places, corners[node], weights[node], values)
    elif count == 4:
        _list_four(image, places, corners[node], weights[node], values)
    elif count == 6:
        _list_six(image, places, corners[node], weights[node], values)
    else:
        values[:] = np.float32(0.0)
        for k in range(3):
            weight = rectangle_weights[node, k]
            if weight != 0:
                _list_rectangle(image, places, rectangles[node, k], weight, values)
