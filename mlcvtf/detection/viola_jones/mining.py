"""Finds windows without an object that a cascade takes for one.

Pictures are seen upright, turned by quarters, and mirrored, in eight views, and each at
four offsets, since windows lie two pixels apart: 32 scenes a picture. Of a scene the
pyramid is made level by level as the detector makes it, so that a window's pixels are
those that the detector sees.
"""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from mlcvtf.detection.viola_jones import features, pyramid

# Ways to turn and mirror a picture, and the first column and row of windows.
VIEWS = 8
OFFSETS = ((0, 0), (1, 0), (0, 1), (1, 1))
SCENES = VIEWS * len(OFFSETS)
# Scenes that are looked at between two looks at whether there are enough.
CHUNK = 16
# Windows that one scene may give at least, and of how many scenes the windows should
# come where scenes are plenty.
LEAST_OF_SCENE, SPREAD = 4, 1 / 8
# As a factor between scales, larger than any picture.
ONE_SCALE = 1e9


class Mined(NamedTuple):
    """What a search over backgrounds gave.

    Attributes:
        windows: uint8 `[n, height, width]`.
        scanned: number of windows that the cascade saw.
        passed: number of windows that it let pass.
    """

    windows: np.ndarray
    scanned: int
    passed: int


def mine(
    cascade,
    pictures,
    window: tuple[int, int],
    count: int,
    scale_factor: float = 1.1,
    seed=0,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda found, scanned: None,
) -> Mined:
    """Collects windows that pass a cascade.

    The result does not depend on the number of threads.

    Args:
        cascade: a `Cascade`, or None, which lets everything pass.
        pictures: a sequence of uint8 `[height, width]`, without any object; each is
            fetched when it is looked at, possibly in another thread.
        window: width and height in pixels.
        count: how many windows are wanted; fewer are returned where there are no more.
        scale_factor: between one size of the window and the next, above 1.
        seed: whole number or list of such, of the order of scenes and the choice.
        threads: number of threads; None for one per processor.
        progress: is told how many windows were found, no more of a scene than it is to
            give, and how many were scanned.

    Returns:
        Windows in random order, none of them flat.
    """
    seeds = np.atleast_1d(seed).tolist()
    order = np.random.default_rng(seeds).permutation(len(pictures) * SCENES)
    most = max(LEAST_OF_SCENE, math.ceil(count / max(len(order) * SPREAD, 1)))
    chosen, reserve = [], []
    found = kept = scanned = passed = 0

    def look(scene):
        random = np.random.default_rng([*seeds, int(scene)])
        offset, view = divmod(scene % SCENES, VIEWS)
        picture = turned(pictures[scene // SCENES], view)
        # Without a cascade no scene is short of windows.
        limit = most if cascade is None else count
        return _scan(
            cascade, picture, OFFSETS[offset], window, scale_factor, limit, random
        )

    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for start in range(0, len(order), CHUNK):
            for windows, seen, through in pool.map(look, order[start : start + CHUNK]):
                scanned, passed = scanned + seen, passed + through
                chosen.append(windows[:most])
                found += len(chosen[-1])
                if kept < count:
                    reserve.append(windows[most:])
                    kept += len(reserve[-1])
            progress(min(found, count), scanned)
            if found >= count:
                break
    empty = np.zeros((0, window[1], window[0]), np.uint8)
    # What is in the reserve is from few scenes and fills up what is missing.
    every = np.concatenate([empty, *chosen, *reserve])[:count]
    random = np.random.default_rng(seeds)
    return Mined(every[random.permutation(len(every))], scanned, passed)


def turned(picture: np.ndarray, view: int) -> np.ndarray:
    """Turns a picture by `view % 4` quarters and mirrors it from view 4 on."""
    picture = np.rot90(picture, view % 4)
    return np.ascontiguousarray(picture[:, ::-1] if view >= 4 else picture)


def levels(picture: np.ndarray, window, scale_factor: float) -> Iterator[np.ndarray]:
    """Shrinks a picture as the detector does.

    Args:
        picture: uint8 `[height, width]`.
        window: width and height in pixels.
        scale_factor: between scales.

    Yields:
        uint8 pictures, at least as large as the window.
    """
    height, width = picture.shape
    for scale in pyramid.scales((width, height), window, scale_factor):
        size = [int(np.rint(np.float32(side) / scale)) for side in (width, height)]
        if size[0] >= window[0] and size[1] >= window[1]:
            yield cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR_EXACT)


def _scan(cascade, picture, offset, window, scale_factor, limit, random):
    """Returns up to `limit` windows of a scene, how many were seen and passed."""
    width, height = window
    every, places, scanned = [], [], 0
    for whole in levels(picture, window, scale_factor):
        level = np.ascontiguousarray(whole[offset[1] :, offset[0] :])
        if level.shape[0] < height or level.shape[1] < width:
            continue
        rows, columns = (level.shape[0] - height) // 2, (level.shape[1] - width) // 2
        total = (rows + 1) * (columns + 1)
        scanned += total
        if cascade is None:
            drawn = random.choice(total, min(total, limit), replace=False)
            row, column = np.divmod(drawn, columns + 1)
            corners = np.stack([2 * column, 2 * row], axis=-1)
        else:
            corners = cascade.windows(level, ONE_SCALE, threads=1)[0][:, :2]
        every.append(level)
        places += [(len(every) - 1, x, y) for x, y in corners]
    passed = scanned if cascade is None else len(places)
    drawn = random.permutation(len(places))
    windows = np.empty((min(limit, len(places)), height, width), np.uint8)
    for window_, place in zip(windows, drawn, strict=False):
        level, x, y = places[place]
        window_[:] = every[level][y : y + height, x : x + width]
    if cascade is None and len(windows):
        # The detector never looks at flat windows.
        windows = windows[features.integrate(windows).norms != 0]
    return windows, scanned, passed
