"""Readers of motion capture: poses computed by hand, damaged files, real ones."""

import zipfile

import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import asf, bvh, mocap
from mlcvtf.segmentation.body_parts.recordings import recordings
from tests.case import shared_data
from tests.segmentation.made_mocap import (
    amc_text,
    asf_text,
    bvh_text,
    waving,
    write_people,
)

CHAIN = """\
:units
  mass 1.0
  length 0.0254
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    name b
    direction 1 0 0
    length 2
    axis 0 0 90 XYZ
    dof rx
    limits (-10 10)
  end
  begin # described after its child
    name a
    direction 1 0 0
    length 1
    axis 0 0 0 XYZ
    dof rz
  end
  begin
    name c
    direction 0 1 0
    length 3
    axis 0 0 0 XYZ
    dof rx ry
  end
:hierarchy
  begin
    root a c
    a b
  end
"""
TURNS = """\
#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
a 90
b 90
c 90 90
2
root 1 2 3 90 0 0
a 90
b 90
c 0 0
"""


def read(skeleton, motion):
    return asf.read_amc(motion, asf.read_asf(skeleton, "s.asf"), "m.amc")


def test_asf_against_poses_computed_by_hand():
    motion = read(CHAIN, TURNS)
    assert motion.names == ("root", "a", "c", "b")
    a, c, b = (motion.ends[:, i] for i in (1, 2, 3))
    # a: x turned by 90 degrees about z is y. b turns about its own x, which its axis
    # lays along y: x becomes -z, and the turn of a leaves that. c: y turned about x
    # is z, then about y is x.
    np.testing.assert_allclose(a[0], [1, 3, 3], atol=1e-12)
    np.testing.assert_allclose(b[0], [1, 3, 1], atol=1e-12)
    np.testing.assert_allclose(c[0], [4, 2, 3], atol=1e-12)
    # In the second frame the root turns about x: y becomes z and -z becomes y.
    np.testing.assert_allclose(a[1], [1, 2, 4], atol=1e-12)
    np.testing.assert_allclose(b[1], [1, 4, 4], atol=1e-12)
    np.testing.assert_allclose(c[1], [1, 2, 6], atol=1e-12)
    np.testing.assert_array_equal(motion.starts[:, 3], a)


def test_the_unit_of_length_scales_bones_and_root():
    metres, cmu = read(CHAIN, TURNS), read(CHAIN.replace("0.0254", "0.45"), TURNS)
    np.testing.assert_allclose(cmu.ends, metres.ends * 0.0254 / 0.45)


BVH = """\
HIERARCHY
ROOT hips
{
  OFFSET 1 1 1
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT arm
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 5 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333
0 100 0 90 90 0 0 0 0
7 100 0 0 0 0 90 90 0
"""


def test_bvh_against_poses_computed_by_hand():
    motion = bvh.read_bvh(BVH, "m.bvh")
    assert motion.names == ("hips", "arm")
    # Z times X: y turns to z about x, and about z it stays. Positions replace offsets.
    np.testing.assert_allclose(motion.starts[0], [[0, 1, 0], [0, 1, 0.1]], atol=1e-12)
    np.testing.assert_allclose(motion.ends[0], [[0, 1, 0.1], [0, 1, 0.15]], atol=1e-12)
    np.testing.assert_allclose(
        motion.ends[1], [[0.07, 1.1, 0], [0.07, 1.1, 0.05]], atol=1e-12
    )
    x, y = motion.rotations[0, 1, :, 0], motion.rotations[0, 1, :, 1]
    np.testing.assert_allclose([x, y], [[0, 1, 0], [0, 0, 1]], atol=1e-12)


