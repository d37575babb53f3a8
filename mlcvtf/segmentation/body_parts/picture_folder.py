"""Folders of depth pictures with parts and joints: written once, read as a stream.

A folder has `000000_depth.png` (16 bits, millimetres, 0 where missing),
`000000_parts.png` (labels), and so on, and `joints.csv`: a line per picture with its
recording, heading and the 16 joints in metres in the camera's space.
"""

import csv
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts.camera import Camera, Sensor, View
from mlcvtf.segmentation.body_parts.parts import JOINTS, PARTS
from mlcvtf.segmentation.body_parts.pose_sets import PoseSet
from mlcvtf.segmentation.body_parts.rendering import Picture, random_picture
from mlcvtf.video.paths import printable

TABLE = "joints.csv"
INFORMATION = ("picture", "subject", "clip", "frame", "yaw")
COORDINATES = tuple(f"{joint}_{axis}" for joint in JOINTS for axis in "xyz")
MILLIMETRE = 0.001
# Fast compression: the pictures are mostly empty and small anyway.
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
MAX_BYTES = 50_000_000
MAX_PIXELS = 20_000_000
Seed = int | tuple[int, ...]


def picture_poses(poses: PoseSet, count: int, seed: Seed) -> np.ndarray:
    """Chooses which pose each picture shows: all in a random order, again and again.

    So any number of pictures from the start is a fair sample, and a smaller set is
    the beginning of a larger one.

    Args:
        poses: without near-duplicates.
        count: of pictures.
        seed: of the order.

    Returns:
        int `[count]`.
    """
    rng = np.random.default_rng(seed)
    rounds = math.ceil(count / len(poses.poses))
    order = [rng.permutation(len(poses.poses)) for _ in range(rounds)]
    return np.concatenate([np.zeros(0, np.int64), *order])[:count]


def render_pictures(
    poses: PoseSet,
    count: int,
    seed: Seed = 0,
    camera: Camera | None = None,
    sensor: Sensor | None = None,
    view: View | None = None,
    room: bool = False,
) -> Iterator[tuple[int, Picture]]:
    """Renders pictures of poses, each a function of the seed and its number alone.

    Args:
        poses: without near-duplicates.
        count: of pictures.
        seed: of everything random; different parts of a data set need different ones,
            such as (0, 0) and (0, 1), or their bodies and places are the same.
        camera: Kinect's at 320x240 by default.
        sensor: Kinect's by default.
        view: from where; all around at 2.2 to 3.8 m by default.
        room: whether there are a floor, a wall and things.

    Yields:
        The pose's position and the picture.
    """
    for i, position in enumerate(picture_poses(poses, count, seed)):
        rng = np.random.default_rng((*np.atleast_1d(seed), i))
        yield (
            int(position),
            random_picture(poses.poses[position], rng, camera, sensor, view, room),
        )


def write_pictures(
    folder: str | os.PathLike,
    poses: PoseSet,
    pictures: Iterable[tuple[int, Picture]],
) -> None:
    """Writes pictures into a folder; the table comes last, and makes it readable.

    Args:
        folder: that is there, and empty.
        poses: that the pictures show.
        pictures: from `render_pictures`.
    """
    folder = pathlib.Path(folder)
    rows = []
    for i, (position, picture) in enumerate(pictures):
        name = f"{i:06d}"
        millimetres = np.round(picture.depth / MILLIMETRE).astype(np.uint16)
        for kind, image in (("depth", millimetres), ("parts", picture.labels)):
            data = cv2.imencode(".png", image, PNG)[1]
            (folder / f"{name}_{kind}.png").write_bytes(data.tobytes())
        yaw = math.degrees(picture.placement.yaw)
        rows.append(
            [
                name,
                poses.subjects[position],
                poses.clips[position],
                poses.frames[position],
                f"{yaw:.2f}",
                *(f"{value:.4f}" for value in picture.joints.ravel()),
            ]
        )
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(INFORMATION + COORDINATES)
        writer.writerows(rows)


