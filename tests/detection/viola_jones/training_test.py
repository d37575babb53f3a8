"""A cascade on a small synthetic problem: its targets, its end, and its resuming."""

import json

import numpy as np
import pytest

from mlcvtf.detection.viola_jones import opencv_xml, stage, training, training_state
from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.errors import InputError
from tests.detection.viola_jones import made_faces

SETTINGS = training.Settings(made_faces.WINDOW, 3, negatives=200, most_trees=20)
LONG = SETTINGS._replace(false_alarm=0.01, stages=2)


class Stop(Exception):
    """A kill at a chosen moment."""


@pytest.fixture(scope="module")
def faces():
    return training.Faces(made_faces.faces(150), made_faces.faces(80, 1))


def begin(faces, folder, settings=SETTINGS, pictures=4, **options):
    pictures = (
        made_faces.backgrounds(pictures) if isinstance(pictures, int) else pictures
    )
    return training.Training(faces, pictures, settings, folder, 1, **options)


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """A training that ran to its end, and what it said."""
    lines = []
    one = begin(faces, tmp_path_factory.mktemp("trained"), say=lines.append)
    return one, one.run(), lines


def assert_same(one, other):
    for name in Cascade.arrays():
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)


def test_stages_meet_their_targets(trained, faces):
    one, cascade, _ = trained
    history = one.state.history
    assert len(history) == len(cascade.stage_trees) == 3
    for entry, trees in zip(history, cascade.stage_trees, strict=True):
        assert entry["detection"] >= 0.995 and entry["false_alarm"] <= 0.5
        assert entry["trees"] == trees <= 20
        assert entry["negatives"] == 200 and entry["faces"] <= 150
    left = stage.passing(cascade, faces.validation)
    product = np.prod([entry["detection"] for entry in history])
    assert len(left) / 80 == pytest.approx(product)
    # The windows that get through become fewer and fewer.
    rates = [entry["passed"] / entry["scanned"] for entry in history]
    assert rates[0] == 1 and rates[1] < 0.5 and rates[2] < rates[1] / 2


def test_a_lower_detection_target_is_used(faces, tmp_path):
    settings = SETTINGS._replace(detection=0.8, false_alarm=0.002, stages=1)
    first = begin(faces, tmp_path, settings).run()
    one = begin(faces, tmp_path, settings._replace(stages=2))
    one.run()
    for entry in one.state.history:
        assert 0.8 <= entry["detection"] < 0.97
    # What the first stage loses the second does not learn.
    left = len(stage.passing(first, faces.training))
    assert left == one.state.history[1]["faces"] < 150


def test_the_curve_of_a_stage(trained):
    for entry in trained[0].state.history:
        curve = np.array(entry["roc"])
        assert (np.diff(curve, axis=0) >= 0).all() and curve[-1].tolist() == [1, 1]
        # The point that was chosen lies under the curve's next ones.
        beyond = curve[:, 0] >= entry["false_alarm"]
        assert (curve[beyond, 1] >= entry["detection"] - 1e-9).all()


def test_lines_say_what_happens(trained):
    # On a slow machine it says in between how far it is.
    lines = [line for line in trained[2] if "so far" not in line]
    assert lines[0].startswith("stage 1: 250 of 250 negatives among ")
    assert lines[1].startswith(
        f"stage 1: {trained[1].stage_trees[0]} trees, detection "
    )
    assert len(lines) == 6


def test_it_finds_faces_in_pictures(faces, tmp_path):
    settings = SETTINGS._replace(stages=8, negatives=300)
    cascade = begin(faces, tmp_path, settings, 4).run()
    hits = false = 0
    for seed in range(6):
        picture, boxes = made_faces.scene(seed)
        found = cascade.detect(picture, min_neighbors=1)
        near = np.abs(found[:, None] - boxes[None]).max(axis=2) <= 5
        hits, false = hits + near.any(0).sum(), false + (~near.any(1)).sum()
    assert hits >= 7 and false <= 6, (hits, false)


@pytest.mark.parametrize(
    "options",
    [{"method": "adaboost"}, {"depth": 2, "kind": "all"}, {"subsample": 0.05}],
)
def test_other_ways_to_boost(faces, tmp_path, options):
    settings = SETTINGS._replace(stages=2, **options)
    one = begin(faces, tmp_path, settings)
    cascade = one.run()
    assert [e["false_alarm"] <= 0.5 for e in one.state.history] == [True, True]
    assert (cascade.tree_nodes.max() > 1) == ("depth" in options)
    path = tmp_path / "x.xml"
    opencv_xml.save_opencv_xml(cascade, path)
    picture = made_faces.scene()[0]
    np.testing.assert_array_equal(
        opencv_xml.load_cascade(path).windows(picture)[0], cascade.windows(picture)[0]
    )


def test_little_memory_draws_features(faces, tmp_path):
    settings = SETTINGS._replace(stages=2, most_bytes=350 * 500)
    lines = []
    one = begin(faces, tmp_path, settings, say=lines.append)
    one.run()
    assert len(one.state.history) == 2
    drawn = [line for line in lines if line.endswith("fit the memory")]
    assert drawn[0].startswith("stage 1: 500 features, drawn from ")


