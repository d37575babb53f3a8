"""The report of a training: its table, and features where they are."""

import json

import cv2
import numpy as np
import pytest

from mlcvtf.detection.viola_jones import features, training, training_report
from mlcvtf.errors import InputError
from tests.detection.viola_jones import made_faces


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of two stages with tilted features, and its cascade."""
    faces = training.Faces(made_faces.faces(60), made_faces.faces(40, 1))
    settings = training.Settings(made_faces.WINDOW, 2, negatives=100, kind="all")
    folder = tmp_path_factory.mktemp("report")
    one = training.Training(faces, made_faces.backgrounds(2), settings, folder, 1)
    return one, one.run()


def write(trained, folder):
    one, cascade = trained
    training_report.write(
        folder, cascade, one.state.history, one.faces.training, one.settings
    )


def test_files(trained, tmp_path):
    write(trained, tmp_path / "new")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {
        "report.md",
        "report.json",
        "roc.png",
        "features.png",
    }
    content = json.loads((tmp_path / "new" / "report.json").read_text())
    assert content["stages"] == trained[0].state.history
    curves = cv2.imread(str(tmp_path / "new" / "roc.png"))
    assert curves.shape[1] > 500 and len(np.unique(curves)) > 20


def test_the_table(trained):
    one, cascade = trained
    lines = training_report.lines(one.state.history, one.settings)
    assert lines[0] == (f"# A cascade of 2 stages, {len(cascade.tree_nodes)} trees")
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    assert rows[0][0] == "| stage" and rows[1][0].startswith("| ---")
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    last, entry = rows[-1], one.state.history[1]
    assert last[1] == str(entry["trees"])
    assert float(last[7]) == pytest.approx(entry["false_alarm"], abs=1e-4)
    product = np.prod([e["detection"] for e in one.state.history])
    assert float(last[8]) == pytest.approx(product, abs=1e-4)


def test_a_feature_lies_where_it_is():
    tile = np.full((80, 80), 100, np.uint8)
    every = features.haar_features((8, 8), "all")
    upright = np.flatnonzero(
        (every.rectangles[:, 0] == [2, 1, 4, 3]).all(1) & ~every.tilted
    )[0]
    drawn = training_report.draw_feature(tile, every, upright, 10)[1:-1, 1:-1, 0]
    # The left half counts less, the right one more, the rest not.
    assert (drawn[12:39, 22:39] == 40).all() and (drawn[12:39, 42:59] > 180).all()
    assert drawn[5, 30] == drawn[60, 30] == 100
    tilted = np.flatnonzero(every.tilted)[0]
    drawn = training_report.draw_feature(tile, every, tilted, 10)[1:-1, 1:-1, 0]
    x, y, w, h = every.rectangles[tilted, 0]
    corner = drawn[int(10 * y) + 8, int(10 * x)]
    assert corner != 100 and drawn[int(10 * y), int(10 * (x + w)) - 2] == 100


def test_rows_are_stages(trained):
    one, cascade = trained
    drawn = training_report.draw_features(cascade, one.faces.training, most=2)
    tile = 12 * round(training_report.TILE / 12) + 2
    assert drawn.shape[0] == 2 * tile and drawn.shape[1] in (tile, 2 * tile)


def test_a_folder_that_cannot_be_written_is_one_line(trained, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write(trained, tmp_path / "file")
