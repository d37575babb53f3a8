"""The loops of the scan, compiled by numba.

Arithmetic follows OpenCV 4 to the bit: integers of 32 bits, features in float32, votes
added in float64. Where a feature's weights are whole numbers and its sums stay below
2^24, float32 is exact, and the sum over its different corners in integers, which needs
fewer look-ups than one over rectangles, is the same number.

Offsets are unsigned, since numba looks for negative ones otherwise. Loops that look up
scattered places write to a list, and loops over lists do the arithmetic, which the
compiler turns into vector instructions when nothing else is in them.
"""

import numpy as np
from numba import njit

# Share of the windows from which on a stage runs over whole rows, which costs a sixth
# per window of what the look-up of a listed one does.
DENSE = 2.0
# Trees between looks for windows that can no longer pass.
PRUNE = 1000
# More than float64 rounds in a sum of votes.
SLACK = 1e-6

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
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


@compiled
def _row_pairs(image, base, corners, weights, whole):
    """Adds two weighted differences to whole numbers, for all windows of a row."""
    a = image[base + corners[0, 0] :]
    b = image[base + corners[0, 1] :]
    c = image[base + corners[1, 0] :]
    d = image[base + corners[1, 1] :]
    u, v = weights[0], weights[1]
    for i in range(len(whole)):
        whole[i] = np.int32(whole[i] + u * (a[i] - b[i]) + v * (c[i] - d[i]))


@compiled
def _row_rectangle(image, base, corners, weight, values):
    """Adds weight times the sum over one rectangle, for all windows of a row."""
    a = image[base + corners[0] :]
    b = image[base + corners[1] :]
    c = image[base + corners[2] :]
    d = image[base + corners[3] :]
    for i in range(len(values)):
        values[i] += weight * np.float32(np.int32(a[i] - b[i] - c[i] + d[i]))


@compiled
def _row_values(image, base, node, plan, whole, values):
    """Computes a node's feature for all windows of a row."""
    counts, corners, weights, rectangles, rectangle_weights = plan
    if counts[node]:
        whole[:] = 0
        _row_pairs(image, base, corners[node, :2], weights[node, :2], whole)
        _row_pairs(image, base, corners[node, 2:], weights[node, 2:], whole)
        for i in range(len(values)):
            values[i] = np.float32(whole[i])
        return
    values[:] = np.float32(0.0)
    for k in range(3):
        weight = rectangle_weights[node, k]
        if weight != 0:
            _row_rectangle(image, base, rectangles[node, k], weight, values)


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
def _list_rectangle(image, places, corners, weight, values):
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    for i in range(len(places)):
        p = places[i]
        values[i] += weight * np.float32(
            np.int32(image[p + a] - image[p + b] - image[p + c] + image[p + d])
        )


@compiled
def _list_values(image, places, node, plan, values):
    """Computes a node's feature for a list of windows."""
    counts, corners, weights, rectangles, rectangle_weights = plan
    count = counts[node]
    if count == 0:
        values[:] = np.float32(0.0)
        for k in range(3):
            weight = rectangle_weights[node, k]
            if weight != 0:
                _list_rectangle(image, places, rectangles[node, k], weight, values)
    elif count == 3:
        _list_three(image, places, corners[node], weights[node], values)
    else:
        _list_four(image, places, corners[node], weights[node], values)


@compiled
def _vote_stump(values, norms, threshold, above, below, totals):
    for i in range(len(values)):
        totals[i] += below if values[i] * norms[i] < threshold else above


@compiled
def _compare(values, norms, threshold, node, bits):
    one = np.uint8(1 << node)
    for i in range(len(values)):
        bits[i] |= one if values[i] * norms[i] < threshold else np.uint8(0)


@compiled
def _vote_tree(bits, table, totals):
    for i in range(len(bits)):
        totals[i] += table[bits[i]]


@compiled
def _row_stage(images, base, stage, plan, nodes, stages, norms, work, totals):
    """Sums a stage's votes for all windows of a row."""
    sums, _, tilted = images
    is_tilted, thresholds = nodes
    stage_trees, _, tree_nodes, tables, _ = stages
    values, whole, bits = work
    totals[:] = 0.0
    for tree in range(stage_trees[stage], stage_trees[stage + 1]):
        begin, end = tree_nodes[tree], tree_nodes[tree + 1]
        bits[:] = 0
        for node in range(begin, end):
            image = tilted if is_tilted[node] else sums
            _row_values(image, base, node, plan, whole, values)
            if end - begin > 1:
                _compare(values, norms, thresholds[node], node - begin, bits)
        if end - begin > 1:
            _vote_tree(bits, tables[tree], totals)
        else:
            above, below = tables[tree, 0], tables[tree, 1]
            _vote_stump(values, norms, thresholds[begin], above, below, totals)