def damage(text, *changes):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize(("change", "message"), [
    ((":hierarchy", ":nothing"), ":hierarchy"),
    (("angle deg", "angle rad"), "degrees"),
    (("length 0.0254", "length -1"), "over 0"),
    (("length 0.0254", "length nan"), "numbers"),
    (("direction 1 0 0", "direction 0 0 0"), "bone b"),
    (("direction 1 0 0", "direction 1 0"), "3 numbers"),
    (("axis 0 0 90 XYZ", "axis 0 0 90 XYX"), "an axis"),
    (("dof rx", "dof l"), "rx, ry or rz"),
    (("TX TY TZ", "TX TX TZ"), "the root"),
    (("name b", "name"), "a name"),
    (("a b\n", "a b b\n"), "one parent"),
    (("a b\n", "a b\n b a\n"), "one parent"),
    (("a b\n", "x b\n"), "hangs on the root"),
    (("a b\n", "a " + " ".join(map(str, range(600))) + "\n"), "one parent"),
])  # fmt: skip
def test_a_damaged_skeleton_is_one_clear_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        read(damage(CHAIN, change), TURNS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "message"), [
    (("a 90", "a"), "1 values of a once"),
    (("a 90", "a 90\na 90"), "1 values of a once"),
    (("a 90\n", ""), "1 values of a once|2 frames and 1"),
    (("a 90", "z 90"), "the skeleton's bones"),
    (("a 90", "a 1e300"), "numbers below"),
    (("a 90", "a x\x1b"), "numbers below"),
    ((":DEGREES", ":RADIANS"), "radians"),
    ((":DEGREES\n1", ":DEGREES"), "its number"),
    ((TURNS[TURNS.index("1\n"):], ""), "frames, m.amc has 0"),
])  # fmt: skip
def test_a_damaged_motion_is_one_clear_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        read(CHAIN, damage(TURNS, change))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("change", "message"), [
    (("HIERARCHY", "HIERARCH"), "expected HIERARCHY"),
    (("OFFSET 0 10 0", "OFFSET 0 ten 0"), "numbers"),
    (("CHANNELS 3", "CHANNELS 4"), "3 or 6"),
    (("CHANNELS 3", "CHANNELS 2"), "JOINT"),
    (("Zrotation", "Wrotation"), "a channel"),
    (("JOINT arm", "JOINT hips"), "one joint of a name"),
    (("End Site", "End"), "expected Site"),
    (("}\n  }\n}", "}\n  }"), "its end"),
    (("MOTION", "}\nMOTION"), "MOTION after"),
    (("Frames: 2", "Frames: 3"), "27 numbers, m.bvh has 18"),
    (("Frames: 2", "Frames: -2"), "up to"),
    (("Frames: 2", "Frames: " + "9" * 5000), "up to"),
    (("Frames:", "Pictures:"), "followed by"),
    (("7 100", "inf 100"), "numbers below"),
    ((BVH[BVH.index("MOTION"):], ""), "followed by"),
])  # fmt: skip
def test_a_damaged_bvh_is_one_clear_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        bvh.read_bvh(damage(BVH, change), "m.bvh")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_endless_nesting_and_sizes_are_refused():
    start = "HIERARCHY ROOT r { OFFSET 0 0 0 CHANNELS 0 "
    deep = "".join(f"JOINT j{i} {{ OFFSET 0 0 0 CHANNELS 0 " for i in range(2000))
    with pytest.raises(InputError, match="100 deep"):
        bvh.read_bvh(start + deep, "m.bvh")
    with pytest.raises(InputError, match="1 to 40000 frames"):
        mocap.check_size(40_001, 500, "it")
    with pytest.raises(InputError, match="1 to 512 bones"):
        mocap.check_size(1, 513, "it")


