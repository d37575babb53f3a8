"""face_cascade [--data DIR] [--landmarks FILE] [--work DIR] [--output DIR] [flags]

Trains the shipped cascade of faces again, from the face data sets and the landmarks
that the recipe face_landmarks wrote:

    apps/train --config=face_landmarks --workdir=work/face_landmarks
    apps/face_cascade

Windows are cut in one framing (`mlcvtf/data/face_windows.py`). Negatives come from the
training pictures of coco_mini without people, camvid and clothing10. The same command
goes on with a training that was stopped. At the end the place of the landmarks in the
cascade's squares is fitted on YouTube Faces train, and the thresholds of the card are
chosen on the pictures for validation of the three background sets. wider_face_mini,
dlib_faces, CBCL's test faces and LFW folds 5 and 6 are never read.
"""

import os
import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", "../shared/data", "The data folder.", flag_values=FLAGS)
flags.DEFINE_string(
    "landmarks",
    "work/face_landmarks/landmarks.npz",
    "Landmarks of LFW and CelebA, by the recipe face_landmarks.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "work", "work/face_cascade", "Folder for state and report.", flag_values=FLAGS
)
flags.DEFINE_string(
    "output",
    "work/face_cascade/face_cascade",
    "Folder of the model.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("stages", 18, "Stages at most.", 1, 100, flag_values=FLAGS)
flags.DEFINE_integer(
    "negatives_per_stage",
    6000,
    "Windows without a face that a stage learns from.",
    10,
    10**6,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "threads", None, "Threads; one per processor by default.", 1, flag_values=FLAGS
)

WINDOW = 20
# Beyond `cascade_train`'s defaults: see `training.Settings`.
SETTINGS = {
    "detection": 0.998,
    "false_alarm": 0.5,
    "subsample": 0.25,
    "most_bytes": 2_200_000_000,
}
# Background sets, and the files and classes of theirs that are read.
BACKGROUNDS = (
    ("coco_mini/{}.json", ["person"]),
    ("camvid/{}.zip", []),
    ("clothing10/{}.zip", []),
)
# Pixels to which the many small pictures of clothes are laid side by side.
TILED = 300
# False boxes per background picture from the least score on.
FALSE_BOXES = 0.05


def main(argv: list[str]) -> None:
    """Runs the command."""
    video_app.refuse_arguments(argv)
    _check_output()

    from mlcvtf.commands import cascade_model
    from mlcvtf.data import face_windows, object_windows
    from mlcvtf.detection.viola_jones import training, training_report
    from mlcvtf.video import predictor

    windows = face_windows.read(FLAGS.data, FLAGS.landmarks, WINDOW)
    counts = ", ".join(f"{count} {name}" for name, count in windows.counts.items())
    _say(f"windows: {counts}")
    backgrounds = read_backgrounds("train")
    pictures = object_windows.tiled(backgrounds, TILED)
    settings = training.Settings(
        (WINDOW, WINDOW),
        stages=FLAGS.stages,
        negatives=FLAGS.negatives_per_stage,
        **SETTINGS,
    )
    faces = training.Faces(windows.training, windows.validation)
    one = training.Training(
        faces,
        pictures,
        settings,
        FLAGS.work,
        FLAGS.threads,
        _say,
        mark=backgrounds.names,
    )
    cascade = one.run()
    history = one.state.history
    training_report.write(FLAGS.work, cascade, history, faces.training, settings)
    card = describe(cascade, history, windows.counts)
    # TensorFlow tells a lot on the error stream.
    with predictor.quiet():
        shown = cascade_model.pictures_of(windows.validation)
        cascade_model.save(cascade, FLAGS.output, card, shown)
    _say(
        f"wrote {FLAGS.output}: {len(cascade.stage_trees)} stages, "
        f"{len(cascade.tree_nodes)} trees"
    )


def read_backgrounds(split: str):
    """Lists the pictures without faces of "train" or "val"."""
    from mlcvtf.data import object_windows

    places = []
    for path, without in BACKGROUNDS:
        file = os.path.join(FLAGS.data, path.format(split))
        places += object_windows.read_backgrounds(file, without)
    return object_windows.Backgrounds(places, (WINDOW, WINDOW))


def describe(cascade, history, counts) -> dict:
    """Fits and measures what the card says.

    Args:
        cascade: a `Cascade`.
        history: of its training.
        counts: of the windows, by source.

    Returns:
        The card's keys that only the training knows.
    """
    from mlcvtf.commands import cascade_faces
    from mlcvtf.data import faces

    points = fit_points(cascade, *faces.read_landmarks(FLAGS.data))
    score, certain, pictures = choose_thresholds(cascade, read_backgrounds("val"))
    images, landmarks = faces.read_landmarks(FLAGS.data, "val")
    found = [cascade_faces.squares_of(cascade, _gray(image)) for image in images]
    hits = [
        one is not None and one[1] >= score
        for one in (
            facing(*squares, marks)
            for squares, marks in zip(found, landmarks, strict=True)
        )
    ]
    minutes = sum(entry["seconds"] for entry in history) / 60
    ours = "apps/face_cascade"
    return {
        "labels": ["face"],
        # For the scores of `cascade_faces.squares_of`; those of the exported graphs
        # are others.
        "faces": {
            "points": points,
            "thresholds": {"score": score, "certain": certain},
        },
        "box": "landmarks are those of a mean face in the square of the cascade, the "
        "box is that around them: mlcvtf/embedding/alignment.py, face_box",
        "licence": "research only: so are the pictures of CBCL, LFW, CelebA, YouTube "
        "Faces and CamVid",
        "data": [
            "faces: " + ", ".join(f"{n} {name}" for name, n in counts.items()),
            "framing: mlcvtf/data/face_windows.py",
            "backgrounds: COCO without people, CamVid, Clothing dataset",
        ],
        "recipe": {
            "command": ours,
            "stages": FLAGS.stages,
            "negatives": FLAGS.negatives_per_stage,
            **SETTINGS,
        },
        "figures": [
            {
                "figure": "minutes of training",
                "value": round(minutes, 1),
                "command": ours,
            },
            {
                "figure": f"recall on YouTube Faces val at the score threshold, where "
                f"{pictures} background pictures have {FALSE_BOXES} false boxes each",
                "value": round(sum(hits) / len(hits), 4),
                "command": ours,
            },
        ],
    }


def fit_points(cascade, images, landmarks) -> dict:
    """Fits where landmarks lie in the cascade's squares; see `cascade_faces.fit`.

    Args:
        cascade: a `Cascade`.
        images: uint8 RGB pictures of a face each.
        landmarks: `[n, 5, 2]` in pixels.

    Raises:
        InputError: no face is found.
    """
    from mlcvtf.commands import cascade_faces

    pairs = []
    for image, marks in zip(images, landmarks, strict=True):
        found = facing(*cascade_faces.squares_of(cascade, _gray(image)), marks)
        if found is not None:
            pairs.append((found[0], marks))
    if not pairs:
        raise InputError(
            "the place of landmarks is fitted on faces that the cascade finds, it "
            f"found none of {len(images)}"
        )
    return cascade_faces.fit(*zip(*pairs, strict=True))


def facing(squares, scores, landmarks):
    """Returns the surest square and its score, None where it is not on the face."""
    from mlcvtf.embedding import alignment

    if not len(squares):
        return None
    x, y = squares[0, :2] + squares[0, 2:] / 2
    left, top, right, bottom = alignment.face_box(landmarks)
    on_face = left < x < right and top < y < bottom
    return (squares[0], scores[0]) if on_face else None


def choose_thresholds(cascade, backgrounds) -> tuple[float, float, int]:
    """Picks scores on pictures without faces.

    Returns:
        The score from which on there are `FALSE_BOXES` of a picture, the one that no
        box of any picture reaches, and the number of pictures.
    """
    import numpy as np

    from mlcvtf.commands import cascade_faces

    scores = [cascade_faces.squares_of(cascade, gray)[1] for gray in backgrounds]
    scores = np.sort(np.concatenate([*scores, [0.0]]))[::-1]
    allowed = int(FALSE_BOXES * len(backgrounds))
    # Rounded up, so that the last score that is too low stays below.
    score = np.ceil(scores[min(allowed, len(scores) - 1)] * 1e4 + 0.5) / 1e4
    certain = np.ceil(scores[0] * 1e4 + 0.5) / 1e4
    return float(min(score, 1.0)), float(min(certain, 1.0)), len(backgrounds)


def _gray(image):
    import cv2

    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _check_output():
    """Makes sure, before hours of work, that the model can be written."""
    from mlcvtf.video.paths import printable

    if os.path.exists(FLAGS.output):
        if not os.path.isfile(os.path.join(FLAGS.output, "card.json")):
            raise InputError(
                "the output is a new folder or a model folder to replace, "
                f"{printable(FLAGS.output)} is something else"
            )


def _say(line):
    # At once, for a log that somebody follows.
    print(line, flush=True)


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