@compiled
def _choose(totals, norms, threshold, base, first, lists):
    """Lists a row's windows that pass the first stage; returns how many.

    After one that the stage turns down OpenCV skips the next.
    """
    places, listed, sums, numbers = lists
    i = left = 0
    while i < len(totals):
        if norms[i] < 0:
            i += 1
        elif totals[i] < threshold:
            i += 2
        else:
            places[left] = base + np.uint64(i)
            listed[left], sums[left], numbers[left] = norms[i], totals[i], first + i
            left += 1
            i += 1
    return left


@compiled
def _keep(lists, left, threshold):
    """Shortens the lists to sums of at least a threshold; returns their length."""
    places, norms, totals, numbers = lists
    kept = 0
    for i in range(left):
        places[kept], norms[kept] = places[i], norms[i]
        totals[kept], numbers[kept] = totals[i], numbers[i]
        kept += not totals[i] < threshold
    return kept


@compiled
def _list_stage(images, stage, plan, nodes, stages, lists, left, work):
    """Sums a stage's votes for listed windows; returns how many pass.

    A window that could not pass with the best votes of all trees to come leaves early.
    """
    sums, _, tilted = images
    is_tilted, thresholds = nodes
    stage_trees, stage_thresholds, tree_nodes, tables, best = stages
    places, norms, totals, _ = lists
    values, bits = work
    totals[:left] = 0.0
    first, last = stage_trees[stage], stage_trees[stage + 1]
    for tree in range(first, last):
        begin, end = tree_nodes[tree], tree_nodes[tree + 1]
        bits[:left] = 0
        for node in range(begin, end):
            image = tilted if is_tilted[node] else sums
            _list_values(image, places[:left], node, plan, values[:left])
            if end - begin > 1:
                _compare(values[:left], norms, thresholds[node], node - begin, bits)
        if end - begin > 1:
            _vote_tree(bits[:left], tables[tree], totals)
        else:
            above, below = tables[tree, 0], tables[tree, 1]
            _vote_stump(values[:left], norms, thresholds[begin], above, below, totals)
        if (tree - first) % PRUNE == PRUNE - 1 and tree < last - 1:
            left = _keep(lists, left, stage_thresholds[stage] - best[tree] - SLACK)
    return _keep(lists, left, stage_thresholds[stage])


@compiled
def run(images, place, rows, plan, nodes, inner, stages):
    """Runs a cascade over rows of windows of one level.

    Args:
        images: sums, squares and tilted sums, the pyramid's buffers.
        place: start, stride, step and columns of the level.
        rows: first row of windows, and the one after the last.
        plan: counts, corners, weights, rectangles and their weights; see `scan.plan`.
        nodes: bool `[nodes]`, whether tilted, and float32 `[nodes]` thresholds.
        inner: corners of the rectangle whose variance counts, and its area.
        stages: int64 `[stages + 1]` first tree of each stage, float32 `[stages]`
            thresholds, int64 `[trees + 1]` first node of each tree, float64
            `[trees, n]` the trees' answers (`cascade._tables`), float64 `[trees]` the
            sum of the largest votes of the trees after each in its stage.

    Returns:
        int64 rows counted from the first, int64 columns, float64 sum of the last stage
        above its threshold, of the windows that pass.
    """
    start, stride, step, columns = place
    count = (rows[1] - rows[0]) * columns
    thresholds = stages[1]
    norms = np.empty(count, np.float32)
    values, bits = np.empty(count, np.float32), np.empty(count, np.uint8)
    # Places in the buffers, norms, sums of votes, numbers of the listed windows.
    lists = (
        np.empty(count + 1, np.uint64),
        np.empty(count + 1, np.float32),
        np.empty(count + 1, np.float64),
        np.empty(count + 1, np.int64),
    )
    work = values[:columns], np.empty(columns, np.int32), bits[:columns]
    totals = np.empty(columns, np.float64)
    left = 0
    for stage in range(len(thresholds)):
        if stage and left < DENSE * count:
            left = _list_stage(
                images, stage, plan, nodes, stages, lists, left, (values, bits)
            )
            continue
        kept = taken = 0
        for row in range(rows[1] - rows[0]):
            first = row * columns
            end = taken
            while stage and end < left and lists[3][end] < first + columns:
                end += 1
            if stage and end == taken:
                continue
            base = np.uint64(start + (rows[0] + row) * step * stride)
            norm = norms[first : first + columns]
            if stage == 0:
                _norms(images[0], images[1], base, inner[0], inner[1], norm)
            _row_stage(images, base, stage, plan, nodes, stages, norm, work, totals)
            if stage == 0:
                rest = lists[0][kept:], lists[1][kept:], lists[2][kept:], lists[3][kept:]
                kept += _choose(totals, norm, thresholds[0], base, first, rest)
                continue
            for i in range(taken, end):
                total = totals[lists[3][i] - first]
                lists[0][kept], lists[1][kept] = lists[0][i], lists[1][i]
                lists[2][kept], lists[3][kept] = total, lists[3][i]
                kept += not total < thresholds[stage]
            taken = end
        left = kept
    found = lists[3][:left]
    return found // columns, found % columns, lists[2][:left] - thresholds[-1]
