"""The face data sets of `shared/data`: who is in them and who may be trained on.

What is scored is never trained on: LFW folds 5 and 6 and every YouTube Faces person
who appears in them. Some people are set aside by identity to calibrate thresholds;
`docs/face_set_aside.txt` lists them, and the rule here makes the
same list again.
"""

import hashlib
import pathlib
from typing import NamedTuple

import numpy as np

from mlcvtf.data.archives import read_pictures, read_table

SCORED_FOLDS = ("5", "6")
# By eye not the person, or no face at all (the course's data notes).
BAD_PICTURES = frozenset(
    f"{number}.jpg"
    for number in (
        "186075",
        "004732",
        "126855",
        "183072",
        "007053",
        "134301",
        "038147",
        "077964",
    )
)
ONE_PERSON = {"7314": "7312", "7317": "7312", "7320": "7312"}
# The landmarks of YouTube Faces lie this share of the eye distance too far to the
# right, on train and val alike: what finds landmarks, having learned from pictures and
# their mirror images, lies left of them, and right of them once the picture is mirrored
# (`benchmarks/face_landmarks`, the line about the mirror).
TRUTH_SHIFT = 0.042
# Share of the people of a set that are set aside for calibration.
SET_ASIDE = {"lfw": 0.33, "celeba_aligned": 0.08}


class FacePictures(NamedTuple):
    """Pictures of one face each.

    Attributes:
        source: name of the data set.
        names: list of n file names.
        people: list of n identities, unique over all sets.
        images: list of n uint8 RGB `[height, width, 3]`.
        eyes: `[2, 2]` mean position of the left and right eye in pixels.
    """

    source: str
    names: list
    people: list
    images: list
    eyes: np.ndarray


def read_lfw(root: str | pathlib.Path, scored: bool = False) -> FacePictures:
    """Reads LFW: folds 1 to 4 for training, or 5 and 6 for scoring."""
    folder = pathlib.Path(root) / "lfw"
    rows = [
        row
        for row in read_table(folder / "images_folds1-6.csv")
        if (row["fold"] in SCORED_FOLDS) == scored
    ]
    people = ["lfw:" + row["identity"] for row in rows]
    return _read(
        "lfw", folder / "images_folds1-6.zip", rows, people, [[46, 52.5], [82.2, 52.5]]
    )


def read_celeba_wild(root: str | pathlib.Path) -> FacePictures:
    """Reads `celeba_wild_ids` without its bad pictures and double identities."""
    folder = pathlib.Path(root) / "celeba_wild_ids"
    rows = [
        row
        for row in read_table(folder / "train.csv")
        if row["file"] not in BAD_PICTURES
    ]
    people = [_celeba(row) for row in rows]
    return _read(
        "celeba_wild", folder / "train.zip", rows, people, [[45, 52.1], [83.4, 52.1]]
    )


def read_celeba_aligned(root: str | pathlib.Path) -> FacePictures:
    """Reads `celeba_aligned_10k`."""
    folder = pathlib.Path(root) / "celeba_aligned_10k"
    rows = read_table(folder / "train.csv")
    people = [_celeba(row) for row in rows]
    return _read(
        "celeba_aligned", folder / "train.zip", rows, people, [[34.6, 55.4], [54, 55.4]]
    )


def read_landmarks(
    root: str | pathlib.Path, split: str = "train", as_given: bool = False
):
    """Reads `ytf_landmarks68`; from "train" the people of scored folds are left out.

    Args:
        root: the data folder.
        split: "train" or "val".
        as_given: leaves the landmarks where the set has them, `TRUTH_SHIFT` too far
            to the right.

    Returns:
        images: list of uint8 RGB `[height, width, 3]`; landmarks: float32
        `[n, 5, 2]` x, y in pixels.
    """
    folder = pathlib.Path(root) / "ytf_landmarks68"
    rows = read_table(folder / f"{split}.csv")
    if split == "train":
        scored = {
            row["identity"]
            for row in read_table(pathlib.Path(root) / "lfw/images_folds1-6.csv")
            if row["fold"] in SCORED_FOLDS
        }
        rows = [row for row in rows if row["person"] not in scored]
    pictures = read_pictures(folder / f"{split}.zip", [row["file"] for row in rows])
    points = ("leye", "reye", "nose", "lmouth", "rmouth")
    landmarks = [
        [[float(row[f"{p}_x"]), float(row[f"{p}_y"])] for p in points] for row in rows
    ]
    landmarks = np.array(landmarks, np.float32)
    if not as_given:
        eyes = np.linalg.norm(landmarks[:, 0] - landmarks[:, 1], axis=1)
        landmarks[..., 0] -= TRUTH_SHIFT * eyes[:, None]
    return [pictures[row["file"]] for row in rows], landmarks


