"""Pictures with faces at known places, composed from face crops and backgrounds."""

import cv2
import numpy as np

from mlcvtf.data import augment
from mlcvtf.data.batches import EndlessBatches
from mlcvtf.data.face_crops import MIRRORED
from mlcvtf.embedding import alignment

# Rows and columns of faces that are too small to learn from are marked as nothing.
MIN_FACE = 12.0
# Share of faces that something hides a part of.
COVERED = 0.15
# Standard deviation of the logarithm by which a face's width and height are stretched.
STRETCH = 0.06


class FaceScenes(EndlessBatches):
    """Composes batches of scenes: faces of many sizes pasted into backgrounds.

    A face is pasted with an elliptic or whole-crop soft mask, rotated, stretched,
    partly covered, blurred and lit at random; sometimes a scene is one whole crop,
    enlarged or shrunk, so that real necks and shoulders surround the face; some scenes
    have no face at all. Pieces of background are pasted with the same masks, so that a
    seam says nothing. Every random number depends on seed, epoch and index alone.

    Args:
        faces: list of (uint8 RGB picture, float `[5, 2]` landmarks in its pixels).
        backgrounds: list of uint8 RGB pictures without faces.
        batches: tuple of (side in pixels, batch size), taken in turn. The first two
            differ in side where any do: Keras reads the input's shape off them.
        steps: batches per epoch.
        max_faces: faces per scene at most; targets are padded to it.
        seed: of all randomness.

    Gives:
        float32 `[batch, side, side, 3]` in 0..255 and a dict: "boxes" float32
        `[batch, max_faces, 4]` by `alignment.face_box`, "labels" int32 0 or -1 for
        padding, "landmarks" float32 `[batch, max_faces, 5, 2]`.
    """

    def __init__(
        self,
        faces,
        backgrounds,
        batches=((256, 16), (512, 4), (256, 16), (160, 40), (384, 7), (256, 16)),
        steps: int = 200,
        max_faces: int = 16,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.faces, self.backgrounds, self.batches = faces, backgrounds, batches
        self.steps, self.max_faces, self.seed = steps, max_faces, seed

    def __len__(self):
        return self.steps

    def batch(self, epoch: int, index: int) -> tuple:
        """Composes one batch: float32 scenes and a dict of targets."""
        generator = np.random.default_rng((self.seed, epoch, index))
        side, batch_size = self.batches[index % len(self.batches)]
        images = np.empty((batch_size, side, side, 3), np.float32)
        boxes = np.zeros((batch_size, self.max_faces, 4), np.float32)
        labels = np.full((batch_size, self.max_faces), -1, np.int32)
        landmarks = np.zeros((batch_size, self.max_faces, 5, 2), np.float32)
        for i in range(batch_size):
            images[i], points = self.scene(side, generator)
            for j, face in enumerate(points):
                boxes[i, j] = alignment.face_box(face)
                labels[i, j], landmarks[i, j] = 0, face
        return images, {"boxes": boxes, "labels": labels, "landmarks": landmarks}

    def scene(self, side: int, generator) -> tuple[np.ndarray, list]:
        """Composes one scene: uint8 `[side, side, 3]`, list of `[5, 2]` landmarks."""
        image = self._background(side, generator)
        kind = generator.random()
        points = []
        if kind < 0.2:
            image, points = self._single(image, side, generator)
        elif kind < 0.92:
            count = min(1 + int(generator.geometric(0.15)), self.max_faces)
            points = self._paste_many(image, count, side, generator)
        image = augment.photometric(image, generator, 0.7)
        image = augment.degrade(image, generator)
        return image, points

    def _background(self, side, generator):
        picture = self.backgrounds[generator.integers(len(self.backgrounds))]
        height, width = picture.shape[:2]
        fits = side / min(height, width)
        scale = fits * np.exp(generator.uniform(0, 0.7))
        picture = cv2.resize(
            picture, (max(side, round(width * scale)), max(side, round(height * scale)))
        )
        y = generator.integers(0, picture.shape[0] - side + 1)
        x = generator.integers(0, picture.shape[1] - side + 1)
        picture = picture[y : y + side, x : x + side]
        if generator.random() < 0.5:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(picture)

    def _face(self, generator):
        """Draws a face: picture and landmarks."""
        picture, points = self.faces[generator.integers(len(self.faces))]
        if generator.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
            points = points[MIRRORED] * [-1, 1] + [picture.shape[1] - 1, 0]
        picture = augment.photometric(picture, generator)
        if generator.random() < COVERED:
            picture = self._cover(picture, points, generator)
        return picture, points

    def _piece(self, height, width, generator):
        """Cuts a piece of that size out of some background."""
        picture = self.backgrounds[generator.integers(len(self.backgrounds))]
        share = np.exp(generator.uniform(np.log(0.15), np.log(0.9)))
        side = max(8, int(share * min(picture.shape[:2])))
        y = generator.integers(0, picture.shape[0] - side + 1)
        x = generator.integers(0, picture.shape[1] - side + 1)
        piece = picture[y : y + side, x : x + side]
        return cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA)

    def _cover(self, picture, points, generator):
        """Hides a part of a face behind something, as hands and hats do."""
        box = alignment.face_box(points)
        size = np.maximum((box[2:] - box[:2]) * generator.uniform(0.25, 0.6, 2), 2)
        corner = box[:2] + (box[2:] - box[:2]) * generator.uniform(-0.3, 0.9, 2)
        limit = picture.shape[1::-1]
        x1, y1 = np.clip(corner, 0, limit).astype(int)
        x2, y2 = np.clip(corner + size, 0, limit).astype(int)
        picture = picture.copy()
        if x2 > x1 and y2 > y1:
            picture[y1:y2, x1:x2] = self._piece(y2 - y1, x2 - x1, generator)
        return picture

    def _single(self, background, side, generator):
        """Fills the scene with one crop; where it ends the background stays."""
        eyes = side * np.exp(generator.uniform(np.log(0.08), np.log(0.45)))
        centre = side * generator.uniform(0.3, 0.7, 2)
        picture, points = self._face(generator)
        matrix = _placement(points, eyes, centre, 8.0, generator)
        mask = np.full(picture.shape[:2], 255, np.uint8)
        _warp_over(background, picture, mask, matrix)
        return background, [_move(points, matrix)]

    def _paste_many(self, image, count, side, generator):
        """Pastes faces and other things into `image` in place; gives landmarks."""
        taken, landmarks = [], []
        largest = np.log(0.35 * side)
        others = generator.poisson(0.4 * count)
        for number in range(count + others):
            eyes = np.exp(generator.uniform(np.log(7.0), largest))
            if count > 3:
                # A crowd: room for all.
                eyes = min(eyes, 0.12 * side)
            centre = generator.uniform(0.02, 0.98, 2) * side
            box = np.array([*(centre - 1.6 * eyes), *(centre + 1.6 * eyes)])
            if any(_overlap(box, other) for other in taken):
                continue
            is_face = number < count
            if is_face:
                picture, points = self._face(generator)
            else:
                picture = self._piece(alignment.SIZE, alignment.SIZE, generator)
                points = alignment.TEMPLATE
            matrix = _placement(points, eyes, centre, 14.0, generator)
            mask = _mask(picture.shape[:2], points, generator)
            _warp_over(image, picture, mask, matrix)
            taken.append(box)
            moved = _move(points, matrix)
            found = alignment.face_box(moved)
            if is_face and found[3] - found[1] >= MIN_FACE and _inside(moved, side):
                landmarks.append(moved)
        return landmarks


