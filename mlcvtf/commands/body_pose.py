"""body_pose --source DIR|FILE|synthetic [--output FILE] [--json FILE] [flags]

Finds the body parts and joints of one person in depth: in a folder of 16-bit PNGs
(millimetres, 0 where missing, as body_render and depth cameras write), one such PNG, a
16-bit grey video (FFV1 in .mkv or .avi), or made frames of a person who marches and
waves. What is not the person is removed by --background.

A JSON line has `frame`, `time` in seconds and `joints`, each with `name`, `position`
(x right, y down, z ahead of the camera, in metres), `pixel` (x, y) and `confidence`
(the square metres of the body that speak for it); left and right are the person's own.
"""

import sys
from typing import NamedTuple

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

RUNTIMES = ("auto", "compiled", "litert", "saved_model")
REMOVALS = ("none", "depth", "plane", "first")

FLAGS = flags.FlagValues()
video_app.define_flags(
    FLAGS,
    models="Folder with the model body_parts; that with the shipped one by default.",
    runtimes=RUNTIMES,
    runtime="What runs the forest, with equal results; auto takes the compiled loops "
    "where numba is installed, else LiteRT where the model has a .tflite file.",
    source="Folder of 16-bit PNGs in millimetres (each counts as a second), one PNG, a "
    "16-bit grey video, or synthetic.",
    first_source=None,
    live=False,
    detectors=(),
)
flags.DEFINE_list(
    "background",
    ["none"],
    "What removes all but the person, one or several of: depth (what is outside "
    "--near and --far), plane (the floor, found in the first frame), first (what was "
    "there in the first --first_frames); none where it is removed already.",
    flag_values=FLAGS,
)
flags.DEFINE_float("near", 0.5, "Least depth, in metres.", 0.0, flag_values=FLAGS)
flags.DEFINE_float("far", 4.5, "Largest depth, in metres.", 0.0, flag_values=FLAGS)
flags.DEFINE_integer(
    "first_frames", 10, "Frames at the start without a person.", 1, flag_values=FLAGS
)
flags.DEFINE_float(
    "confidence",
    None,
    "Least confidence of a joint, in square metres; those of the card by default.",
    0.0,
    flag_values=FLAGS,
)
# Fewer pixels are no person.
LEAST_PIXELS = 200


def main(argv: list[str]) -> int:
    """Runs the app."""
    video_app.refuse_arguments(argv)
    if not FLAGS.source:
        raise flags.Error("--source is needed, such as synthetic")
    unknown = sorted(set(FLAGS.background) - set(REMOVALS))
    if unknown or not FLAGS.background:
        raise flags.Error(
            f"--background is of {', '.join(REMOVALS)}; received "
            f"{', '.join(unknown) or 'none of them'}"
        )
    if not FLAGS.near < FLAGS.far:
        raise flags.Error(
            f"--near is less than --far, received {FLAGS.near:g} and {FLAGS.far:g}"
        )
    video_app.prepare_process()

    from mlcvtf.commands import depth_source

    video_app.check_outputs(FLAGS)
    source = depth_source.open_depth(FLAGS.source)
    estimate, card = load(FLAGS.models, FLAGS.runtime)
    app = BodyPose(estimate, Background(FLAGS), card, _least(card))
    return video_app.run(FLAGS, "body_pose", app, source)


def _least(card):
    """Returns the least confidence of each joint, or of all."""
    if FLAGS.confidence is not None:
        return FLAGS.confidence
    known = card["thresholds"].get("confidence", {})
    return [known.get(joint["name"], 0.0) for joint in card["joints"]]


def load(models, runtime):
    """Loads the model.

    Args:
        models: folder that holds body_parts; None for the shipped ones.
        runtime: one of `RUNTIMES`.

    Returns:
        A function of depth, float32 `[h, w]` without background, and of its points,
        as of `pose.estimate`; and the card.

    Raises:
        InputError: there is no such model, or nothing that runs it.
    """
    import functools
    import importlib.util
    import os

    from mlcvtf import models_folder

    folder = os.path.join(models or models_folder.shipped_models(), "body_parts")
    compiled = importlib.util.find_spec("numba") is not None
    if runtime == "compiled" and not compiled:
        raise InputError("--runtime=compiled needs numba: pip install numba")
    if runtime == "compiled" or (runtime == "auto" and compiled):
        from mlcvtf.commands import body_parts_model
        from mlcvtf.segmentation.body_parts import mirror, pose

        forest, joints, card = body_parts_model.load_model(folder)
        if card.get("mirror"):
            forest = mirror.MirroredForest(forest)
        return functools.partial(pose.estimate, forest, joints), card
    from mlcvtf.segmentation.body_parts import joints, mirror, pose
    from mlcvtf.video import predictor

    forest = Exported(predictor.load(folder, runtime, "body_parts"))
    card = forest.card
    learned = joints.from_card(card.get("joints", []), len(card["labels"]))
    if card.get("mirror"):
        forest = mirror.MirroredForest(forest)
    return functools.partial(pose.estimate, forest, learned), card


