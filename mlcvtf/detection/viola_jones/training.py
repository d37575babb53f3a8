"""Trains a cascade stage by stage, on ever harder windows without an object.

Viola and Jones, 2001. A stage is boosted until it lets pass nearly all validation
faces and few enough of the windows that the stages before take for one; its threshold
is chosen on validation faces. Each stage sees new windows, which the cascade so far is
run over the backgrounds to find. The state is kept in a folder, so that a training
that was stopped goes on as if it had not been.
"""

import os
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mlcvtf.detection.viola_jones import features, mining, without_numba
from mlcvtf.detection.viola_jones import training_state as states
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.detection.viola_jones.stage import Stage, join, passing
from mlcvtf.errors import InputError

# Training stops where less than this share of the negatives wanted can be found.
LEAST_NEGATIVES = 0.2
# For each negative to learn from, so many to measure the false alarm rate on.
MEASURED = 0.25
SAVE_SECONDS = 30
# Between two lines about a search or a stage that takes long.
SAY_SECONDS = 20


class Settings(NamedTuple):
    """How a cascade is trained.

    Attributes:
        window: width and height in pixels.
        stages: at most so many.
        detection: share of the validation faces that a stage lets pass, of those that
            get to it.
        false_alarm: share of the windows without a face that a stage lets pass.
        negatives: windows without a face that a stage learns from.
        most_trees: of a stage.
        kind: set of features, see `features.haar_features`.
        method: "gentle" or "adaboost".
        depth: comparisons in a row in a tree, 1 for stumps.
        subsample: share of the features that a node looks at.
        scale_factor: of the search for negatives.
        most_bytes: memory for the features of all samples; where it does not hold all
            features, each stage draws its own.
        seed: of all randomness.
    """

    window: tuple[int, int] = (24, 24)
    stages: int = 20
    detection: float = 0.995
    false_alarm: float = 0.5
    negatives: int = 5000
    most_trees: int = 200
    kind: str = "basic"
    method: str = "gentle"
    depth: int = 1
    subsample: float = 1.0
    scale_factor: float = 1.1
    most_bytes: int = 1_700_000_000
    seed: int = 0


class Faces(NamedTuple):
    """Windows with a face, or whatever is to be found.

    Attributes:
        training: uint8 `[n, height, width]`.
        validation: the same, of other pictures.
    """

    training: np.ndarray
    validation: np.ndarray


