"""What `cascade_train` learns from: windows with objects, pictures without."""

import functools

import numpy as np
import tqdm

from mlcvtf.data import object_windows
from mlcvtf.data.places import picture_size
from mlcvtf.detection.viola_jones.training import Faces
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable


def read_negatives(given, window, say):
    """Lists the pictures without objects.

    Args:
        given: flags of `cascade_train`.
        window: width and height in pixels.
        say: is told lines.

    Raises:
        InputError: there are none, or none that is large enough.
    """
    places = []
    for path in given.negatives:
        found = object_windows.read_backgrounds(path, given.without)
        if not found:
            raise InputError(
                f"negatives are pictures without objects, {printable(path)} has none"
            )
        places += found
    backgrounds = object_windows.Backgrounds(places, window)
    if not len(backgrounds):
        raise InputError(
            f"negatives are at least as large as the window, "
            f"{given.window}, all {len(places)} are smaller"
        )
    left_out = backgrounds.too_small
    say(
        f"{len(backgrounds)} pictures without objects"
        + (f", {left_out} smaller than the window left out" if left_out else "")
    )
    return backgrounds


def read_positives(given, window, say):
    """Cuts the windows to learn from and to validate on.

    Args:
        given: flags of `cascade_train`.
        window: width and height in pixels.
        say: is told lines.

    Returns:
        `training.Faces`.

    Raises:
        InputError: there are too few, or crops are smaller than the window.
    """
    objects = _large_enough(given, window, say)
    # Objects of one picture are all on one side.
    groups = {}
    for one in objects:
        groups.setdefault(one.image if one.box else len(groups), []).append(one)
    groups = list(groups.values())
    order = np.random.default_rng(given.seed).permutation(len(groups))
    held = max(1, round(given.validation * len(groups)))
    if held >= len(groups):
        raise InputError(
            "positives are of at least 2 pictures, to learn from one and "
            f"validate on the other, received {len(groups)}"
        )
    jitter = object_windows.Jitter(given.jitter)
    progress = functools.partial(tqdm.tqdm, unit="object", leave=False, disable=None)
    parts = []
    for chosen, copies in ((order[held:], jitter), (order[:held], None)):
        part = [one for number in chosen for one in groups[number]]
        parts.append(
            object_windows.cut_windows(
                part, window, given.margin, copies, given.mirror, given.seed, progress
            )
        )
    say(
        f"{len(objects)} objects: {len(parts[0])} windows to learn from, "
        f"{len(parts[1])} to validate on"
    )
    return Faces(*parts)


def _large_enough(given, window, say):
    """Lists the objects that are as large as the window, or says what is wrong."""
    objects = []
    for path in given.positives:
        found = object_windows.read_objects(path, given.category)
        if not found:
            raise InputError(
                "positives are pictures of an object or boxes in "
                f"pictures, {printable(path)} has none"
            )
        objects += found
    kept, small = [], []
    for one in objects:
        size = _size(given, one)
        large = size[0] >= window[0] and size[1] >= window[1]
        (kept if large else small).append((one, size))
    crops = [(one, size) for one, size in small if one.box is None]
    if crops:
        one, size = crops[0]
        name = "an array" if not isinstance(one.image, tuple) else one.image
        raise InputError(
            f"crops are at least as large as the window, {given.window}, {len(crops)} "
            f"are smaller, such as {name} of {size[0]}x{size[1]} (see --window)"
        )
    if not kept:
        raise InputError(
            f"some boxes are at least as large as the window, "
            f"{given.window}, all {len(small)} are smaller"
        )
    if small:
        say(f"{len(small)} boxes smaller than the window left out")
    return [one for one, _ in kept]


def _size(given, one):
    """Returns width and height of an object with its margin."""
    if one.box is not None:
        scale = 1 + 2 * given.margin
        return (scale * (one.box[2] - one.box[0]), scale * (one.box[3] - one.box[1]))
    if not isinstance(one.image, tuple):
        return one.image.shape[::-1]
    # A picture that is none is an error when it is read.
    return picture_size(one.image) or (10**6, 10**6)