def test_any_damage_is_refused_or_read():
    """Whatever is cut, swapped or replaced, there is a motion or one line."""
    rng = np.random.default_rng(0)
    outcomes = [0, 0]
    for _ in range(600):
        texts = [CHAIN, TURNS, BVH]
        which = rng.integers(3)
        words = texts[which].split(" ")
        for _ in range(rng.integers(1, 4)):
            i, j = rng.integers(len(words), size=2)
            new = [words[j], "", "1e99", "{", "\x00", ":", "end", "-", "\n"]
            words[i] = new[rng.integers(len(new))]
        texts[which] = " ".join(
            words[: rng.integers(len(words))] if rng.random() < 0.1 else words
        )
        try:
            if which < 2:
                motion = read(*texts[:2])
            else:
                motion = bvh.read_bvh(texts[2], "m.bvh")
            assert np.isfinite(motion.ends).all()
            outcomes[0] += 1
        except InputError as error:
            assert str(error).isprintable()
            outcomes[1] += 1
    assert min(outcomes) > 10


def test_recordings_of_a_folder_and_of_an_archive(tmp_path):
    write_people(tmp_path / "cmu", frames=3)
    found = dict(recordings(tmp_path / "cmu"))
    assert list(found) == ["01/01_01", "02/02_01"]
    assert found["01/01_01"].starts.shape == (3, 21, 3)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in (tmp_path / "cmu").rglob("*.a*"):
            archive.write(path, path.relative_to(tmp_path))
    again = dict(recordings(tmp_path / "all.zip"))
    assert list(again) == list(found)
    np.testing.assert_array_equal(again["02/02_01"].ends, found["02/02_01"].ends)
    bandai = tmp_path / "bandai"
    bandai.mkdir()
    with zipfile.ZipFile(bandai / "train.zip", "w") as archive:
        archive.writestr("wave.bvh", bvh_text(2))
    ((clip, motion),) = recordings(bandai)
    assert clip == "bandai/wave" and motion.ends.shape == (2, 19, 3)


def test_what_is_no_motion_capture_is_refused(tmp_path):
    for name, message in (("none", "is neither"), ("empty", "has none")):
        if name == "empty":
            (tmp_path / name).mkdir()
        with pytest.raises(InputError, match=message):
            list(recordings(tmp_path / name))
    people = write_people(tmp_path / "cmu")
    (people / "01" / "second.asf").write_text(asf_text())
    with pytest.raises(InputError, match="one ASF skeleton"):
        list(recordings(people))
    for path in people.rglob("*.asf"):
        path.unlink()
    with pytest.raises(InputError, match="skeleton beside it"):
        list(recordings(people))
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("a.bvh", "x" * 1000)
    data = bytearray(damaged.read_bytes())
    data[40:60] = bytes(20)
    damaged.write_bytes(data)
    with pytest.raises(InputError, match="must be readable"):
        list(recordings(damaged))


def test_a_file_too_large_is_refused(tmp_path, monkeypatch):
    from mlcvtf.segmentation.body_parts import recordings as module

    write_people(tmp_path)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 bytes"):
        list(recordings(tmp_path))


def test_a_made_person_walks_and_turns():
    frames = waving(5)
    motion = read(asf_text(), amc_text(frames))
    root = motion.starts[:, 0]
    np.testing.assert_allclose(root, [frame["root"][:3] for frame in frames])
    lengths = np.linalg.norm(motion.ends - motion.starts, axis=-1)
    assert np.ptp(lengths, axis=0).max() < 1e-12


def test_real_recordings_are_plausible():
    """Bones keep their lengths and those who walk have their feet on the floor."""
    folder = shared_data("cmu_mocap")
    count = 0
    for clip, motion in recordings(folder):
        count += len(motion.starts)
        lengths = np.linalg.norm(motion.ends - motion.starts, axis=-1)
        assert np.ptp(lengths, axis=0).max() < 1e-9
        feet = [motion.names.index(name) for name in ("lfoot", "rfoot", "ltoes")]
        lowest = motion.ends[:, feet, 1].min(1)
        assert -0.1 < lowest.min() < 0.1, clip
        if clip.startswith("02/"):
            # Not when a jump is at its highest.
            assert np.median(lowest) < 0.07, clip
            assert 1.3 < motion.ends[..., 1].max(1).mean() < 1.8
    assert count == 16_929
