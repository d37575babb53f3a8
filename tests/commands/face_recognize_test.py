"""Recognition frame by frame, with a pipeline and a gallery of plain arrays."""

import numpy as np
import pytest

from mlcvtf.commands import face_recognize
from mlcvtf.commands.face_pipeline import Faces
from mlcvtf.embedding.gallery import Changes
from mlcvtf.embedding.search import Index
from mlcvtf.errors import InputError
from mlcvtf.video.frame import Frame

ADA, BOB, EVE = np.eye(3, dtype=np.float32)
IMAGE = np.zeros((10, 10, 3), np.uint8)
CARD = {
    "name": "it",
    "calibration": {
        "people": 100,
        "pictures": 1000,
        "pairs": 1_000_000,
        "quantiles": [[0.1, 0.1], [1e-2, 0.2], [1e-3, 0.3], [1e-4, 0.4], [1e-5, 0.5]],
    },
}


class Pipeline:
    """Finds what it is told: boxes with their embeddings."""

    def __init__(self):
        self.faces = []

    def detect(self, image):
        boxes = np.array([box for box, _ in self.faces], np.float32).reshape(-1, 4)
        count = len(boxes)
        return Faces(boxes, np.ones(count), np.zeros((count, 5, 2), np.float32))

    def embed(self, image, landmarks):
        vectors = [vector for _, vector in self.faces]
        return np.array(vectors, np.float32).reshape(-1, 3)


class People:
    """A gallery in memory."""

    def __init__(self, **vectors):
        self.replace(**vectors)
        self.changes = None

    def replace(self, **vectors):
        self.names = list(vectors)
        self._index = Index(self.names, list(vectors.values()))
        self.search = self._index.search

    def enrolled(self):
        return len(self.names)

    def poll(self):
        changes, self.changes = self.changes, None
        return changes


def recognition(people, threshold=0.5, margin=0.05):
    pipeline = Pipeline()
    app = face_recognize.Recognition(pipeline, people, lambda n: threshold, margin)
    return pipeline, app


def unit(*values):
    return np.float32(values) / np.linalg.norm(values)


def box(left):
    return (left, 0, left + 100, 100)


def names(app, index=0, still=False):
    result = app.process(Frame(index, index / 10, IMAGE, still))
    return [match.name for match in result.matches]


def test_one_bad_frame_does_not_change_a_name():
    pipeline, app = recognition(People(Ada=ADA, Bob=BOB))
    blurred = unit(0.6, 0.8, 0)
    for index, vector in enumerate([ADA] * 5 + [blurred] + [ADA] * 3):
        pipeline.faces = [(box(0), vector)]
        assert names(app, index) == ["Ada"]
    assert app.describe() == "Ada in 9"


def test_without_steadying_it_would():
    pipeline, app = recognition(People(Ada=ADA, Bob=BOB))
    pipeline.faces = [(box(0), ADA)]
    assert names(app, still=True) == ["Ada"]
    pipeline.faces = [(box(0), unit(0.6, 0.8, 0))]
    assert names(app, still=True) == ["Bob"]


def test_the_margin_between_two_people():
    pipeline, app = recognition(People(Ada=ADA, Bob=BOB))
    pipeline.faces = [(box(0), unit(1.0, 0.98, 0))]
    assert names(app) == ["unknown"]
    pipeline, app = recognition(People(Ada=ADA, Bob=BOB), margin=0.01)
    pipeline.faces = [(box(0), unit(1.0, 0.98, 0))]
    assert names(app) == ["Ada"]


def test_the_record():
    pipeline, app = recognition(People(Ada=ADA, Bob=BOB))
    pipeline.faces = [(box(0), unit(0.8, 0.6, 0)), (box(200), EVE)]
    result = app.process(Frame(0, 0.0, IMAGE))
    first, second = app.record(result)["faces"]
    assert first == {
        "box": [0, 0, 100, 100],
        "landmarks": [[0, 0]] * 5,
        "name": "Ada",
        "score": 0.8,
        "runner_up": "Bob",
        "track": 0,
    }
    assert (second["name"], second["score"], second["track"]) == ("unknown", 0.0, 1)


def test_a_gallery_that_changes_is_taken_up_at_once(capsys):
    people = People(Ada=ADA)
    pipeline, app = recognition(people)
    pipeline.faces = [(box(0), BOB)]
    assert names(app) == ["unknown"]
    people.replace(Ada=ADA, Bob=BOB)
    people.changes = Changes(added=["Bob/a.png"], problems=["Eve/b.png: broken"])
    assert names(app, 1) == ["Bob"]
    assert capsys.readouterr().err.splitlines() == [
        "gallery: Eve/b.png: broken",
        "gallery: 1 pictures more, 0 fewer, 2 people",
    ]


def test_the_threshold_grows_with_the_gallery():
    threshold = face_recognize.Threshold(CARD, None, 1e-2)
    # 1 - 0.99 ** (1 / 100) is just over 1e-4.
    assert threshold(1) == pytest.approx(0.2, abs=1e-3)
    assert threshold(100) == pytest.approx(0.4, abs=1e-3)
    assert face_recognize.Threshold(CARD, 0.37, None)(100) == 0.37


def test_far_below_what_is_known_is_refused_only_if_asked_for(capsys):
    with pytest.raises(InputError, match="impostor pairs"):
        face_recognize.Threshold(CARD, None, 1e-3)(1000)
    default = face_recognize.Threshold(CARD, None, None)
    assert default(1) == pytest.approx(0.3, abs=1e-3)
    assert capsys.readouterr().err == ""
    # 1000 enrolled at a pair rate of 1e-5, the end of the table: 1 % of strangers.
    assert default(1000) == pytest.approx(0.5, abs=1e-3)
    assert "for --far=0.01, less cannot be told" in capsys.readouterr().err
    default(1000)
    assert capsys.readouterr().err == ""


def test_the_agreement_of_neighbouring_frames_is_calibrated():
    assert face_recognize.Threshold(CARD, 0.9, None).agreement == pytest.approx(0.2)
    bare = {"name": "it"}
    assert face_recognize.Threshold(bare, 0.9, None).agreement == 0.2


def test_a_gallery_that_outgrows_the_calibration_does_not_stop_the_app(capsys):
    people = People(Ada=ADA)
    pipeline = Pipeline()
    threshold = face_recognize.Threshold(CARD, None, 1e-3)
    app = face_recognize.Recognition(pipeline, people, threshold)
    many = {f"P{index}": ADA for index in range(1000)}
    people.replace(**many)
    people.changes = Changes(added=list(many))
    assert names(app) == []
    assert "the threshold stays at 0.300" in capsys.readouterr().err


def test_a_card_without_calibration():
    with pytest.raises(InputError, match="give --threshold"):
        face_recognize.Threshold({"name": "it"}, None, None)
    assert face_recognize.Threshold({"name": "it"}, 0.5, None)(7) == 0.5


def test_no_face_at_all():
    _, app = recognition(People(Ada=ADA))
    assert names(app) == []
    assert app.describe() == "no face"
