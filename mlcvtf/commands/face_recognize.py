"""face_recognize --gallery DIR [--source 0|FILE|DIR|URL] [--output FILE] [flags]

Names the people in a webcam, video, pictures or stream. The gallery is a folder with
one folder of pictures per person, or one picture per person; pictures that are added,
changed or deleted while the app runs are noticed.

A JSON line has `frame`, `time` in seconds and `faces`, each with `box` (x1, y1, x2, y2
in pixels), `landmarks` (left eye, right eye, nose tip, left and right corner of the
mouth, as seen in the picture; with --detector=cascade where those of a mean face would
be in the box), `name` ("unknown" for a stranger), `score` (cosine with the best of the
gallery), `runner_up` (the second name or null) and `track` (a number
that a face keeps from frame to frame). Of a folder, `frame` counts its pictures sorted
by name from 0.
"""

import collections
import sys
from typing import NamedTuple

from absl import flags

from mlcvtf.commands import command, video_app

FLAGS = flags.FlagValues()
video_app.define_flags(FLAGS)
flags.DEFINE_string(
    "gallery", None, "Folder of people.", flag_values=FLAGS, required=True
)
flags.DEFINE_float(
    "threshold",
    None,
    "Least cosine for a name; excludes --far.",
    lower_bound=-1.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "far",
    None,
    "Share of strangers' faces that may be given any name, with the gallery as it is; "
    "1e-3 unless --threshold is given.",
    lower_bound=0.0,
    upper_bound=1.0,
    flag_values=FLAGS,
)
DEFAULT_FAR = 1e-3
# Two people who are this close in cosine cannot be told apart, for models whose card
# does not say so itself.
MARGIN = 0.03
# The share of pairs of strangers that are taken for one face in neighbouring frames,
# and the cosine for that where a model has no calibration.
AGREEMENT_RATE = 1e-2
AGREEMENT = 0.2


def main(argv: list[str]) -> int:
    """Runs the app."""
    video_app.refuse_arguments(argv)
    if FLAGS.threshold is not None and FLAGS.far is not None:
        raise flags.Error("give --threshold or --far, received both")
    video_app.prepare_process()
    video_app.check_paths(FLAGS)

    from mlcvtf.commands.face_pipeline import FacePipeline
    from mlcvtf.embedding import gallery_folder
    from mlcvtf.embedding.gallery import Gallery

    # Before the models are loaded: a missing gallery is said at once.
    gallery_folder.scan(FLAGS.gallery)
    pipeline = FacePipeline(FLAGS.models, FLAGS.runtime, detector=FLAGS.detector)
    people = Gallery(FLAGS.gallery, pipeline.embed_picture, pipeline.model_hash)
    tell(people.refresh(progress=video_app.progress("gallery picture")))
    threshold = Threshold(pipeline.embedder.card, FLAGS.threshold, FLAGS.far)
    margin = pipeline.embedder.card["thresholds"].get("margin", MARGIN)
    app = Recognition(pipeline, people, threshold, margin, threshold.agreement)
    return video_app.run(FLAGS, "face_recognize", app)


def tell(changes) -> None:
    """Prints what is to be said about a change of the gallery, a line each."""
    for line in changes.notes + changes.problems:
        video_app.notify(f"gallery: {line}")


class Threshold:
    """The least cosine of a name, by how many are enrolled.

    Args:
        card: of the embedder.
        fixed: the threshold itself, or None.
        far: the share of strangers that may get a name; by default `DEFAULT_FAR`, or
            the least that the model's calibration can tell if that is more.
    """

    def __init__(self, card: dict, fixed: float | None, far: float | None):
        from mlcvtf.errors import InputError

        self._fixed = fixed
        self._far = far
        self._calibration = card.get("calibration")
        self._told = False
        if fixed is None and not self._calibration:
            raise InputError(
                "a threshold comes from the calibration in the embedder's card, "
                f"{card['name']} has none: give --threshold"
            )

    @property
    def agreement(self) -> float:
        """The cosine above which two neighbouring frames may show one person."""
        from mlcvtf.embedding import calibration

        if not self._calibration:
            return AGREEMENT
        return calibration.threshold(self._calibration, AGREEMENT_RATE, 1)

    def __call__(self, enrolled: int) -> float:
        """Returns the threshold with so many enrolled.

        Raises:
            InputError: the calibration has too few pairs to tell the `far` asked for.
        """
        from mlcvtf.embedding import calibration

        if self._fixed is not None:
            return self._fixed
        enrolled = max(1, enrolled)
        if self._far is not None:
            return calibration.threshold(self._calibration, self._far, enrolled)
        # A little more than the smallest, which is on the edge of what is told.
        smallest = 1.001 * calibration.smallest_far(self._calibration, enrolled)
        far = max(DEFAULT_FAR, min(smallest, 0.999))
        if far > DEFAULT_FAR and not self._told:
            self._told = True
            video_app.notify(
                f"with {enrolled} enrolled the threshold is for --far={far:.2g}, less "
                "cannot be told from the model's calibration"
            )
        return calibration.threshold(self._calibration, far, enrolled)


