"""face_detect --source 0|FILE|DIR|URL [--output FILE] [--json FILE|-] [flags]

Finds faces in a webcam, video, pictures or stream: boxes, five landmarks, scores.

A JSON line has `frame`, `time` in seconds and `faces`, each with `box` (x1, y1, x2, y2
in pixels), `landmarks` (left eye, right eye, nose tip, left and right corner of the
mouth, as seen in the picture; with --detector=cascade where those of a mean face would
be in the box) and `score` (0 to 1). Of a folder, `frame` counts its
pictures sorted by name from 0.
"""

import sys

from absl import flags

from mlcvtf.commands import command, video_app

FLAGS = flags.FlagValues()
video_app.define_flags(FLAGS)


def main(argv: list[str]) -> int:
    """Runs the app."""
    video_app.refuse_arguments(argv)
    video_app.prepare_process()
    video_app.check_paths(FLAGS)

    from mlcvtf.commands import face_pipeline

    detector = face_pipeline.load_detector(FLAGS.detector, FLAGS.models, FLAGS.runtime)
    app = Detection(detector.detect)
    return video_app.run(FLAGS, "face_detect", app)


class Detection:
    """Draws and records the faces of each frame; a `loop.App`.

    Args:
        detect: from a uint8 RGB image to `face_pipeline.Faces`.
    """

    def __init__(self, detect):
        self._detect = detect
        self._faces = 0
        self._frames_with_faces = 0

    def process(self, frame):
        """Returns the faces of a frame."""
        faces = self._detect(frame.image)
        self._faces += len(faces.boxes)
        self._frames_with_faces += bool(len(faces.boxes))
        return faces

    def record(self, faces) -> dict:
        """Returns the faces as plain numbers."""
        return {
            "faces": [
                {"box": box, "landmarks": landmarks, "score": score}
                for box, landmarks, score in zip(*plain_numbers(faces), strict=True)
            ]
        }

    def draw(self, image, faces) -> None:
        """Draws boxes, landmarks and scores."""
        from mlcvtf.video import draw

        for box, score, landmarks in zip(*faces, strict=True):
            draw.box(image, box, draw.KNOWN)
            draw.points(image, landmarks, draw.KNOWN)
            draw.label(image, f"{score:.2f}", box, draw.KNOWN)

    def describe(self) -> str:
        """Says in a line what was found."""
        return f"{self._faces} faces in {self._frames_with_faces} of them"


def plain_numbers(faces) -> tuple[list, list, list]:
    """Returns boxes, landmarks (to 0.001 px) and scores (to 1e-4) for JSON."""
    return (
        faces.boxes.astype(float).round(3).tolist(),
        faces.landmarks.astype(float).round(3).tolist(),
        faces.scores.astype(float).round(4).tolist(),
    )


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