def stored_landmarks(path: str | pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    """Reads what the recipe `face_landmarks` wrote.

    Args:
        path: of `landmarks.npz`.

    Returns:
        By data set and name of the picture, float32 `[5, 2]` x, y in pixels. Pictures
        of "ytf" are named by their place in `read_landmarks`, "0" being the first.
    """
    with np.load(path, allow_pickle=False) as stored:
        return {
            source: dict(
                zip(stored[source + "_names"].tolist(), stored[source], strict=True)
            )
            for source in stored
            if source + "_names" in stored
        }


def scored_people(root: str | pathlib.Path) -> set[str]:
    """Lists the people of `ytf_landmarks68` val, who are in LFW folds 1-4 as well."""
    rows = read_table(pathlib.Path(root) / "ytf_landmarks68/val.csv")
    return {"lfw:" + row["person"] for row in rows}


def is_set_aside(source: str, person: str) -> bool:
    """Tells whether a person is kept out of training to calibrate thresholds.

    The choice depends on the identity alone (a hash), so that it never changes with
    the order or the number of pictures.
    """
    digest = hashlib.sha256(person.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < SET_ASIDE.get(source, 0.0)


def read_training(root: str | pathlib.Path) -> tuple[list, list]:
    """Reads all pictures for training, split by identity.

    Of LFW only people with a single picture are set aside (identity losses cannot
    use them), of CelebA only people who are not in `celeba_wild_ids` as well.

    Returns:
        Two lists of `FacePictures`, one entry per data set: of people to train on,
        and of people set aside.
    """
    lfw, wild = read_lfw(root), read_celeba_wild(root)
    aligned = read_celeba_aligned(root)
    counts = {}
    for person in lfw.people + wild.people + aligned.people:
        counts[person] = counts.get(person, 0) + 1
    often = {person for person in lfw.people if counts[person] > 1} | set(wild.people)
    train, aside = [], []
    for faces in (lfw, wild, aligned):
        out = [p not in often and is_set_aside(faces.source, p) for p in faces.people]
        train.append(_select(faces, [not o for o in out]))
        aside.append(_select(faces, out))
    return train, aside


def read_teacher(root: str | pathlib.Path, source: str, names) -> tuple:
    """Reads the teacher's embeddings of a set's pictures.

    Args:
        root: the data folder.
        source: "lfw", "celeba_wild" or "celeba_aligned".
        names: n file names of that set.

    Returns:
        float32 `[n, 128]` (mean of plain and mirrored crop, centred) and the
        float32 `[128]` offset that was taken off by centring.
    """
    stored = {"celeba_wild": "celeba_wild_ids", "celeba_aligned": "celeba_aligned_10k"}
    path = pathlib.Path(root) / "face_teacher" / f"{stored.get(source, source)}.npz"
    with np.load(path, allow_pickle=False) as arrays:
        index = {name: i for i, name in enumerate(arrays["fname"])}
        rows = [index[name] for name in names]
        both = arrays["embedding"].astype(np.float32) + arrays[
            "embedding_flipped"
        ].astype(np.float32)
        return both[rows] / 2, arrays["offset"]


def _celeba(row):
    return "celeba:" + ONE_PERSON.get(row["identity"], row["identity"])


def _read(source, archive, rows, people, eyes):
    names = [row["file"] for row in rows]
    pictures = read_pictures(archive, names)
    return FacePictures(
        source, names, people, [pictures[n] for n in names], np.array(eyes, np.float32)
    )


def _select(faces, keep):
    pick = [i for i, k in enumerate(keep) if k]
    return FacePictures(
        faces.source,
        [faces.names[i] for i in pick],
        [faces.people[i] for i in pick],
        [faces.images[i] for i in pick],
        faces.eyes,
    )