class Recognized(NamedTuple):
    """The people in a frame, in the order of `faces`.

    Attributes:
        faces: `face_pipeline.Faces`.
        tracks: int `[n]`.
        matches: a `search.Match` for each.
    """

    faces: object
    tracks: object
    matches: list


class Recognition:
    """Finds, follows and names the faces of each frame; a `loop.App`.

    Args:
        pipeline: a `face_pipeline.FacePipeline`.
        people: the `Gallery`, already read.
        threshold: from the number enrolled to the least cosine of a name.
        margin: least distance in cosine between a name and the second.
        agreement: least cosine between a face and the track that it continues.
    """

    def __init__(
        self, pipeline, people, threshold, margin=MARGIN, agreement=AGREEMENT
    ):
        from mlcvtf.video.track import Tracker

        self._pipeline = pipeline
        self._people = people
        self._threshold_of = threshold
        self._margin = margin
        self._threshold = threshold(people.enrolled())
        self._tracker = Tracker(agreement=agreement)
        self._names = collections.Counter()

    def process(self, frame) -> Recognized:
        """Returns the people in a frame."""
        changes = self._people.poll()
        if changes is not None:
            self._take_up(changes)
        faces = self._pipeline.detect(frame.image)
        vectors = self._pipeline.embed(frame.image, faces.landmarks)
        if frame.still:
            self._tracker.forget()
        tracks, vectors = self._tracker.update(faces.boxes, vectors)
        matches = self._people.search(vectors, self._threshold, self._margin)
        self._names.update({match.name for match in matches})
        return Recognized(faces, tracks, matches)

    def record(self, result: Recognized) -> dict:
        """Returns the people as plain text and numbers."""
        from mlcvtf.commands.face_detect import plain_numbers

        boxes, landmarks, _ = plain_numbers(result.faces)
        tracks = result.tracks.tolist()
        rows = zip(boxes, landmarks, result.matches, tracks, strict=True)
        return {
            "faces": [
                {
                    "box": box,
                    "landmarks": points,
                    "name": match.name,
                    "score": round(match.score, 4),
                    "runner_up": match.runner_up,
                    "track": track,
                }
                for box, points, match, track in rows
            ]
        }

    def draw(self, image, result: Recognized) -> None:
        """Draws boxes, names and scores."""
        from mlcvtf.embedding.search import UNKNOWN
        from mlcvtf.video import draw

        for box, match in zip(result.faces.boxes, result.matches, strict=True):
            colour = draw.UNKNOWN if match.name == UNKNOWN else draw.KNOWN
            draw.box(image, box, colour)
            draw.label(image, f"{match.name} {match.score:.2f}", box, colour)

    def describe(self) -> str:
        """Says in a line who was seen in how many frames."""
        from mlcvtf.embedding.search import UNKNOWN

        # By number of frames, strangers last.
        order = sorted(self._names, key=lambda n: (n == UNKNOWN, -self._names[n], n))
        seen = [f"{name} in {self._names[name]}" for name in order]
        return ", ".join(seen) or "no face"

    def _take_up(self, changes):
        """Goes on with a gallery that changed."""
        from mlcvtf.errors import InputError

        tell(changes)
        if not changes.added and not changes.removed:
            return
        video_app.notify(
            f"gallery: {len(changes.added)} pictures more, {len(changes.removed)} "
            f"fewer, {len(self._people.names)} people"
        )
        try:
            self._threshold = self._threshold_of(self._people.enrolled())
        except InputError as error:
            # It was right a moment ago; to stop the camera would be worse.
            video_app.notify(f"the threshold stays at {self._threshold:.3f}: {error}")


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
