"""Folders of depth pictures: what is written is read, and what is damaged refused."""

import cv2
import numpy as np
import pytest

from mlcvtf.errors import InputError
from mlcvtf.segmentation.body_parts import picture_folder, pose_sets
from mlcvtf.segmentation.body_parts.camera import Camera
from mlcvtf.segmentation.body_parts.picture_folder import PictureFolder, read_depth
from tests.segmentation.made_mocap import write_people

SMALL = Camera(80, 60, 71.4)


def made(folder, count=7):
    """Writes pictures of a made person; returns the poses and the pictures."""
    poses = pose_sets.read_poses([write_people(folder / "mocap", ("01",), 4)])
    pictures = list(picture_folder.render_pictures(poses, count, 3, SMALL))
    target = folder / "train"
    target.mkdir()
    picture_folder.write_pictures(target, poses, pictures)
    return target, poses, pictures


def test_what_is_written_is_read(tmp_path):
    folder, poses, pictures = made(tmp_path)
    read = PictureFolder(folder)
    assert len(read) == 7 and read.names[:2] == ["000000", "000001"]
    assert set(read.subjects) == {"01"} and set(read.clips) == {"01/01_01"}
    for i, (_, picture) in enumerate(pictures):
        depth, labels = read.read(i)
        assert depth.dtype == np.float32 and labels.dtype == np.uint8
        np.testing.assert_allclose(depth, picture.depth, atol=0.00051)
        np.testing.assert_array_equal(labels, picture.labels)
        np.testing.assert_allclose(read.joints[i], picture.joints, atol=0.00006)
        assert read.yaw[i] == pytest.approx(np.degrees(picture.placement.yaw), abs=0.01)
    expected = [poses.frames[position] for position, _ in pictures]
    np.testing.assert_array_equal(read.frames, expected)
    assert read.joints.shape == (7, 16, 3) and read.joints.dtype == np.float32
    np.testing.assert_array_equal(depth == 0, labels == 0)


def test_batches_stream_over_the_folder(tmp_path):
    folder, _, _ = made(tmp_path)
    read = PictureFolder(folder)
    batches = list(read.batches(3))
    assert [len(depth) for depth, _, _ in batches] == [3, 3, 1]
    assert batches[0][0].shape == batches[0][1].shape == (3, 60, 80)
    np.testing.assert_array_equal(np.concatenate([b[2] for b in batches]), read.joints)
    ((depth, labels, joints),) = read.batches(5, [6, 0])
    np.testing.assert_array_equal(depth[1], read.read(0)[0])
    np.testing.assert_array_equal(labels[0], read.read(6)[1])
    np.testing.assert_array_equal(joints, read.joints[[6, 0]])


def test_every_pose_comes_before_one_comes_twice(tmp_path):
    _, poses, _ = made(tmp_path)
    order = picture_folder.picture_poses(poses, 12, 5)
    for start in (0, 4, 8):
        assert sorted(order[start : start + 4]) == [0, 1, 2, 3]
    # A smaller set is the beginning of a larger one, pictures included.
    np.testing.assert_array_equal(order[:6], picture_folder.picture_poses(poses, 6, 5))
    few = list(picture_folder.render_pictures(poses, 2, 3, SMALL))
    more = list(picture_folder.render_pictures(poses, 5, 3, SMALL))
    np.testing.assert_array_equal(few[1][1].depth, more[1][1].depth)
    other = list(picture_folder.render_pictures(poses, 2, (3, 1), SMALL))
    assert other[0][1].placement.yaw != few[0][1].placement.yaw


def write_png(path, image):
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def assert_refused(message, action, *arguments):
    with pytest.raises(InputError, match=message) as caught:
        action(*arguments)
    assert str(caught.value).isprintable()


def test_a_damaged_picture_is_refused(tmp_path):
    folder, _, _ = made(tmp_path, 1)
    read = PictureFolder(folder)
    depth, parts = folder / "000000_depth.png", folder / "000000_parts.png"
    good = parts.read_bytes()
    for image, message in (
        (np.full((60, 80), 32, np.uint8), "labels are 0 to 31"),
        (np.zeros((60, 81), np.uint8), "one for each pixel"),
        (np.zeros((60, 80), np.uint16), "grey PNG of 8 bits"),
        (np.zeros((60, 80, 3), np.uint8), "grey PNG of 8 bits"),
    ):
        write_png(parts, image)
        assert_refused(message, read.read, 0)
    parts.write_bytes(good)
    whole = depth.read_bytes()
    for data in (b"", whole[:30], b"no picture at all, but long enough for a header"):
        depth.write_bytes(data)
        assert_refused("16 bits", read_depth, depth)
    # A header that says 100,000 x 100,000 is not believed.
    depth.write_bytes(whole[:16] + b"\0\1\x86\xa0" * 2 + whole[24:])
    assert_refused("16 bits", read_depth, depth)
    write_png(depth, np.zeros((60, 80), np.uint8))
    assert_refused("16 bits", read_depth, depth)
    depth.unlink()
    assert_refused("No such file", read.read, 0)


def test_pictures_of_two_sizes_are_refused(tmp_path):
    folder, _, _ = made(tmp_path, 2)
    write_png(folder / "000001_depth.png", np.ones((30, 40), np.uint16))
    write_png(folder / "000001_parts.png", np.ones((30, 40), np.uint8))
    assert_refused("one size", list, PictureFolder(folder).batches(2))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("picture,", "photo,", "column picture"),
    ("foot_right_z", "foot", "column foot_right_z"),
    ("000000,", "../x,", "letters and digits"),
    ("000001,01,", "000001,01,x,", "as many values"),
    ("000001,01,", "000001,", "as many values"),
    (",0.", ",x.", "joints are numbers"),
    (",0.", ",nan#0.", "joints are numbers"),
])  # fmt: skip
def test_a_damaged_table_is_refused(tmp_path, old, new, message):
    folder, _, _ = made(tmp_path, 2)
    table = folder / "joints.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    assert_refused(message, PictureFolder, folder)
    table.write_text(text.split("\n")[0] + "\n")
    assert_refused("a row for each", PictureFolder, folder)
    table.write_bytes(b"\xff\xfe\x00")
    assert_refused("a row for each", PictureFolder, folder)
    table.unlink()
    assert_refused("No such file", PictureFolder, folder)
