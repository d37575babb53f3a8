"""A quick look of the benchmark of boosting."""

from tests.benchmarks.face_benchmarks_test import program
from tests.case import child


def test_help_answers(capsys):
    boosting = program("boosting")
    run = boosting.command.run
    assert run(boosting.main, boosting.FLAGS, boosting.__doc__, ["x", "--help"]) == 0
    assert "--peer_features" in capsys.readouterr().out


def test_a_quick_look():
    result = child(
        [
            "benchmarks/boosting",
            "--samples=203",
            "--features=3000",
            "--peer_features=300",
            "--rounds=2",
        ]
    )
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.splitlines()
    assert lines[2].startswith("3000 features of 203 windows (")
    rows = [line.split(" | ") for line in lines if line.startswith("| ours")]
    names = [row[0].strip("| ") for row in rows]
    assert names[:4] == ["ours, adaboost"] * 2 + ["ours, gentle"] * 2
    assert "ours, TensorFlow ops, adaboost" in names
    assert all(float(row[3]) > 0 for row in rows)
    # What is measured on fewer features is scaled to all.
    last = rows[names.index("ours, TensorFlow ops, adaboost")]
    scaled = float(last[6].strip(" |"))
    assert abs(scaled - 10 * float(last[3])) < 1e-3 + 1e-3 * scaled
