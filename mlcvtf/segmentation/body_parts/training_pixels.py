"""What a forest learns from: people cut out of depth pictures, and pixels of them.

Pictures stream through once. Of each, the rectangle around the person is kept, in one
file that is mapped into memory, with a frame of background; the operating system
keeps in memory what fits. A tree's pixels are 16 bytes each.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.features import check_depth, pad_depth


class People(NamedTuple):
    """People cut out of pictures.

    Attributes:
        depth: float32 `[...]`, flat: the rectangles, each framed by a pixel of
            background.
        labels: uint8 `[...]`, flat: class of each pixel of the rectangles, 255 where
            there is none.
        place: int64 `[images, 6]`: address in `depth`, first row, first column, height,
            width, address in `labels`.
        digest: hexadecimal SHA-256 of all of it.
    """

    depth: np.ndarray
    labels: np.ndarray
    place: np.ndarray
    digest: str

    def depth_of(self, image: int) -> np.ndarray:
        """Returns an image's framed rectangle, float32 `[height + 2, width + 2]`."""
        first, _, _, height, width, _ = self.place[image].tolist()
        size = (height + 2) * (width + 2)
        return self.depth[first : first + size].reshape(height + 2, width + 2)

    def labels_of(self, image: int) -> np.ndarray:
        """Returns an image's classes, uint8 `[height, width]`, 255 where none."""
        _, _, _, height, width, first = self.place[image].tolist()
        return self.labels[first : first + height * width].reshape(height, width)


def store_people(
    pictures: Iterable, classes: int, folder: str | pathlib.Path
) -> People:
    """Cuts the people out of a stream of pictures and stores them.

    Depth where the label is 0 counts as background, as it does once the background
    has been removed. A finished store in the folder is used as it is.

    Args:
        pictures: pairs of depth, float32 `[height, width]` in metres, 0 where missing,
            and labels, uint8 `[height, width]`, 0 for background and parts from 1.
        classes: number of parts.
        folder: made if it is not there.

    Returns:
        The people; pictures without any pixel of known depth and part are left out.

    Raises:
        InputError: a picture is not as above (which one, and why), or all are empty,
            or they show one part only.
    """
    folder = pathlib.Path(folder)
    if (folder / "people.json").is_file():
        return load_people(folder, classes)
    folder.mkdir(parents=True, exist_ok=True)
    place, address, area, seen = [], 0, 0, np.zeros(classes + 1, bool)
    digest = hashlib.sha256()
    with (
        open(folder / "depth.f32", "wb") as depths,
        open(folder / "labels.u8", "wb") as all_labels,
    ):
        for number, picture in enumerate(pictures):
            try:
                depth, labels = _checked(picture, classes)
            except InputError as error:
                raise InputError(f"training picture {number}: {error}") from None
            there = (labels > 0) & (depth > 0)
            if not there.any():
                continue
            seen[labels[there]] = True
            top, bottom = _extent(there.any(1))
            left, right = _extent(there.any(0))
            there = there[top:bottom, left:right]
            crop = np.where(there, depth[top:bottom, left:right], 0)
            kept = np.where(there, labels[top:bottom, left:right] - 1, 255)
            framed, kept = pad_depth(crop), kept.astype(np.uint8)
            for file, array in ((depths, framed), (all_labels, kept)):
                file.write(array.tobytes())
                digest.update(array.tobytes())
            place.append((address, top, left, *kept.shape, area))
            address += framed.size
            area += kept.size
    if seen.sum() < 2:
        raise InputError(
            "a forest learns from pictures that show at least two parts, received "
            f"{len(place)} pictures with {int(seen.sum())}"
        )
    content = {"place": place, "digest": digest.hexdigest(), "classes": classes}
    partial = folder / "people.json.partial"
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, folder / "people.json")
    return load_people(folder, classes)


def load_people(folder: str | pathlib.Path, classes: int) -> People:
    """Maps what `store_people` wrote into memory.

    Args:
        folder: of the store.
        classes: number of parts.

    Returns:
        The people.

    Raises:
        InputError: the files are not whole, or of another number of parts.
    """
    folder = pathlib.Path(folder)
    try:
        content = json.loads((folder / "people.json").read_text(encoding="utf-8"))
        place = np.array(content["place"], np.int64)
        depth = np.memmap(folder / "depth.f32", np.float32, "r")
        labels = np.memmap(folder / "labels.u8", np.uint8, "r")
        whole = depth.size == np.sum((place[:, 3] + 2) * (place[:, 4] + 2))
        whole &= labels.size == np.sum(place[:, 3] * place[:, 4])
        stored = content["classes"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"a store of training pictures is whole, {folder} is not: {error}"
        ) from None
    if not whole:
        raise InputError(f"a store of training pictures is whole, {folder} is cut off")
    if stored != classes:
        raise InputError(
            f"the training pictures in {folder} show {stored} parts, received {classes}"
        )
    return People(np.asarray(depth), np.asarray(labels), place, content["digest"])


def draw_pixels(
    people: People,
    per_image: int,
    seed: int,
    tree: int,
    bagging: bool,
    evenly: bool = True,
) -> np.ndarray:
    """Draws a tree's pictures with replacement, and pixels of each draw without.

    Args:
        people: to draw from.
        per_image: pixels of each draw; all where there are fewer.
        seed: of the forest.
        tree: number of the tree.
        bagging: False takes every picture once.
        evenly: spreads a picture's pixels over its parts as evenly as their sizes
            allow (Shotton et al., 2011, section 3.3), so that hands weigh as much as
            the trunk; False draws every pixel with equal probability.

    Returns:
        int32 `[n, 4]`: image, row and column in the whole picture, class; by image.
    """
    images = len(people.place)
    random = np.random.default_rng([seed, tree])
    draws = np.arange(images)
    if bagging:
        draws = np.sort(random.integers(0, images, images))
    found = []
    for image in draws.tolist():
        labels = people.labels_of(image)
        there = np.flatnonzero(labels != 255)
        if len(there) > per_image:
            if evenly:
                chosen = _evenly(random, labels.ravel()[there], per_image)
            else:
                chosen = random.choice(len(there), per_image, replace=False)
            there = np.sort(there[chosen])
        rows, columns = np.divmod(there, labels.shape[1])
        _, top, left, _, _, _ = people.place[image].tolist()
        some = np.empty((len(there), 4), np.int32)
        some[:, 0], some[:, 1], some[:, 2] = image, rows + top, columns + left
        some[:, 3] = labels.ravel()[there]
        found.append(some)
    return np.concatenate(found)


def _evenly(random, classes, count):
    """Chooses `count` of n items, of each class as many as of any other."""
    order = random.permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    starts = np.searchsorted(classes[by_class], classes[by_class])
    # Of every class the first, then of every class the second, and so on.
    turn = np.arange(len(classes)) - starts
    fair = random.permutation(len(classes))
    return by_class[fair[np.argsort(turn[fair], kind="stable")[:count]]]


def _checked(picture, classes):
    depth, labels = picture
    depth, labels = check_depth(depth), np.asarray(labels)
    if labels.shape != depth.shape or labels.dtype != np.uint8:
        raise InputError(
            f"labels are uint8 of the depth's shape {depth.shape}, received "
            f"{labels.dtype} {labels.shape}"
        )
    if labels.max() > classes:
        raise InputError(
            f"labels are 0 for background and 1 to {classes} for parts, received "
            f"{labels.max()}"
        )
    return depth, labels


def _extent(there):
    found = np.flatnonzero(there)
    return int(found[0]), int(found[-1]) + 1
