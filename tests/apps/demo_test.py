"""The demo's clip shows who it says, and its judge finds what is wrong."""

import pytest

from mlcvtf.commands import demo, demo_clip
from mlcvtf.commands.demo_clip import COLLINS, HOPPER, Placement
from tests.case import ROOT, child


def face(name, x, y, half=30):
    return {"box": [x - half, y - half, x + half, y + half], "name": name}


@pytest.fixture
def truth():
    """Four frames with Hopper at the left, the last three with Collins at the right."""
    hopper = Placement(HOPPER, (100, 100), 80, 0, 1, 1)
    collins = Placement(COLLINS, (300, 100), 80, 0, 1, 1)
    return [[hopper], [hopper, collins], [hopper, collins], [hopper, collins]]


def records(names):
    """Returns JSON records with a face on Hopper and on Collins in every frame."""
    return [{"frame": i, "faces": [face(names[0], 110, 95), face(names[1], 290, 100)]}
            for i in range(4)]


def test_right_names_pass(truth):
    found = records((HOPPER, COLLINS))
    found[0]["faces"].pop()
    summary, wrong = demo.judge(found, truth, [COLLINS, HOPPER])
    assert wrong == []
    assert summary == [f"frames with the right name, {HOPPER}: 4 of 4 with {HOPPER}",
                       f"frames with the right name, {COLLINS}: 3 of 3 with {COLLINS}",
                       "boxes where there is no face: 0 in 4 frames"]


def test_a_name_for_nobody_is_wrong(truth):
    found = records((HOPPER, COLLINS))
    summary, wrong = demo.judge(found, truth, [COLLINS, HOPPER])
    assert summary[-1] == "boxes where there is no face: 1 in 4 frames"
    assert wrong == [f"frame 0: no person was named {COLLINS}"]


def test_swapped_names_are_wrong(truth):
    _, wrong = demo.judge(records((COLLINS, HOPPER)), truth, [COLLINS, HOPPER])
    assert f"frame 1: {HOPPER} was named {COLLINS}" in wrong
    assert f"frame 1: {COLLINS} was named {HOPPER}" in wrong


def test_a_stranger_must_stay_unknown(truth):
    found = records(("unknown", COLLINS))
    found[0]["faces"].pop()
    summary, wrong = demo.judge(found, truth, [COLLINS])
    assert wrong == []
    assert summary[0] == f"frames with the right name, unknown: 4 of 4 with {HOPPER}"
    _, wrong = demo.judge(records((COLLINS, COLLINS)), truth, [COLLINS])
    assert f"frame 2: {HOPPER} was named {COLLINS}" in wrong


def test_nothing_found_fails(truth):
    empty = [{"frame": i, "faces": []} for i in range(4)]
    _, wrong = demo.judge(empty, truth, [COLLINS, HOPPER])
    assert wrong == [
        f"{HOPPER} got the right name in 0 of 4 frames, at least 50% are needed",
        f"{COLLINS} got the right name in 0 of 3 frames, at least 50% are needed",
    ]


def test_the_clip_shows_skin_where_it_says_a_face_is():
    count = 0
    for image, placements in demo_clip.frames():
        assert image.shape == (480, 640, 3)
        for placement in placements:
            x, y = map(round, placement.centre)
            reach = round(placement.height / 6)
            skin = image[y - reach:y + reach, x - reach:x + reach]
            red, green, blue = skin.mean((0, 1))
            # The middle of a face in these photographs is redder than it is blue.
            assert red > 1.15 * blue and red > green
            count += 1
    assert count >= 70


def test_gallery_has_one_portrait_each(tmp_path):
    demo_clip.write_gallery(tmp_path, [COLLINS])
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")] == [
        f"{COLLINS}/portrait.png"]


def test_the_demo_itself(tmp_path):
    if len(list((ROOT / "saved_models").glob("face_*/card.json"))) < 2:
        pytest.skip("needs both shipped face models, saved_models/ lacks them")
    result = child([ROOT / "apps" / "demo", f"--output={tmp_path}"], timeout=180)
    assert result.returncode == 0, result.stderr
    assert "plumbing, not the accuracy" in " ".join(result.stdout.split())
    for name in ("named_both", "named_only_collins"):
        assert (tmp_path / f"{name}.mp4").stat().st_size > 10_000
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert len(lines) == sum(1 for _ in demo_clip.frames())
    assert HOPPER not in (tmp_path / "named_only_collins.jsonl").read_text()


def test_an_output_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = child([ROOT / "apps" / "demo", f"--output={tmp_path}/file/folder"])
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1 and "--output" in result.stderr
