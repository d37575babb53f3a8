"""Strips of handwritten digits: MNIST's digits in a row, moved, turned and scaled.

A strip is a function of the digits, the seed and its number alone, so that a set of
tests is the same everywhere.
"""

import os
import pathlib

import cv2
import numpy as np

from mlcvtf.data.batches import EndlessBatches
from mlcvtf.errors import InputError

HEIGHT, WIDTH = 40, 256
# The most digits that fit.
LENGTH = 8
SIDE = 28
# Degrees, factors and pixels by which digits differ from their row.
TURN, SCALE, RISE, GAP = 10.0, (0.85, 1.1), 4.0, (-5.0, 4.0)
# Streams of randomness of training and test strips.
TRAINING, TEST = 0, 1


def load(folder: str | os.PathLike, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads digits from "train.npz" or "test.npz".

    Args:
        folder: of the set.
        part: "train" or "test".

    Returns:
        uint8 `[n, 28, 28]`, white on black, and int32 `[n]`, which digit it is.

    Raises:
        InputError: there is no such file, or it holds no such arrays.
    """
    path = pathlib.Path(folder) / f"{part}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"].astype(np.int32)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"digits are an .npz file with images and labels, {path} is not: "
            f"{type(error).__name__}"
        ) from None
    return images, labels


def draw_strip(digits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws digits in a row, each moved, turned and scaled a little.

    Args:
        digits: uint8 `[count, 28, 28]`, count at most `LENGTH`.
        generator: of the randomness.

    Returns:
        uint8 `[HEIGHT, WIDTH]`, white on black.
    """
    count = len(digits)
    scales = generator.uniform(*SCALE, count)
    gaps = generator.uniform(*GAP, count)
    steps = SIDE * scales + gaps
    left = generator.uniform(0, max(WIDTH - steps.sum(), 0.0))
    centres = left + np.cumsum(steps) - steps / 2
    strip = np.zeros((HEIGHT, WIDTH), np.uint8)
    for digit, scale, centre in zip(digits, scales, centres, strict=True):
        angle = generator.uniform(-TURN, TURN)
        middle = (SIDE - 1) / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
        matrix[:, 2] += (
            centre - middle,
            HEIGHT / 2 + generator.uniform(-RISE, RISE) - middle,
        )
        drawn = cv2.warpAffine(digit, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
        np.maximum(strip, drawn, out=strip)
    return strip


def make_strips(
    images: np.ndarray, labels: np.ndarray, numbers, seed: int = 0, stream: int = TEST
) -> tuple[np.ndarray, np.ndarray]:
    """Makes strips by their numbers: 1 to `LENGTH` digits, all lengths alike often.

    Args:
        images: uint8 `[n, 28, 28]`.
        labels: int32 `[n]`.
        numbers: which strips.
        seed: of all strips.
        stream: `TRAINING` or `TEST`.

    Returns:
        uint8 `[strips, HEIGHT, WIDTH, 3]`, and int32 `[strips, LENGTH]`, -1 behind
        the last digit.
    """
    strips = np.zeros((len(numbers), HEIGHT, WIDTH, 3), np.uint8)
    wanted = np.full((len(numbers), LENGTH), -1, np.int32)
    for row, number in enumerate(numbers):
        generator = np.random.default_rng((seed, stream, number))
        chosen = generator.integers(len(images), size=generator.integers(1, LENGTH + 1))
        strips[row] = draw_strip(images[chosen], generator)[..., None]
        wanted[row, : len(chosen)] = labels[chosen]
    return strips, wanted


class DigitStrips(EndlessBatches):
    """Gives batches of new strips without end, for training by teacher forcing.

    Args:
        images: uint8 `[n, 28, 28]`.
        labels: int32 `[n]`.
        batch_size: strips per batch.
        steps: batches per epoch.
        seed: of all randomness.
        stream: `TRAINING` or `TEST`.

    Gives:
        {"images": float32 `[batch, HEIGHT, WIDTH, 3]` in 0..255, "labels": int32
        `[batch, LENGTH]`} and the same labels.
    """

    def __init__(
        self,
        images,
        labels,
        batch_size: int = 32,
        steps: int = 200,
        seed: int = 0,
        stream: int = TRAINING,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.images, self.labels = images, labels
        self.batch_size, self.steps = batch_size, steps
        self.seed, self.stream = seed, stream

    def __len__(self):
        return self.steps

    def batch(self, epoch: int, index: int) -> tuple:
        """Makes one batch."""
        first = (epoch * self.steps + index) * self.batch_size
        strips, wanted = make_strips(
            self.images,
            self.labels,
            range(first, first + self.batch_size),
            self.seed,
            self.stream,
        )
        return {"images": strips.astype(np.float32), "labels": wanted}, wanted