class Exported:
    """An exported forest with the verb of the compiled one.

    Args:
        model: a `predictor.Predictor`.

    Attributes:
        card: of the model.
        trees: how many.
    """

    def __init__(self, model):
        self._model, self.card = model, model.card
        self.trees = self.card["evaluation"]["trees"]

    def probabilities(self, sums):
        """Returns probabilities of sums, as of `CompiledForest.probabilities`."""
        import numpy as np

        from mlcvtf.segmentation.body_parts.forest import FULL

        return sums / np.float32(FULL * self.trees)

    def classify(self, depth):
        """Returns parts and sums, as of `CompiledForest.classify`."""
        import numpy as np

        from mlcvtf.segmentation.body_parts.features import check_depth
        from mlcvtf.segmentation.body_parts.forest import FULL

        depth = check_depth(depth)
        found = self._model(depth)
        # The graph divides what it added up.
        sums = np.rint(found["probabilities"][depth > 0] * (FULL * self.trees))
        return found["parts"].astype(np.uint8), sums.astype(np.uint16)


class Background:
    """Removes what is not the person, as the flags say.

    Args:
        settings: the flag values.
    """

    def __init__(self, settings):
        self._kinds = set(settings.background)
        self._range = settings.near, settings.far
        self._needed = settings.first_frames if "first" in self._kinds else 0
        self._frames, self._model, self._plane = [], None, None

    def remove(self, depth, camera):
        """Returns depth of the person alone, 0 elsewhere; all 0 while it learns.

        Args:
            depth: float32 `[h, w]` metres, 0 where missing.
            camera: that took it.

        Raises:
            InputError: there is no plane, or the sizes of frames differ.
        """
        from mlcvtf.segmentation.body_parts import background

        depth = background.clean_depth(depth)
        kept = depth
        if "depth" in self._kinds:
            kept = background.within(kept, *self._range)
        if "plane" in self._kinds:
            if self._plane is None:
                self._plane = background.fit_plane(depth, camera)
            kept = background.above_plane(kept, self._plane, camera)
        if self._needed and self._model is None:
            self._frames.append(depth)
            if len(self._frames) == self._needed:
                self._model = background.FirstFrames(self._frames)
                self._frames = []
            return depth * 0
        if self._model is not None:
            seen = self._model.remove(depth)
            kept = kept * (seen > 0)
        return kept


class Found(NamedTuple):
    """What was found in a frame.

    Attributes:
        parts: uint8 `[h, w]`, 0 where there is no person.
        joints: float32 `[joints, 4]`: x, y, z in metres and confidence.
        seen: bool `[joints]`.
        camera: that took the frame.
    """

    parts: object
    joints: object
    seen: object
    camera: object


class BodyPose:
    """Finds parts and joints of each frame; a `loop.App`.

    Args:
        estimate: as of `load`.
        background: a `Background`.
        card: of the model.
        least: least confidence of a joint, one for all or float `[joints]`.
    """

    def __init__(self, estimate, background, card, least=0.0):
        self._estimate, self._background = estimate, background
        self._names = [joint["name"] for joint in card["joints"]]
        self._least = least
        self._frames = self._people = self._joints = 0

    def process(self, frame) -> Found:
        """Returns what is in a frame."""
        import numpy as np

        from mlcvtf.commands import depth_source

        camera = depth_source.camera_of(frame.depth)
        depth = self._background.remove(frame.depth, camera)
        self._frames += 1
        if (depth > 0).sum() < LEAST_PIXELS:
            nothing = np.full((len(self._names), 4), np.nan, np.float32)
            blank = np.zeros(depth.shape, np.uint8)
            return Found(blank, nothing, np.zeros(len(nothing), bool), camera)
        found = self._estimate(depth, camera.points(depth))
        # From pixels times the square of their depth to the area that they show.
        found["joints"][:, 3] /= camera.focal**2
        seen = found["joints"][:, 3] > self._least
        self._people += 1
        self._joints += int(seen.sum())
        return Found(found["parts"], found["joints"], seen, camera)

    def record(self, result: Found) -> dict:
        """Returns the joints as plain text and numbers."""
        rows = []
        for name, joint, seen in zip(
            self._names, result.joints, result.seen, strict=True
        ):
            if seen:
                pixel = result.camera.project(joint[:3])
                rows.append(
                    {
                        "name": name,
                        "position": [round(float(value), 4) for value in joint[:3]],
                        "pixel": [round(float(value), 1) for value in pixel],
                        "confidence": round(float(joint[3]), 5),
                    }
                )
        return {"joints": rows}

    def draw(self, image, result: Found) -> None:
        """Draws parts and skeleton."""
        from mlcvtf.commands import depth_source
        from mlcvtf.segmentation.body_parts import drawing
        from mlcvtf.segmentation.body_parts.camera import Camera

        scale = depth_source.SCALE
        parts = result.parts.repeat(scale, 0).repeat(scale, 1)
        there = parts > 0
        colours = drawing.parts_picture(parts[there])
        image[there] = colours // 2 + image[there] // 3
        height, width = parts.shape
        drawing.draw_skeleton(
            image, result.joints[:, :3], Camera.of_size(width, height), result.seen
        )

    def describe(self) -> str:
        """Says in how many frames a person was and how many joints were found."""
        if not self._people:
            return "no person"
        return (
            f"a person in {self._people} of {self._frames}, "
            f"{self._joints / self._people:.1f} joints each"
        )


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
