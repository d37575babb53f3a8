"""Augmentations that join several pictures: mosaic, mix-up and copy-paste.

Each is called as `augmentation(sample, draw)` and takes its partners from
`draw.other()`; `others` says how many.
"""

import dataclasses

import cv2
import numpy as np

from mlcvtf.data import samples
from mlcvtf.data.augment_geometry import check_range, crop
from mlcvtf.data.samples import MIN_SIDE, VISIBLE, Draw, Sample
from mlcvtf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """Joins four pictures around a random point.

    Bochkovskiy, Wang, Liao, 2020, "YOLOv4: Optimal Speed and Accuracy of Object
    Detection", arXiv:2004.10934. The picture itself is in the upper left part. Each
    part shows a random window of its picture, scaled by a random factor, or by the
    one at which the window is the whole picture's width or height if that is larger:
    so there is no empty place.

    Args:
        probability: share of pictures that are joined with three others.
        scale: smallest and largest factor of each picture.
        middle: how far from the sides the point stays, as a share of each.
        visible: share of a box that must stay in the window (`samples.clip`).
        min_side: smallest side in pixels that a box may have (`samples.clip`).

    Raises:
        InputError: the scale is no range of positive numbers.
    """

    probability: float = 0.5
    scale: tuple[float, float] = (0.5, 1.0)
    middle: float = 0.25
    visible: float = VISIBLE
    min_side: float = MIN_SIDE
    others = 3

    def __post_init__(self):
        check_range("scale", self.scale)

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        generator = draw.generator
        if generator.random() >= self.probability:
            return sample
        height, width = draw.size
        share = generator.uniform(self.middle, 1 - self.middle, 2)
        y, x = (share * draw.size).round().astype(int)
        parts = []
        for top, left, bottom, right in (
            (0, 0, y, x),
            (0, x, y, width),
            (y, 0, height, x),
            (y, x, height, width),
        ):
            one = draw.other() if parts else sample
            one = self.window(one, (int(bottom - top), int(right - left)), generator)
            parts.append(samples.place(one, draw.size, (int(top), int(left))))
        return _joined(parts, int(y), int(x))

    def window(self, sample: Sample, size: tuple[int, int], generator) -> Sample:
        """Cuts a random window out of a sample and scales it to a size."""
        factor = max(generator.uniform(*self.scale), *np.divide(size, sample.size))
        sides = np.clip(np.rint(np.divide(size, factor)), 1, sample.size).astype(int)
        top, left = generator.integers(0, np.subtract(sample.size, sides) + 1)
        part = crop(
            sample,
            int(top),
            int(left),
            *map(int, sides),
            self.visible,
            self.min_side / factor,
        )
        return samples.resize(part, size, samples.AREA_BELOW)


@dataclasses.dataclass(frozen=True)
class MixUp:
    """Lets another picture shine through, with the objects of both.

    Zhang et al., 2019, "Bag of Freebies for Training Object Detection Neural Networks",
    arXiv:1902.04103: the geometry of both stays, and every object counts in full.

    Args:
        probability: share of pictures that are mixed.
        alpha: of the weight's beta distribution; 1.5 is the paper's.

    Raises:
        InputError: when called, the samples have a class per pixel.
    """

    probability: float = 0.5
    alpha: float = 1.5
    others = 1

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        if draw.generator.random() >= self.probability:
            return sample
        if sample.mask is not None:
            raise InputError(
                "a pixel has one class, so pictures with a mask are not "
                "mixed, received some"
            )
        weight = draw.generator.beta(self.alpha, self.alpha)
        one, other = (samples.place(s, draw.size) for s in (sample, draw.other()))

        def mixed(a, b):
            return None if a is None else cv2.addWeighted(a, weight, b, 1 - weight, 0)

        return _objects([one, other])._replace(
            image=mixed(one.image, other.image), pair=mixed(one.pair, other.pair)
        )


