"""The numba kernel that takes pixels down a forest.

Arithmetic is that of `features.probe_differences` to the bit. Indices are unsigned,
since numba looks for negative ones otherwise.
"""

import numba
import numpy as np

# Pixels that go down together: 16 bytes each, beside what they read.
BLOCK = 512


@numba.njit(nogil=True, cache=True)
def classify(
    padded,
    height,
    width,
    pixels,
    lines,
    links,
    rows,
    roots,
    levels,
    leaves,
    sums,
    parts,
):
    """Finds the leaves of pixels, adds their distributions and picks the largest.

    Args:
        padded: float32 `[(height + 2) (width + 2)]`, of `features.pad_depth`.
        height: of the picture without its frame.
        width: likewise.
        pixels: int64 `[n]`, row times width plus column, of known depth.
        lines: float32 `[8 m]`, see `compiled_forest`.
        links: the same memory as uint32.
        rows: int32 `[m]`.
        roots: uint32 `[trees]`.
        levels: of the deepest tree.
        leaves: uint8 `[k, classes]`.
        sums: uint16 `[n, classes]`, filled.
        parts: uint8 `[height width]`, filled where there are pixels.
    """
    column, row = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    reciprocal = np.empty(BLOCK, np.float32)
    at = np.empty(BLOCK, np.uint32)
    for start in range(0, pixels.size, BLOCK):
        count = min(BLOCK, pixels.size - start)
        for i in range(count):
            y, x = pixels[start + i] // width, pixels[start + i] % width
            column[i] = np.float32(x) + np.float32(1.5)
            row[i] = np.float32(y) + np.float32(1.5)
            here = padded[(y + 1) * (width + 2) + x + 1]
            reciprocal[i] = np.float32(1.0) / here
        for tree in range(roots.size):
            at[:count] = roots[tree]
            for _ in range(levels):
                if not _descend(
                    padded,
                    height,
                    width,
                    lines,
                    links,
                    count,
                    column,
                    row,
                    reciprocal,
                    at,
                ):
                    break
            for i in range(count):
                leaf = leaves[rows[at[i]]]
                if tree == 0:
                    for c in range(leaf.size):
                        sums[start + i, c] = leaf[c]
                else:
                    for c in range(leaf.size):
                        sums[start + i, c] += leaf[c]
        _largest(sums[start : start + count], pixels[start : start + count], parts)


@numba.njit(nogil=True, cache=True)
def _largest(sums, pixels, parts):
    """Picks the first largest sum of each pixel, without a branch."""
    eight, mask = np.uint32(8), np.uint32(255)
    for i in range(pixels.size):
        best = np.uint32(0)
        for c in range(sums.shape[1]):
            key = (np.uint32(sums[i, c]) << eight) | np.uint32(255 - c)
            best = max(best, np.uint32(key))
        parts[pixels[i]] = np.uint32(256) - (best & mask)


@numba.njit(nogil=True, cache=True, inline="always")
def _descend(padded, height, width, lines, links, count, column, row, reciprocal, at):
    """Takes a block one level down; returns whether any pixel moved."""
    low, right = np.float32(0.0), np.float32(width + 1)
    bottom, stride = np.float32(height + 1), np.uint64(width + 2)
    moved = np.uint32(0)
    for i in range(count):
        line = np.uint64(at[i]) * np.uint64(8)
        z = reciprocal[i]
        x = min(max(column[i] + lines[line] * z, low), right)
        y = min(max(row[i] + lines[line + np.uint64(1)] * z, low), bottom)
        value = padded[np.uint64(np.uint32(y) * stride + np.uint32(x))]
        x = min(max(column[i] + lines[line + np.uint64(2)] * z, low), right)
        y = min(max(row[i] + lines[line + np.uint64(3)] * z, low), bottom)
        value -= padded[np.uint64(np.uint32(y) * stride + np.uint32(x))]
        below = links[line + np.uint64(5)] + np.uint32(
            value >= lines[line + np.uint64(4)]
        )
        moved |= below ^ at[i]
        at[i] = below
    return moved != 0
