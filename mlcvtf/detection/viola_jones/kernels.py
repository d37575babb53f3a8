"""The loops of the scan, compiled by numba.

Offsets are unsigned, since numba looks for negative ones otherwise. Arithmetic follows
OpenCV 4 to the bit: integers of 32 bits, features in float32, votes added in float64.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def _norms(sums, squares, base, corners, area, norms):
    """Fills in 1 / (area * deviation) of a row's windows, -1 where they are flat."""
    a = sums[base + corners[0] :]
    b = sums[base + corners[1] :]
    c = sums[base + corners[2] :]
    d = sums[base + corners[3] :]
    e = squares[base + corners[0] :]
    f = squares[base + corners[1] :]
    g = squares[base + corners[2] :]
    h = squares[base + corners[3] :]
    size = np.float64(area)
    for i in range(len(norms)):
        total = np.float64(np.int32(a[i] - b[i] - c[i] + d[i]))
        square = np.float64(np.uint32(e[i] - f[i] - g[i] + h[i]))
        spread = size * square - total * total
        norm = np.float32(1.0 / np.sqrt(max(spread, 1e-30)))
        good = (spread > 0.0) & (size * np.float64(norm) < 0.1)
        norms[i] = norm if good else np.float32(-1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _row_rectangle(image, base, corners, weight, values):
    """Adds weight times the sum over one rectangle for all windows of a row."""
    a = image[base + corners[0] :]
    b = image[base + corners[1] :]
    c = image[base + corners[2] :]
    d = image[base + corners[3] :]
    for i in range(len(values)):
        values[i] += weight * np.float32(np.int32(a[i] - b[i] - c[i] + d[i]))


@njit(cache=True, nogil=True, error_model="numpy")
def _compare(values, norms, threshold, node, bits):
    one = np.uint8(1 << node)
    for i in range(len(values)):
        below = values[i] * norms[i] < threshold
        bits[i] |= one if below else np.uint8(0)


@njit(cache=True, nogil=True, error_model="numpy")
def _vote(bits, table, nodes, totals):
    if nodes == 1:
        above, below = table[0], table[1]
        for i in range(len(bits)):
            totals[i] += below if bits[i] else above
    else:
        for i in range(len(bits)):
            totals[i] += table[bits[i]]


@njit(cache=True, nogil=True, error_model="numpy")
def _choose(total, norm, threshold, base, places, norms, totals, left):
    """Lists a row's windows that pass the first stage.

    After one that the stage turns down OpenCV skips the next.
    """
    i = 0
    while i < len(total):
        if norm[i] < 0:
            i += 1
        elif total[i] < threshold:
            i += 2
        else:
            places[left] = base + np.uint64(i)
            norms[left] = norm[i]
            totals[left] = total[i]
            left += 1
            i += 1
    return left


@njit(cache=True, nogil=True, error_model="numpy")
def _stump(image, places, norms, corners, weights, threshold, table, totals):
    """Adds a stump's votes."""
    a, b, c, d = corners[0, 0], corners[0, 1], corners[0, 2], corners[0, 3]
    e, f, g, h = corners[1, 0], corners[1, 1], corners[1, 2], corners[1, 3]
    j, k, m, n = corners[2, 0], corners[2, 1], corners[2, 2], corners[2, 3]
    first, second, third = weights[0], weights[1], weights[2]
    above, below = table[0], table[1]
    if third == 0:
        for i in range(len(places)):
            p = places[i]
            value = first * np.float32(
                np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
            ) + second * np.float32(
                np.int32(image[p + e] - image[p + f] - image[p + g] + image[p + h])
            )
            totals[i] += below if value * norms[i] < threshold else above
    else:
        for i in range(len(places)):
            p = places[i]
            value = first * np.float32(
                np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
            ) + second * np.float32(
                np.int32(image[p + e] - image[p + f] - image[p + g] + image[p + h])
            )
            value += third * np.float32(
                np.int32(image[p + j] - image[p + k] - image[p + m] + image[p + n])
            )
            totals[i] += below if value * norms[i] < threshold else above


@njit(cache=True, nogil=True, error_model="numpy")
def _node(image, places, norms, corners, weights, threshold, node, bits):
    """Sets a bit where a node's feature is below its threshold."""
    a, b, c, d = corners[0, 0], corners[0, 1], corners[0, 2], corners[0, 3]
    e, f, g, h = corners[1, 0], corners[1, 1], corners[1, 2], corners[1, 3]
    j, k, m, n = corners[2, 0], corners[2, 1], corners[2, 2], corners[2, 3]
    first, second, third = weights[0], weights[1], weights[2]
    one = np.uint8(1 << node)
    for i in range(len(places)):
        p = places[i]
        value = first * np.float32(
            np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
        ) + second * np.float32(
            np.int32(image[p + e] - image[p + f] - image[p + g] + image[p + h])
        )
        if third != 0:
            value += third * np.float32(
                np.int32(image[p + j] - image[p + k] - image[p + m] + image[p + n])
            )
        bits[i] |= one if value * norms[i] < threshold else np.uint8(0)


@njit(cache=True, nogil=True, error_model="numpy")
def run(
    sums, squares, tilted, start, stride, step, columns, first, last,
    corners, weights, is_tilted, thresholds, inner, area,
    stage_trees, stage_thresholds, tree_nodes, tables,
):
    """Runs a cascade over rows of windows of one level.

    Args:
        sums, squares, tilted: the pyramid's buffers.
        start, stride, step, columns: of the level.
        first, last: rows of windows, the last one excluded.
        corners, weights, is_tilted, thresholds, inner, area: see `scan.plan`.
        stage_trees: int64 `[stages + 1]`, first tree of each stage.
        stage_thresholds: float32 `[stages]`.
        tree_nodes: int64 `[trees + 1]`, first node of each tree.
        tables: float64 `[trees, n]`, the trees' answers (`cascade._tables`).

    Returns:
        int64 rows counted from `first`, int64 columns, float64 sum of the last stage
        above its threshold, of the windows that pass.
    """
    count = (last - first) * columns
    places = np.empty(count, np.uint64)
    norms = np.empty(count, np.float32)
    totals = np.empty(count, np.float64)
    bits = np.empty(count, np.uint8)
    norm = np.empty(columns, np.float32)
    values = np.empty(columns, np.float32)
    left = 0
    for row in range(first, last):
        base = np.uint64(start + row * step * stride)
        _norms(sums, squares, base, inner, area, norm)
        total, bit = totals[left : left + columns], bits[left : left + columns]
        total[:] = 0.0
        for tree in range(stage_trees[1]):
            begin, end = tree_nodes[tree], tree_nodes[tree + 1]
            bit[:] = 0
            for node in range(begin, end):
                image = tilted if is_tilted[node] else sums
                values[:] = np.float32(0.0)
                for k in range(3):
                    if weights[node, k] != 0:
                        _row_rectangle(
                            image, base, corners[node, k], weights[node, k], values
                        )
                _compare(values, norm, thresholds[node], node - begin, bit)
            _vote(bit, tables[tree], end - begin, total)
        left = _choose(
            total, norm, stage_thresholds[0], base, places, norms, totals, left
        )
    for stage in range(1, len(stage_thresholds)):
        totals[:left] = 0.0
        for tree in range(stage_trees[stage], stage_trees[stage + 1]):
            begin, end = tree_nodes[tree], tree_nodes[tree + 1]
            if end - begin == 1:
                _stump(
                    tilted if is_tilted[begin] else sums, places[:left], norms,
                    corners[begin], weights[begin], thresholds[begin], tables[tree],
                    totals,
                )
                continue
            bits[:left] = 0
            for node in range(begin, end):
                _node(
                    tilted if is_tilted[node] else sums, places[:left], norms,
                    corners[node], weights[node], thresholds[node], node - begin, bits,
                )
            _vote(bits[:left], tables[tree], end - begin, totals)
        kept = 0
        for i in range(left):
            if not totals[i] < stage_thresholds[stage]:
                places[kept], norms[kept] = places[i], norms[i]
                totals[kept] = totals[i]
                kept += 1
        left = kept
        if not left:
            break
    rows, columns_ = np.empty(left, np.int64), np.empty(left, np.int64)
    for i in range(left):
        place = np.int64(places[i]) - start - first * step * stride
        rows[i] = place // (step * stride)
        columns_[i] = place % (step * stride)
    return rows, columns_, totals[:left] - stage_thresholds[-1]