class Training:
    """A training of a cascade, which may be resumed.

    Args:
        faces: windows with a face.
        backgrounds: a sequence of uint8 `[height, width]` without a face.
        settings: how.
        folder: where the state is kept.
        threads: number of threads; None for one per processor.
        say: is told lines about what happens.
        search: makes a search of (bins, number of samples), such as
            `boosting_tensorflow.TensorSearch`; None for the processor's.
        mark: what tells the backgrounds from others, such as their names.

    Raises:
        InputError: there are no faces or backgrounds, or the folder has the state of
            another training.
    """

    def __init__(
        self,
        faces: Faces,
        backgrounds,
        settings: Settings,
        folder: str | os.PathLike,
        threads: int | None = None,
        say: Callable[[str], None] = lambda line: None,
        search: Callable | None = None,
        mark: str = "",
    ):
        self.faces = Faces(*(self._usable(part, settings, say) for part in faces))
        if not len(backgrounds):
            raise InputError("negatives come from pictures, received none")
        self.backgrounds, self.settings = backgrounds, settings
        self.folder = pathlib.Path(folder)
        self.threads = threads or os.cpu_count() or 1
        self.say = say
        self.search = search or (
            lambda bins, count: without_numba.search(bins, count, self.threads)
        )
        found = states.fingerprint(faces, f"{len(backgrounds)} {mark}", settings)
        self.state = states.load(self.folder, found)
        self._saved = self._said = time.monotonic()

    @staticmethod
    def _usable(windows, settings, say):
        width, height = settings.window
        if windows.ndim != 3 or windows.shape[1:] != (height, width):
            raise InputError(
                f"faces have the window's size, {width}x{height} pixels, received "
                f"an array {list(windows.shape)}"
            )
        good = features.integrate(windows).norms != 0
        if not good.any():
            raise InputError(
                "training and validation need at least one positive window each that "
                f"is not flat, received {len(windows)}, all flat"
            )
        if not good.all():
            say(f"{(~good).sum()} flat windows, which no detector sees, left out")
        return windows[good]

    def run(self) -> Cascade:
        """Trains until the last stage, or until the negatives run out.

        Raises:
            InputError: not even one stage can be trained.
        """
        while len(self.state.history) < self.settings.stages and self._stage():
            pass
        if self.state.cascade is None:
            raise InputError(
                "a first stage needs windows without a face from which faces differ, "
                f"received {len(self.backgrounds)} pictures that give none"
            )
        return self.state.cascade

    def _stage(self) -> bool:
        """Trains the next stage; returns whether there was something to learn."""
        begin = time.monotonic()
        number = len(self.state.history)
        if self.state.negatives is None and not self._mine(number):
            return False
        negatives = self.state.negatives
        learned = min(round(len(negatives) / (1 + MEASURED)), len(negatives) - 1)
        learn, measure = negatives[:learned], negatives[learned:]
        cascade = self.state.cascade
        kept = [passing(cascade, part) for part in self.faces]
        if min(map(len, kept)) == 0:
            self.say(f"stage {number + 1}: no face is left to learn from")
            return False
        stage = Stage(self, number, (kept[0], learn), (kept[1], measure))
        self._said = time.monotonic()
        while not stage.done():
            if not stage.add():
                break
            self._say_sometimes(stage.line)
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.state = self.state._replace(trees=stage.trees)
                self._save()
        if not stage.trees:
            self.say(f"stage {number + 1}: no feature tells faces from what is left")
            return False
        entry = stage.entry() | {
            "scanned": self.state.scanned,
            "passed": self.state.passed,
            "seconds": round(time.monotonic() - begin, 1),
        }
        self.state = states.State(
            self.state.mark,
            stage.cascade() if cascade is None else join(cascade, stage.cascade()),
            [*self.state.history, entry],
        )
        self._save()
        self.say(
            f"stage {number + 1}: {entry['trees']} trees, detection "
            f"{entry['detection']:.4f}, false alarm {entry['false_alarm']:.4f}, "
            f"{entry['seconds']:.0f} s"
        )
        return True

    def _mine(self, number):
        """Looks for the windows of a stage; returns whether there are enough."""
        wanted = round(self.settings.negatives * (1 + MEASURED))

        def progress(found, scanned):
            self._say_sometimes(
                lambda: (
                    f"stage {number + 1}: {found} of {wanted} negatives so far "
                    f"among {scanned} windows"
                )
            )

        mined = mining.mine(
            self.state.cascade,
            self.backgrounds,
            self.settings.window,
            wanted,
            self.settings.scale_factor,
            [self.settings.seed, number],
            self.threads,
            progress,
        )
        share = mined.passed / max(mined.scanned, 1)
        self.say(
            f"stage {number + 1}: {len(mined.windows)} of {wanted} negatives among "
            f"{mined.scanned} windows, of which {share:.3g} pass"
        )
        if len(mined.windows) < max(2, LEAST_NEGATIVES * wanted):
            self.say(f"stage {number + 1}: the negatives ran out")
            return False
        self.state = self.state._replace(
            negatives=mined.windows, scanned=mined.scanned, passed=mined.passed
        )
        self._save()
        return True

    def _say_sometimes(self, line):
        if time.monotonic() - self._said > SAY_SECONDS:
            self.say(line())
            self._said = time.monotonic()

    def _save(self):
        states.save(self.folder, self.state)
        self._saved = time.monotonic()
