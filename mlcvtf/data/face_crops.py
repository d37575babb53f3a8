"""Aligned and augmented face crops as a `keras.utils.PyDataset`."""

import cv2
import numpy as np

from mlcvtf.data import augment
from mlcvtf.data.batches import EndlessBatches

# Mirroring swaps left and right eye and the corners of the mouth.
MIRRORED = [1, 0, 2, 4, 3]


class FaceCrops(EndlessBatches):
    """Cuts a batch of faces with jittered alignment.

    The order of pictures and every random number depend on seed, epoch and index
    alone.

    Args:
        images: n uint8 RGB pictures.
        matrices: `[n, 2, 3]`, from picture to crop pixels (the alignment).
        targets: dict of arrays with n rows, or a function `(indices, matrices,
            mirrored) -> dict` where targets follow the geometry.
        size: side of a crop in pixels.
        batch_size: faces per batch; a last partial batch is dropped.
        jitter: standard deviations of rotation (degrees), log scale and shift
            (pixels).
        erasing: share of crops with an erased rectangle.
        seed: of all randomness.

    Gives:
        float32 `[batch, size, size, 3]` in 0..255 and a dict of targets.
    """

    def __init__(
        self,
        images,
        matrices,
        targets,
        size: int = 112,
        batch_size: int = 128,
        jitter: tuple = (5.0, 0.06, 2.0),
        erasing: float = 0.15,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.images, self.matrices, self.targets = images, matrices, targets
        self.size, self.batch_size = size, batch_size
        self.jitter, self.erasing, self.seed = jitter, erasing, seed

    def __len__(self):
        return len(self.images) // self.batch_size

    def batch(self, epoch: int, index: int) -> tuple:
        """Cuts one batch: float32 crops and a dict of targets."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
        chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
        generator = np.random.default_rng((self.seed, epoch, index))
        batch = np.empty((len(chosen), self.size, self.size, 3), np.float32)
        matrices = np.empty((len(chosen), 2, 3))
        mirrored = generator.random(len(chosen)) < 0.5
        for i, picture in enumerate(chosen):
            matrices[i] = self._jittered(picture, generator, mirrored[i])
            batch[i] = self._crop(picture, matrices[i], generator)
        if callable(self.targets):
            return batch, self.targets(chosen, matrices, mirrored)
        return batch, {name: values[chosen] for name, values in self.targets.items()}

    def _jittered(self, picture, generator, mirror):
        centre = ((self.size - 1) / 2,) * 2
        matrix = augment.jitter_similarity(generator, centre, *self.jitter)
        matrix = matrix @ np.vstack([self.matrices[picture], [0, 0, 1]])
        if mirror:
            matrix = np.array([[-1, 0, self.size - 1], [0, 1, 0], [0, 0, 1]]) @ matrix
        return matrix[:2]

    def _crop(self, picture, matrix, generator):
        border = cv2.BORDER_REFLECT if generator.random() < 0.5 else cv2.BORDER_CONSTANT
        crop = cv2.warpAffine(
            self.images[picture],
            matrix,
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=border,
        )
        crop = augment.degrade(augment.photometric(crop, generator), generator)
        if generator.random() < self.erasing:
            crop = augment.erase(crop, generator)
        return crop
