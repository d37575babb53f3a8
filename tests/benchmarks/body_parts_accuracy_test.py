"""The benchmark of the forest's accuracy, in its smallest form."""

import pytest

from mlcvtf.segmentation.body_parts import picture_folder, pose_sets
from tests.case import child
from tests.segmentation.made_mocap import write_people


@pytest.mark.slow
def test_tables_of_a_tiny_forest(tmp_path):
    poses = pose_sets.read_poses([write_people(tmp_path / "mocap", ("01",), 6)])
    for seed, (part, count) in enumerate((("train", 8), ("test", 4))):
        (tmp_path / "bodies" / part).mkdir(parents=True)
        pictures = picture_folder.render_pictures(poses, count, (0, seed))
        picture_folder.write_pictures(tmp_path / "bodies" / part, poses, pictures)
    arguments = [
        "benchmarks/body_parts_accuracy",
        f"--pictures={tmp_path / 'bodies'}",
        f"--work={tmp_path / 'work'}",
        "--counts=3,8",
        "--depths=2",
        "--depth=5",
        "--trees=2",
        "--features=10",
        "--thresholds=5",
        "--few=3",
        "--pixels=100",
    ]
    result = child(arguments, timeout=300)
    assert result.returncode == 0, result.stderr
    tables = result.stdout.split("## ")[1:]
    assert [table.splitlines()[0] for table in tables] == [
        "Bagging and random splits",
        "Training pictures",
        "Depth of the trees",
        "Number of trees",
    ]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for table in tables
        for line in table.splitlines()
        if line.startswith("|") and "accuracy" not in line and "---" not in line
    ]
    assert [row[0] for row in rows[4:]] == ["3", "8", "2", "5", "1", "2"]
    # The full forest is the last of each curve.
    assert rows[5][1:] == rows[7][1:] == rows[9][1:]
    assert all(0 < float(row[1]) <= 1 for row in rows)
    # A run goes on with the trees that are there.
    again = child(arguments, timeout=300)
    assert "level" not in again.stderr and again.returncode == 0


def test_bad_input_is_one_line(tmp_path):
    result = child(
        ["benchmarks/body_parts_accuracy", f"--pictures={tmp_path}", "--work=x"]
    )
    assert result.returncode == 1 and "has a joints.csv" in result.stderr
    assert len(result.stderr.splitlines()) == 1
