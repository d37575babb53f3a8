"""Small synthetic faces, backgrounds and scenes for tests of cascades."""

import cv2
import numpy as np

SIDE = 12
WINDOW = (SIDE, SIDE)


def face(random, side=SIDE):
    """A bright disc with two dark eyes and a mouth, uint8 `[side, side]`."""
    scale = 8 * side / 16
    picture = np.full((int(16 * scale), int(16 * scale)), random.integers(40, 90), "u1")
    middle = 8 * scale + random.normal(size=2) * 0.4 * scale
    size = scale * random.uniform(0.9, 1.1)

    def place(x, y):
        return tuple(int(v) for v in middle + size * np.array([x, y]))

    cv2.circle(picture, place(0, 0), int(7 * size), int(random.integers(170, 230)), -1)
    dark = int(random.integers(20, 70))
    for x in (-2.7, 2.7):
        cv2.circle(picture, place(x, -1.8), int(1.6 * size), dark, -1)
    cv2.rectangle(picture, place(-2.5, 2.8), place(2.5, 4), dark, -1)
    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    noise = random.normal(size=picture.shape) * 8
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def faces(count, seed=0):
    """uint8 `[count, SIDE, SIDE]`."""
    random = np.random.default_rng(seed)
    return np.stack([face(random) for _ in range(count)])


def background(random, height=90, width=120):
    """Blobs and bars on noise of several scales, uint8 `[height, width]`."""
    picture = np.zeros((height, width))
    for scale in (4, 12, 30):
        coarse = random.normal(size=(height // scale + 2, width // scale + 2))
        picture += 25 * cv2.resize(coarse, (width, height))
    for _ in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        value = float(random.normal() * 70)
        if random.random() < 0.5:
            cv2.circle(
                picture, (int(x), int(y)), int(random.integers(2, 14)), value, -1
            )
        else:
            far = int(x + random.integers(2, 30)), int(y + random.integers(2, 30))
            cv2.rectangle(picture, (int(x), int(y)), far, value, -1)
    picture += 128 + random.normal(size=picture.shape) * 6
    return np.clip(picture, 0, 255).astype(np.uint8)


def backgrounds(count=6, seed=1):
    """A list of pictures without a face."""
    random = np.random.default_rng(seed)
    return [background(random) for _ in range(count)]


def scene(seed=2, sides=(20, 32)):
    """A picture with faces; gray and int `[n, 4]` x, y, width, height."""
    random = np.random.default_rng(seed)
    picture = background(random, 120, 160)
    boxes = []
    for number, side in enumerate(sides):
        x, y = 10 + 70 * number, 20 + 30 * number
        picture[y : y + side, x : x + side] = face(random, side)
        boxes.append((x, y, side, side))
    return picture, np.array(boxes)
