"""The loops of the scan, compiled by numba.

Arithmetic follows OpenCV 4 to the bit; votes are added in float64. A stage sees its
windows in the two forms of `value_kernels.py`: where several of `LANES` neighbours are
left, it runs over all of them, dead ones included; single windows are listed.
"""

import numpy as np

from mlcvtf.detection.viola_jones.value_kernels import (
    LANES,
    block_values,
    compiled,
    list_values,
)

# Windows left from which on a block costs less than listing them.
DENSE = 4
# Stages that run over one piece of a level after the other, whose lists stay in the
# cache; then so few windows are left that those of all pieces are listed together.
EARLY = 3


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
def _stage(images, stage, plan, nodes, stages, windows, blocks):
    """Sums a stage's votes for windows that are in blocks, or listed.

    Args:
        images: see `run`.
        stage: number of the stage.
        plan: see `run`.
        nodes: see `run`.
        stages: see `run`.
        windows: places, norms, and totals that are set; of blocks the places are
            those of their first windows.
        blocks: whether they are in blocks.
    """
    sums, _, tilted = images
    is_tilted, thresholds = nodes
    stage_trees, _, tree_nodes, tables = stages
    places, norms, totals, values, bits = windows
    totals[:] = 0.0
    for tree in range(stage_trees[stage], stage_trees[stage + 1]):
        begin, end = tree_nodes[tree], tree_nodes[tree + 1]
        if end - begin > 1:
            bits[:] = 0
        for node in range(begin, end):
            image = tilted if is_tilted[node] else sums
            if blocks:
                block_values(image, places, node, plan, values)
            else:
                list_values(image, places, node, plan, values)
            if end - begin > 1:
                _compare(values, norms, thresholds[node], node - begin, bits)
        if end - begin > 1:
            _vote_tree(bits, tables[tree], totals)
        else:
            above, below = tables[tree, 0], tables[tree, 1]
            _vote_stump(values, norms, thresholds[begin], above, below, totals)


@compiled
def _choose(totals, norms, columns, threshold, place, left, lists):
    """Lists a row's windows that pass the first stage; returns how many are listed.

    After one that the stage turns down OpenCV skips the next.
    """
    places, listed, sums = lists
    skipped = False
    for i in range(columns):
        seen = (norms[i] >= 0) & (not skipped)
        low = totals[i] < threshold
        places[left], listed[left] = place + np.uint64(i), norms[i]
        sums[left] = totals[i]
        # Without a branch, which would be guessed wrong for every other window.
        left += seen & (not low)
        skipped = seen & low
    return left


@compiled
def _divide(places, norms, slots, blocks, singles):
    """Puts windows that are left into blocks and lists; returns both lengths.

    Args:
        places: of the windows, rising.
        norms: of the windows.
        slots: is set to a window's place in the blocks' arrays; or, as -1 - i, in
            those of the list.
        blocks: places and norms, which are set.
        singles: the same.
    """
    block = single = first = 0
    while first < len(places):
        last = first + 1
        while last < len(places) and places[last] - places[first] < LANES:
            last += 1
        if last - first >= DENSE:
            blocks[0][block] = places[first]
            # What no window is in has to be a number.
            blocks[1][block * LANES : (block + 1) * LANES] = np.float32(0.0)
            for i in range(first, last):
                slot = block * LANES + np.int64(places[i] - places[first])
                blocks[1][slot], slots[i] = norms[i], slot
            block += 1
        else:
            for i in range(first, last):
                singles[0][single], singles[1][single] = places[i], norms[i]
                slots[i] = -1 - single
                single += 1
        first = last
    return block, single


@compiled
def _scratch(size, blocks):
    """Allocates places, norms, totals, values and bits."""
    return (
        np.empty(blocks, np.uint64),
        np.empty(size, np.float32),
        np.empty(size, np.float64),
        np.empty(size, np.float32),
        np.empty(size, np.uint8),
    )