@dataclasses.dataclass(frozen=True)
class CopyPaste:
    """Pastes objects of another picture by their masks.

    Ghiasi et al., 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for
    Instance Segmentation", arXiv:2012.07177. Masks of covered objects lose what is
    covered, their boxes follow, and those of which too little is left go; an object
    without a mask keeps its box until so much of it is covered. Objects with masks
    alone are pasted, and no crowds.

    Args:
        probability: share of pictures that something is pasted into.
        chosen: probability of each object of the other picture; the paper's random
            subset is 0.5.
        scale: smallest and largest factor of the other picture.
        blur: standard deviation in pixels of the edge's softness; 0 is hard (the
            paper finds no difference).
        visible: share of an object that must stay visible.
        min_side: smallest side in pixels that a box may have (`samples.clip`).

    Raises:
        InputError: the scale is no range of positive numbers; when called, the
            samples have no masks.
    """

    probability: float = 0.5
    chosen: float = 0.5
    scale: tuple[float, float] = (0.5, 1.5)
    blur: float = 1.0
    visible: float = VISIBLE
    min_side: float = MIN_SIDE
    others = 1

    def __post_init__(self):
        check_range("scale", self.scale)

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        generator = draw.generator
        if generator.random() >= self.probability:
            return sample
        pasted = draw.other()
        if sample.masks is None or pasted.masks is None:
            raise InputError(
                "copy-paste needs the mask of each object, received a "
                "sample with none: masks='augment' reads them"
            )
        usable = pasted.masks.any(axis=(1, 2)) & ~pasted.crowd
        usable &= generator.random(len(usable)) < self.chosen
        pasted = samples.select(pasted, usable)
        factor = np.exp(generator.uniform(*np.log(self.scale)))
        free = np.subtract(sample.size, np.multiply(pasted.size, factor))
        down, right = generator.random(2) * free
        matrix = [[factor, 0, right], [0, factor, down]]
        pasted = samples.warp(pasted, matrix, sample.size, self.visible, self.min_side)
        pasted = samples.select(pasted, pasted.masks.any(axis=(1, 2)))
        return self.paste(sample, pasted) if len(pasted.boxes) else sample

    def paste(self, sample: Sample, pasted: Sample) -> Sample:
        """Pastes all objects of one sample into another of the same size."""
        over = pasted.masks.any(axis=0).astype(np.uint8)
        alpha = over.astype(np.float32)
        if self.blur:
            alpha = cv2.GaussianBlur(alpha, (0, 0), self.blur)
        alpha = alpha[..., None]
        image = sample.image + alpha * (pasted.image.astype(np.float32) - sample.image)
        below = self._covered(sample, over)
        joined = _objects([below, pasted])
        return joined._replace(image=image.round().astype(np.uint8))

    def _covered(self, sample, over):
        """Takes away from masks and boxes what is under the pasted objects."""
        left = sample.masks & (1 - over)
        before, after = (
            masks.sum(axis=(1, 2), dtype=int) for masks in (sample.masks, left)
        )
        boxes, share = sample.boxes.copy(), np.ones(len(sample.boxes))
        around = samples.extents(left)
        for i, box in enumerate(boxes):
            if before[i]:
                share[i] = after[i] / before[i]
                if after[i] < before[i]:
                    box[:2] = np.maximum(box[:2], around[i, :2])
                    box[2:] = np.minimum(box[2:], around[i, 2:])
            else:
                x1, y1, x2, y2 = *np.floor(box[:2]), *np.ceil(box[2:])
                share[i] = 1 - over[int(y1) : int(y2), int(x1) : int(x2)].mean()
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        sample = sample._replace(boxes=boxes, masks=left)
        return samples.select(
            sample, (share >= self.visible) & (sides >= self.min_side)
        )


def _objects(parts):
    """Gives the first sample the objects of all, which have one size."""
    return parts[0]._replace(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("boxes", "labels", "crowd", "landmarks", "masks")
            if getattr(parts[0], name) is not None
        }
    )


def _joined(parts, y, x):
    """Joins four samples that were placed around a point."""

    def quarters(name):
        one, two, three, four = (getattr(part, name) for part in parts)
        if one is None:
            return None
        return np.vstack(
            [
                np.hstack([one[:y, :x], two[:y, x:]]),
                np.hstack([three[y:, :x], four[y:, x:]]),
            ]
        )

    return _objects(parts)._replace(
        **{name: quarters(name) for name in ("image", "mask", "pair")}
    )
