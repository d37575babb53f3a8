"""A clip with two known people, made from pictures that come with the dependencies.

Both photographs are in the public domain: Eileen Collins by NASA (scikit-image's
`astronaut`), Grace Hopper by the US Navy (matplotlib's sample data).
"""

import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
import skimage

from mlcvtf.video.pictures import read_picture

WIDTH, HEIGHT, RATE = 640, 480, 10.0
COLLINS, HOPPER = "Eileen Collins", "Grace Hopper"


class Person(NamedTuple):
    """A person's photograph and where the face is in it.

    Attributes:
        path: the photograph.
        centre: x, y of the face in pixels.
        height: of the face, hairline to chin, in pixels.
        portrait: x1, y1, x2, y2 of the part that goes into the gallery.
    """

    path: pathlib.Path
    centre: tuple[float, float]
    height: float
    portrait: tuple[int, int, int, int]


class Placement(NamedTuple):
    """One person in one frame.

    Attributes:
        name: whose picture it is.
        centre: x, y of the face in the frame.
        height: of the face in pixels of the frame.
        angle: by which the picture is turned, degrees.
        light: factor on the picture's values.
        reach: how many face heights of the photograph are shown around the face.
    """

    name: str
    centre: tuple[float, float]
    height: float
    angle: float
    light: float
    reach: float


def _pictures_of(package, *parts):
    return pathlib.Path(package.__file__).parent.joinpath(*parts)


def people() -> dict[str, Person]:
    """Returns the two people by name."""
    astronaut = _pictures_of(skimage, "data", "astronaut.png")
    hopper = _pictures_of(matplotlib, "mpl-data", "sample_data", "grace_hopper.jpg")
    return {
        COLLINS: Person(astronaut, (225.0, 132.0), 135.0, (75, 0, 375, 300)),
        HOPPER: Person(hopper, (260.0, 220.0), 220.0, (60, 20, 460, 420)),
    }


def write_gallery(folder: pathlib.Path, names: list[str]) -> None:
    """Writes a folder with one picture for each name into `folder`."""
    for name in names:
        person = people()[name]
        left, top, right, bottom = person.portrait
        picture = read_picture(person.path)[top:bottom, left:right]
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        (place / "portrait.png").write_bytes(data.tobytes())


def scenes() -> list[tuple[str, int, list]]:
    """Returns for each scene its background, its frames and who moves how.

    A way gives a `Placement` for the time t, which goes from 0 to 1 in a scene. Between
    the people come pictures of things.
    """
    wave = math.sin

    def nearing(t):
        return Placement(COLLINS, (220 + 120 * t, 230), 60 + 110 * t, 4 * wave(9 * t),
                         1.0, 3.0)

    def turning(t):
        return Placement(HOPPER, (400 - 60 * t, 240), 170, -14 + 28 * t, 0.75, 0.9)

    def dusk(t):
        return Placement(COLLINS, (300, 220), 120, 12 * wave(6 * t), 1 - 0.55 * t, 0.8)

    def left(t):
        return Placement(HOPPER, (170, 250), 130 - 40 * t, 5, 1.0 + 0.2 * t, 1.1)

    def right(t):
        return Placement(COLLINS, (470, 230 + 30 * t), 90 + 40 * t, -8 * t, 0.9, 1.1)

    return [
        ("coffee.png", 6, []),
        ("rocket.jpg", 16, [nearing]),
        ("chelsea.png", 8, []),
        ("coffee.png", 16, [turning]),
        ("motorcycle_left.png", 8, []),
        ("chelsea.png", 12, [dusk]),
        ("rocket.jpg", 8, []),
        ("motorcycle_left.png", 16, [left, right]),
        ("coffee.png", 6, []),
    ]


def frames() -> Iterator[tuple[np.ndarray, list[Placement]]]:
    """Yields every frame, uint8 `[480, 640, 3]` RGB, and who is in it."""
    photographs = {name: read_picture(p.path) for name, p in people().items()}
    for background, count, ways in scenes():
        scene = _cover(read_picture(_pictures_of(skimage, "data", background)))
        for number in range(count):
            placements = [way(number / (count - 1)) for way in ways]
            image = scene.copy()
            for placement in placements:
                _paste(image, photographs[placement.name], placement)
            yield image, placements


def _cover(picture):
    """Scales a picture so that it covers a frame, and cuts what is over."""
    scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    size = [math.ceil(side * scale) for side in picture.shape[1::-1]]
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    left, top = (size[0] - WIDTH) // 2, (size[1] - HEIGHT) // 2
    return np.ascontiguousarray(picture[top:top + HEIGHT, left:left + WIDTH])


def _paste(image, photograph, placement):
    """Draws the part of a photograph around the face into a frame, in place."""
    person = people()[placement.name]
    reach = person.height * placement.reach
    x, y = person.centre
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    part = photograph[top:int(y + reach), left:int(x + reach)]
    scale = placement.height / person.height
    matrix = cv2.getRotationMatrix2D((x - left, y - top), placement.angle, scale)
    matrix[:, 2] += np.subtract(placement.centre, (x - left, y - top))
    size = (WIDTH, HEIGHT)
    moved = cv2.warpAffine(part, matrix, size, flags=cv2.INTER_AREA).astype(np.float32)
    inside = cv2.warpAffine(np.ones(part.shape[:2], np.uint8), matrix, size) > 0
    image[inside] = np.clip(moved[inside] * placement.light, 0, 255).astype(np.uint8)