@compiled
def _part(scratch, blocks, size):
    """Returns the first elements of what `_scratch` gives."""
    places, norms, totals, values, bits = scratch
    return places[:blocks], norms[:size], totals[:size], values[:size], bits[:size]


@compiled
def _first_stage(images, piece, stride, plan, inner, nodes, stages, work, lists):
    """Runs the first stage over all windows; returns how many are listed."""
    start, step, columns = piece[0], piece[1], piece[2]
    blocks = -(-columns // LANES)
    windows = _part(work, blocks, blocks * LANES)
    places, norms, totals, _, _ = windows
    left = 0
    for row in range(piece[3], piece[4]):
        base = np.uint64(start + row * step * stride)
        for block in range(blocks):
            places[block] = base + np.uint64(block * LANES)
        _norms(images[0], images[1], base, inner[0], inner[1], norms)
        _stage(images, 0, plan, nodes, stages, windows, True)
        left = _choose(totals, norms, columns, stages[1][0], base, left, lists)
    return left


@compiled
def _later_stages(images, span, plan, nodes, stages, scratch, lists, left):
    """Runs the stages of a span over listed windows; returns how many pass."""
    places, norms, totals = lists
    thresholds = stages[1]
    work, singles, slots = scratch
    for stage in range(span[0], span[1]):
        if left == 0:
            break
        blocks, alone = _divide(places[:left], norms, slots, work[:2], singles[:2])
        windows = _part(work, blocks, blocks * LANES)
        _stage(images, stage, plan, nodes, stages, windows, True)
        windows = _part(singles, alone, alone)
        _stage(images, stage, plan, nodes, stages, windows, False)
        kept = 0
        for i in range(left):
            slot = slots[i]
            total = work[2][slot] if slot >= 0 else singles[2][-1 - slot]
            places[kept], norms[kept], totals[kept] = places[i], norms[i], total
            kept += not total < thresholds[stage]
        left = kept
    return left


@compiled
def _allocate(windows, widest):
    """Allocates what the stages need for so many listed windows."""
    size = max(windows * LANES // DENSE, widest) + LANES
    slots = np.empty(windows, np.int64)
    return _scratch(size, size // LANES), _scratch(windows, windows), slots


@compiled
def run(images, stride, pieces, plan, inner, nodes, stages):
    """Runs a cascade over windows of levels of one step.

    Args:
        images: sums, squares and tilted sums, the pyramid's buffers.
        stride: elements from one row to the next.
        pieces: int64 `[n, 5]`: start, step and columns of the level, first row of
            windows and the one after the last.
        plan: counts, corners, weights, rectangles and their weights; see `scan.plan`.
        inner: corners of the rectangle whose variance counts, and its area.
        nodes: bool `[nodes]`, whether tilted, and float32 `[nodes]` thresholds.
        stages: int64 `[stages + 1]` first tree of each stage, float32 `[stages]`
            thresholds, int64 `[trees + 1]` first node of each tree, float64
            `[trees, n]` the trees' answers (`cascade._tables`).

    Returns:
        Of the windows that pass: uint64 place in the buffers, float64 sum of the last
        stage above its threshold.
    """
    counts = (pieces[:, 4] - pieces[:, 3]) * pieces[:, 2]
    total = counts.sum()
    # One more, since a window is written before it is known to pass.
    every = (
        np.empty(total + 1, np.uint64),
        np.empty(total + 1, np.float32),
        np.empty(total + 1, np.float64),
    )
    number = len(stages[1])
    early = min(EARLY, number)
    scratch = _allocate(counts.max(), pieces[:, 2].max())
    left = 0
    for i in range(len(pieces)):
        lists = every[0][left:], every[1][left:], every[2][left:]
        listed = _first_stage(
            images, pieces[i], stride, plan, inner, nodes, stages, scratch[0], lists
        )
        left += _later_stages(
            images, (1, early), plan, nodes, stages, scratch, lists, listed
        )
    scratch = _allocate(left, 0)
    left = _later_stages(
        images, (early, number), plan, nodes, stages, scratch, every, left
    )
    return every[0][:left].copy(), every[2][:left] - stages[1][-1]