class PictureFolder:
    """Reads a folder of depth pictures, of which few are in memory at a time.

    Args:
        folder: as `write_pictures` makes it.

    Attributes:
        names: of the pictures.
        joints: float32 `[n, 16, 3]` metres in the camera's space, in the order of
            `mlcvtf.segmentation.body_parts.parts.JOINTS`.
        yaw: float32 `[n]` degrees in -180..180, 0 faces the camera.
        subjects: who was recorded, a list of n.
        clips: the recording, a list of n.
        frames: int64 `[n]`, of the recording.

    Raises:
        InputError: there is no such folder, or its table is damaged.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)
        rows = self._rows()
        self.names = [row["picture"] for row in rows]
        self.subjects = [row["subject"] for row in rows]
        self.clips = [row["clip"] for row in rows]
        try:
            values = np.array(
                [[row[key] for key in ("frame", "yaw", *COORDINATES)] for row in rows],
                np.float64,
            )
        except (TypeError, ValueError):
            values = np.full((1, 1), np.nan)
        if not (np.abs(values) < 1e9).all():
            raise InputError(
                "frames and joints are numbers, not all of "
                f"{printable(self.folder / TABLE)} are"
            )
        self.frames = values[:, 0].astype(np.int64)
        self.yaw = values[:, 1].astype(np.float32)
        joints = values[:, 2:].reshape(-1, len(JOINTS), 3)
        self.joints = joints.astype(np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Reads one picture.

        Args:
            position: in `names`.

        Returns:
            float32 `[h, w]` metres, 0 where missing; and uint8 `[h, w]` labels, 0
            where there is no part.

        Raises:
            InputError: a file is not there, or no such picture.
        """
        path = self.folder / f"{self.names[position]}_depth.png"
        depth = read_depth(path)
        labels = _decode(
            self.folder / f"{self.names[position]}_parts.png",
            np.uint8,
            "labels are a grey PNG of 8 bits",
        )
        if labels.shape != depth.shape or labels.max(initial=0) > len(PARTS):
            raise InputError(
                f"labels are 0 to {len(PARTS)}, one for each pixel of the "
                f"depth, not so for {printable(path)}"
            )
        return depth, labels

    def batches(
        self, size: int, positions: Sequence[int] | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Reads pictures, some at a time.

        Args:
            size: at most so many at a time.
            positions: of the pictures, in the order wanted; all by default.

        Yields:
            float32 `[b, h, w]` metres, 0 where missing; uint8 `[b, h, w]` labels;
            float32 `[b, 16, 3]` joints.

        Raises:
            InputError: a picture cannot be read, or is of another size.
        """
        positions = np.arange(len(self)) if positions is None else np.asarray(positions)
        for start in range(0, len(positions), size):
            chosen = positions[start : start + size]
            depths, labels = zip(*(self.read(i) for i in chosen), strict=True)
            if len({depth.shape for depth in depths}) > 1:
                raise InputError(
                    "pictures of a folder are of one size, those of "
                    f"{printable(self.folder)} are not"
                )
            yield np.stack(depths), np.stack(labels), self.joints[chosen]

    def _rows(self):
        path = self.folder / TABLE
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                rows, header = list(reader), reader.fieldnames or []
        except OSError as error:
            raise InputError(
                f"a folder of depth pictures has a {TABLE}, "
                f"{printable(path)}: {error.strerror}"
            ) from None
        except (ValueError, csv.Error):
            rows, header = [], []
        missing = [key for key in (*INFORMATION, *COORDINATES) if key not in header]
        if missing or not rows:
            raise InputError(
                f"{TABLE} has a row for each picture and the column "
                f"{missing[0] if missing else 'picture'}, "
                f"{printable(path)} has not"
            )
        for row in rows:
            if None in row or None in row.values():
                raise InputError(
                    f"a row has as many values as the header, one of "
                    f"{printable(path)} has not"
                )
            if not row["picture"].isalnum():
                raise InputError(
                    "a picture's name is letters and digits, received "
                    f"{printable(row['picture'])} in "
                    f"{printable(path)}"
                )
        return rows


def read_depth(path: str | os.PathLike) -> np.ndarray:
    """Reads a depth picture in millimetres.

    Args:
        path: PNG of 16 bits, grey.

    Returns:
        float32 `[h, w]` metres, 0 where missing.

    Raises:
        InputError: it is not there, or no such picture.
    """
    return _decode(path, np.uint16, "depth is a grey PNG of 16 bits") * np.float32(
        MILLIMETRE
    )


def _decode(path, dtype, rule):
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise InputError(
            f"a depth picture must be readable, {printable(path)}: {error.strerror}"
        ) from None
    # Width and height are at a fixed place of a PNG: no huge one is decoded.
    pixels = math.prod(int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    image = None
    if data[:8] == b"\x89PNG\r\n\x1a\n" and 0 < pixels <= MAX_PIXELS:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != dtype or image.ndim != 2:
        raise InputError(f"{rule}, {printable(path)} is not")
    return image
