"""Cropped, mirrored and recoloured pictures with a class each, from memory."""

import cv2
import numpy as np

from mlcvtf.data import augment
from mlcvtf.data.batches import EndlessBatches
from mlcvtf.data.examples import Examples
from mlcvtf.data.records import RecordSet

# Sides of a crop to each other, as in Szegedy et al., 2015, section 6.
ASPECT = (3 / 4, 4 / 3)


def load(record_set: RecordSet, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a set of pictures with classes into memory.

    Args:
        record_set: of kind "label".
        size: side in pixels that every picture is stretched to.

    Returns:
        uint8 `[n, size, size, 3]` RGB, and int32 `[n]` classes.

    Raises:
        InputError: names a picture that cannot be used.
    """
    examples = Examples(record_set, (size, size), fit="stretch")
    made = [examples.example(index) for index in range(len(examples))]
    labels = np.array([target["label"] for _, target in made], np.int32)
    return np.stack([image for image, _ in made]), labels


class ClassPictures(EndlessBatches):
    """Gives batches of changed pictures: a random part, mirrored, recoloured.

    The part has a random share of the area and is stretched to a square (Szegedy et
    al., 2015, "Going Deeper with Convolutions", arXiv:1409.4842, section 6). Pass after
    pass over the pictures each comes once, whatever the epochs are: those are cut from
    the stream of batches. A batch is a function of its number and the seed.

    Args:
        images: uint8 `[n, side, side, 3]` RGB.
        labels: int `[n]`.
        size: side of what is given, in pixels.
        batch_size: pictures per batch.
        steps: batches per epoch.
        area: smallest share of the picture that a part has, above 0 to 1.
        strength: of the change of colours, 0 for none (see `augment.photometric`).
        turns: gives each picture turned by 0, 1, 2 or 3 quarters and that number in
            place of its class: the task of Gidaris et al., 2018, "Unsupervised
            Representation Learning by Predicting Image Rotations", arXiv:1803.07728.
        seed: of all randomness.

    Gives:
        float32 `[batch, size, size, 3]` in 0..255 and int32 `[batch]`.
    """

    def __init__(
        self,
        images,
        labels,
        size: int,
        batch_size: int = 64,
        steps: int = 48,
        area: float = 0.35,
        strength: float = 0.5,
        turns: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.images, self.labels, self.size = images, labels, size
        self.batch_size, self.steps = batch_size, steps
        self.area, self.strength, self.turns = area, strength, turns
        self.seed = seed

    def __len__(self):
        return self.steps

    def batch(self, epoch: int, index: int) -> tuple:
        """Makes one batch: float32 pictures and int32 labels."""
        number = epoch * self.steps + index
        generator = np.random.default_rng((self.seed, 1, number))
        chosen = self._chosen(number * self.batch_size)
        images = np.empty((len(chosen), self.size, self.size, 3), np.float32)
        labels = self.labels[chosen].astype(np.int32)
        for row, picture in enumerate(chosen):
            image = self._part(self.images[picture], generator)
            if self.strength:
                image = augment.photometric(image, generator, self.strength)
            if self.turns:
                labels[row] = generator.integers(4)
                image = np.rot90(image, labels[row])
            images[row] = image
        return images, labels

    def _chosen(self, first):
        """Lists the pictures at consecutive positions of the passes."""
        count = len(self.images)
        orders, chosen = {}, []
        for position in range(first, first + self.batch_size):
            turn, place = divmod(position, count)
            if turn not in orders:
                generator = np.random.default_rng((self.seed, 0, turn))
                orders[turn] = generator.permutation(count)
            chosen.append(orders[turn][place])
        return np.array(chosen)

    def _part(self, image, generator):
        """Cuts a random part and stretches it; half of them mirrored."""
        side = image.shape[0]
        area = generator.uniform(self.area, 1)
        aspect = np.exp(generator.uniform(*np.log(ASPECT)))
        height = min(side, max(1, round(side * np.sqrt(area * aspect))))
        width = min(side, max(1, round(side * np.sqrt(area / aspect))))
        y = generator.integers(side - height + 1)
        x = generator.integers(side - width + 1)
        part = image[y : y + height, x : x + width]
        if generator.random() < 0.5:
            part = part[:, ::-1]
        smaller = height * width > self.size**2
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return cv2.resize(part, (self.size, self.size), interpolation=way)
