"""The shipped models on the photographs that come with the dependencies.

This proves that everything fits together, not how accurate it is: that is measured
by the benchmarks.
"""

import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mlcvtf.commands.face_pipeline import FacePipeline
from mlcvtf.embedding import alignment
from mlcvtf.video.track import overlaps
from tests.apps.recognizing import APP, HEADLESS
from tests.case import ROOT, child

SHIPPED = ROOT / "saved_models"
# By eye, in pixels of scikit-image's picture: left eye, right eye, nose tip, corners
# of the mouth.
COLLINS = np.array([[203, 102], [246, 103], [226, 126], [206, 146], [241, 146]])

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "face_embedder" / "card.json").exists(),
    reason="saved_models has no face models yet",
)


def collins():
    import skimage.data

    return skimage.data.astronaut()


def hopper():
    import matplotlib.cbook

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def pipeline():
    return FacePipeline(runtime="litert")


def test_the_one_face_and_its_landmarks(pipeline):
    faces = pipeline.detect(collins())
    # The shipped detector still finds false boxes; none of them is a certain one.
    certain = pipeline.detector.card["thresholds"]["certain"]
    sure = faces.scores >= certain
    assert sure[0] and not sure[1:].any()
    expected = alignment.face_box(COLLINS)
    assert overlaps(faces.boxes, [expected])[0, 0] > 0.6
    eyes = np.linalg.norm(COLLINS[1] - COLLINS[0])
    errors = np.linalg.norm(faces.landmarks[0] - COLLINS, axis=1)
    assert errors.mean() < 0.12 * eyes


def test_no_face_where_there_is_none(pipeline):
    from skimage import data

    for picture in (data.coffee(), data.rocket(), data.chelsea()):
        assert len(pipeline.detect(picture).boxes) == 0


def test_the_cascade_finds_them_too():
    from skimage import data

    from mlcvtf.commands import cascade_faces

    detector = cascade_faces.load(SHIPPED)
    certain = detector.card["thresholds"]["certain"]
    faces = detector.detect(collins())
    assert (faces.scores >= certain).tolist()[:2] in ([True], [True, False])
    assert overlaps(faces.boxes, [alignment.face_box(COLLINS)])[0, 0] > 0.6
    eyes = np.linalg.norm(COLLINS[1] - COLLINS[0])
    errors = np.linalg.norm(faces.landmarks[0] - COLLINS, axis=1)
    assert errors.mean() < 0.2 * eyes
    for picture in (data.coffee(), data.rocket(), data.chelsea()):
        assert (detector.detect(picture).scores < certain).all()


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of other takes of both: sizes, light, rotation, mirror."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate((collins(), hopper())):
        image = Image.fromarray(image)
        width, height = image.size
        takes = (
            image.resize((width * 2 // 3, height * 2 // 3)),
            ImageEnhance.Brightness(image).enhance(0.6),
            image.rotate(12, Image.Resampling.BILINEAR),
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        )
        for take, changed in enumerate(takes):
            changed.save(folder / f"{number}{take}.jpg", quality=90)
    return folder


def recognize(folder, pictures, *arguments):
    command = [APP, "--gallery", folder, "--source", pictures, "--json=-"]
    result = child([*command, "--display=off", *arguments], **HEADLESS)
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 8
    return [the_face(record["faces"]) for record in records]


def the_face(faces):
    """Takes the largest face of a portrait; nothing else may be given a name."""
    ordered = sorted(faces, key=lambda face: face["box"][0] - face["box"][2])
    assert all(face["name"] == "unknown" for face in ordered[1:])
    return ordered[0]


@pytest.fixture(scope="module")
def two_people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    save(folder / "Eileen Collins" / "a.png", Image.fromarray(collins()))
    save(folder / "Grace Hopper.jpg", Image.fromarray(hopper()))
    return folder


def test_both_are_named(two_people, pictures):
    faces = recognize(two_people, pictures)
    names = [face["name"] for face in faces]
    assert names == ["Eileen Collins"] * 4 + ["Grace Hopper"] * 4


def test_who_is_not_enrolled_is_unknown(tmp_path, pictures):
    save(tmp_path / "Eileen Collins.png", Image.fromarray(collins()))
    faces = recognize(tmp_path, pictures)
    names = [face["name"] for face in faces]
    assert names == ["Eileen Collins"] * 4 + ["unknown"] * 4


def test_the_runtimes_agree(two_people, pictures):
    litert = recognize(two_people, pictures, "--runtime=litert")
    saved_model = recognize(two_people, pictures, "--runtime=saved_model")
    for one, other in zip(litert, saved_model, strict=True):
        assert one["name"] == other["name"]
        np.testing.assert_allclose(one["box"], other["box"], atol=0.5)
        np.testing.assert_allclose(one["score"], other["score"], atol=2e-3)