def test_long_searches_and_stages_say_how_far_they_are(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAY_SECONDS", 0)
    lines = []
    begin(faces, tmp_path, SETTINGS._replace(stages=1), say=lines.append).run()
    assert any("negatives so far among" in line for line in lines)
    assert any("trees so far, false alarm" in line for line in lines)


def test_threads_change_nothing(trained, faces, tmp_path):
    two = training.Training(faces, made_faces.backgrounds(4), SETTINGS, tmp_path, 2)
    assert_same(two.run(), trained[1])


def test_it_stops_when_negatives_run_out(faces, tmp_path):
    lines = []
    settings = SETTINGS._replace(stages=30)
    cascade = begin(faces, tmp_path, settings, 1, say=lines.append).run()
    assert 1 <= len(cascade.stage_trees) < 30
    assert lines[-1].endswith("the negatives ran out")


@pytest.fixture(scope="module")
def undisturbed(faces, tmp_path_factory):
    """A training with stages of many trees."""
    one = begin(faces, tmp_path_factory.mktemp("undisturbed"), LONG)
    cascade = one.run()
    assert cascade.stage_trees[1] > 4
    return one, cascade


@pytest.mark.parametrize("moment", ["mined", "tree", "stage"])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    undisturbed, faces, tmp_path, monkeypatch, moment
):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0)
    save = training_state.save

    def stopping(folder, state):
        save(folder, state)
        here = {
            "mined": state.negatives is not None and not state.trees,
            "tree": len(state.trees) == 2,
            "stage": state.negatives is None,
        }
        # In the second stage, or at its beginning.
        if here[moment] and len(state.history) == 1:
            raise Stop

    monkeypatch.setattr(training_state, "save", stopping)
    with pytest.raises(Stop):
        begin(faces, tmp_path, LONG).run()
    monkeypatch.setattr(training_state, "save", save)
    lines = []
    resumed = begin(faces, tmp_path, LONG, say=lines.append)
    assert len(resumed.state.history) == 1
    assert len(resumed.state.trees) == (2 if moment == "tree" else 0)
    assert_same(resumed.run(), undisturbed[1])
    without_seconds = [
        [{k: v for k, v in e.items() if k != "seconds"} for e in one.state.history]
        for one in (resumed, undisturbed[0])
    ]
    assert without_seconds[0] == without_seconds[1]
    assert sum(" negatives among " in line for line in lines) == (
        1 if moment == "stage" else 0
    )


def test_more_stages_go_on_with_a_finished_training(trained, faces, tmp_path):
    short = begin(faces, tmp_path, SETTINGS._replace(stages=1)).run()
    assert len(short.stage_trees) == 1
    assert_same(begin(faces, tmp_path).run(), trained[1])


def test_a_write_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    training_state.save(tmp_path, training_state.State("one"))

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(InputError, match="No space left"):
        training_state.save(tmp_path, training_state.State("two"))
    assert training_state.load(tmp_path, "one").mark == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_damaged_state_is_one_line(faces, tmp_path, content):
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(InputError, match="must be the state of a training") as caught:
        begin(faces, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_state_that_lacks_something_is_one_line(faces, tmp_path):
    np.savez(tmp_path / "state.npz", mark=np.array("x"), trees=np.array(0))
    with pytest.raises(InputError, match="must be the state of a training"):
        begin(faces, tmp_path)


@pytest.mark.parametrize("change", [{"seed": 1}, {"detection": 0.9}, {"depth": 2}])
def test_the_state_of_another_training_is_refused(trained, faces, tmp_path, change):
    training_state.save(tmp_path, trained[0].state)
    assert begin(faces, tmp_path).state.cascade is not None
    with pytest.raises(InputError, match="other settings"):
        begin(faces, tmp_path, SETTINGS._replace(**change))
    with pytest.raises(InputError, match="other settings"):
        begin(training.Faces(*faces[::-1]), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        begin(faces, tmp_path, pictures=5)
    with pytest.raises(InputError, match="other settings"):
        begin(faces, tmp_path, mark="other names")


def test_bad_input_is_one_line(faces, tmp_path):
    none = np.zeros((0, 12, 12), np.uint8)
    flat = np.full((3, 12, 12), 9, np.uint8)
    other = np.zeros((3, 24, 24), np.uint8)
    for wrong, rule in (
        (none, "received 0"),
        (flat, "received 3, all flat"),
        (other, "12x12"),
    ):
        for pair in ((wrong, faces[1]), (faces[0], wrong)):
            with pytest.raises(InputError, match=rule):
                begin(training.Faces(*pair), tmp_path)
    with pytest.raises(InputError, match="received none"):
        begin(faces, tmp_path, pictures=[])
    small = [np.zeros((9, 9), np.uint8)] * 2
    with pytest.raises(InputError, match="2 pictures that give none"):
        begin(faces, tmp_path, pictures=small).run()


def test_flat_faces_are_left_out(faces, tmp_path):
    lines = []
    more = np.concatenate([faces.training, np.full((2, 12, 12), 9, np.uint8)])
    one = begin(training.Faces(more, faces.validation), tmp_path, say=lines.append)
    assert len(one.faces.training) == 150 and "2 flat windows" in lines[0]


def test_the_history_is_plain(trained):
    assert json.loads(json.dumps(trained[0].state.history)) == trained[0].state.history


@pytest.mark.peer
@pytest.mark.parametrize("options", [{}, {"depth": 2, "kind": "all"}])
def test_opencv_4_detects_the_same_windows(faces, tmp_path, options):
    import cv2

    if not hasattr(cv2, "CascadeClassifier"):
        pytest.skip(f"needs OpenCV 4 (the extra peers), this is {cv2.__version__}")
    cascade = begin(faces, tmp_path, SETTINGS._replace(**options)).run()
    path = tmp_path / "trained.xml"
    opencv_xml.save_opencv_xml(cascade, path)
    peer = cv2.CascadeClassifier(str(path))
    assert not peer.empty()
    total = 0
    for seed in range(6):
        picture = made_faces.scene(seed)[0]
        for factor in (1.1, 1.3):
            theirs = peer.detectMultiScale(picture, factor, minNeighbors=0)
            ours = cascade.detect(picture, factor, min_neighbors=0)
            total += len(ours)
            assert sorted(map(tuple, theirs)) == sorted(map(tuple, ours))
    assert total > 50