def _placement(points, eye_distance, centre, rotation, generator):
    """Draws the matrix that puts a face's middle at `centre`, in that size."""
    fit = alignment.similarity(alignment.TEMPLATE, points)
    eyes = alignment.TEMPLATE[1, 0] - alignment.TEMPLATE[0, 0]
    scale = eye_distance / (eyes * np.hypot(fit[0, 0], fit[1, 0]))
    angle = np.deg2rad(generator.normal(0, rotation))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    turn = turn * np.exp(generator.normal(0, STRETCH, 2))
    return np.hstack([turn, (np.asarray(centre) - turn @ points.mean(0))[:, None]])


def _move(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


def _inside(points, side):
    """A face counts where its middle is in the picture."""
    return bool(np.all((points.mean(0) >= 0) & (points.mean(0) < side)))


def _overlap(a, b):
    return (a[0] < b[2]) & (b[0] < a[2]) & (a[1] < b[3]) & (b[1] < a[3])


def _mask(shape, points, generator):
    """Draws what of a crop is pasted: an ellipse of the head, or the whole crop."""
    mask = np.zeros(shape, np.uint8)
    box = alignment.face_box(points)
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    if generator.random() < 0.5:
        grow = generator.uniform(1.05, 1.6)
        axes = (size / 2 * grow).astype(int)
        angle = np.degrees(np.arctan2(*(points[1] - points[0])[::-1]))
        cv2.ellipse(
            mask,
            tuple(centre.astype(int).tolist()),
            tuple(axes.tolist()),
            angle,
            0,
            360,
            255,
            -1,
        )
    else:
        mask[2:-2, 2:-2] = 255
    return cv2.GaussianBlur(mask, (0, 0), generator.uniform(0.5, 5))


def _warp_over(image, picture, mask, matrix):
    """Draws `picture` through `mask` into `image` where `matrix` puts it."""
    height, width = image.shape[:2]
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    if scale < 0.6:
        # Whole-area averages first, or a small face would be made of stray pixels.
        size = (
            max(4, round(picture.shape[1] * scale)),
            max(4, round(picture.shape[0] * scale)),
        )
        fx, fy = picture.shape[1] / size[0], picture.shape[0] / size[1]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        back = np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])
        matrix = matrix @ back
    # Only the part of the scene that the crop reaches is worked on.
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * mask.shape[::-1]
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    x1, y1 = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    x2, y2 = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, (width, height))
    if x1 >= x2 or y1 >= y2:
        return
    part, size = image[y1:y2, x1:x2], (int(x2 - x1), int(y2 - y1))
    matrix = matrix - [[0, 0, x1], [0, 0, y1]]
    face = cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine(mask, matrix, size)[..., None].astype(np.float32) / 255
    part[:] = part + (face.astype(np.float32) - part) * alpha
