"""Windows around objects: what is cut, how copies move, and what is refused."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from mlcvtf.data import object_windows
from mlcvtf.data.object_windows import Jitter, Object, cut_windows, read_objects
from mlcvtf.errors import InputError
from tests.data.made_sets import noise, voc_xml, write, write_coco, write_zip


def gray(seed, width=40, height=30):
    return cv2.cvtColor(noise(seed, width, height), cv2.COLOR_RGB2GRAY)


def ramp(width, height):
    """A picture whose values say where they are, x + 2 y at pixels' middles."""
    y, x = np.mgrid[:height, :width]
    return (x + 2 * y).astype(np.uint8)


def test_a_crop_of_the_window_s_size_stays_as_it_is():
    pictures = [gray(i, 19, 19) for i in range(3)]
    found = cut_windows([Object(p) for p in pictures], (19, 19))
    np.testing.assert_array_equal(found, pictures)


def test_a_box_of_the_window_s_size_is_cut_out():
    picture = gray(0)
    found = cut_windows([Object(picture, (5, 3, 21, 15))], (16, 12))
    np.testing.assert_array_equal(found[0], picture[3:15, 5:21])


def test_a_large_box_becomes_means():
    picture = gray(0, 160, 120)
    found = cut_windows([Object(picture, (16, 8, 112, 80))], (24, 18))
    means = picture[8:80, 16:112].reshape(18, 4, 24, 4).mean((1, 3))
    np.testing.assert_allclose(found[0], means, atol=1)


def test_boxes_grow_to_the_aspect_and_by_the_margin():
    one = Object(ramp(100, 60), (30, 20, 40, 40))
    center, sides = object_windows.frame(one, (100, 60), (24, 24))
    np.testing.assert_allclose([center, sides], [[35, 30], [20, 20]])
    _, sides = object_windows.frame(one, (100, 60), (12, 24), margin=0.25)
    np.testing.assert_allclose(sides, [15, 30])
    # Of a whole picture it is the middle.
    center, sides = object_windows.frame(Object(one.image), (100, 60), (24, 24))
    np.testing.assert_allclose([center, sides], [[50, 30], [60, 60]])


def test_the_middle_of_a_frame_stays_in_the_middle():
    picture = ramp(60, 60)
    for sides, degrees in ((20, 0), (33, 0), (20, 30), (47.5, -75)):
        cut = object_windows.sample(
            picture, np.array([28, 31.5]), np.array([sides, sides]), (11, 11), degrees
        )
        # A pixel's middle is at + 0.5.
        assert abs(float(cut[5, 5]) - (27.5 + 2 * 31)) <= 1.01


def test_a_frame_is_turned():
    picture = ramp(60, 60)
    cut = object_windows.sample(
        picture, np.array([30.0, 30.0]), np.array([10.0, 10.0]), (10, 10), 90.0
    )
    np.testing.assert_array_equal(cut, np.rot90(picture[25:35, 25:35]))


def test_what_lies_outside_repeats_the_border():
    picture = np.full((20, 20), 7, np.uint8)
    picture[:, 0] = 200
    found = cut_windows([Object(picture, (-10, 0, 6, 16))], (16, 16))
    assert (found[0][:, :11] == 200).all() and (found[0][:, 11:] == 7).all()


def test_copies_move_within_their_limits_and_mirror():
    picture = ramp(80, 50)
    objects = [Object(picture, (20, 10, 44, 34))]
    jitter = Jitter(40, shift=0.1, scale=0.0, degrees=0.0)
    found = cut_windows(objects, (24, 24), jitter=jitter, mirror=True, seed=1)
    assert len(found) == 82
    np.testing.assert_array_equal(found[1::2], found[::2, :, ::-1])
    np.testing.assert_array_equal(found[0], picture[10:34, 20:44])
    middles = found[::2, 12, 12].astype(float) - found[0, 12, 12]
    assert len(np.unique(middles)) > 8
    # 2.4 pixels to each side, and twice so many down.
    assert 3 < np.abs(middles).max() <= 2.4 * 3 + 1
    scaled = cut_windows(objects, (24, 24), jitter=Jitter(30, 0, 0.2, 0), seed=1)
    spans = scaled[:, 12, 23].astype(float) - scaled[:, 12, 0]
    assert spans[0] == 23 and 18 <= spans.min() < 22 and 24 < spans.max() <= 29
    again = cut_windows(objects, (24, 24), jitter=jitter, mirror=True, seed=1)
    np.testing.assert_array_equal(found, again)


def test_objects_are_boxes_of_coco(tmp_path):
    path = write_coco(tmp_path)
    # Of six boxes one is a crowd.
    assert len(read_objects(path)) == len(read_objects(tmp_path)) == 5
    assert len(read_objects(path, "cat")) == 3
    one = read_objects(path)[0]
    np.testing.assert_allclose(one.box, [0, 3, 4, 8.5])
    assert cut_windows([one], (4, 4)).shape == (1, 4, 4)
    with pytest.raises(InputError, match="has no horse"):
        read_objects(path, "horse")


def test_objects_are_boxes_of_voc(tmp_path):
    write(tmp_path / "one.png", noise(0))
    boxes = [("cat", 2, 3, 12, 13, 0), ("dog", 5, 5, 20, 20, 1)]
    write(tmp_path / "one.xml", voc_xml(boxes))
    # The difficult one does not count.
    assert len(read_objects(tmp_path)) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_objects_are_crops(tmp_path, packed):
    pictures = {f"{i}.png": noise(i) for i in range(3)} | {"deep/4.jpg": noise(4)}
    path = tmp_path / "crops.zip"
    if packed:
        write_zip(path, pictures)
    else:
        for name, picture in pictures.items():
            write(tmp_path / name, picture)
    found = read_objects(path if packed else tmp_path)
    assert len(found) == 4 and all(one.box is None for one in found)
    np.testing.assert_array_equal(object_windows.read_gray(found[1].image), gray(1))
    with pytest.raises(InputError, match="chosen among boxes"):
        read_objects(path if packed else tmp_path, "cat")


def test_objects_are_an_array(tmp_path):
    windows = np.stack([gray(i) for i in range(3)])
    np.savez(tmp_path / "x.npz", faces=windows, wrong=windows[0], other=windows + 0.5)
    found = read_objects(f"{tmp_path}/x.npz:faces")
    np.testing.assert_array_equal([one.image for one in found], windows)
    for name, rule in (
        ("wrong", r"\[n, height"),
        ("other", "float64"),
        ("none", "none"),
    ):
        with pytest.raises(InputError, match=rule):
            read_objects(f"{tmp_path}/x.npz:{name}")
    for data in (b"", b"no archive"):
        (tmp_path / "bad.npz").write_bytes(data)
        with pytest.raises(InputError, match="array of an .npz"):
            read_objects(f"{tmp_path}/bad.npz:faces")
    with pytest.raises(InputError, match="No such file"):
        read_objects(f"{tmp_path}/missing.npz:faces")
    np.savez(tmp_path / "pickled.npz", faces=np.array([{}]))
    with pytest.raises(InputError, match="array of an .npz"):
        read_objects(f"{tmp_path}/pickled.npz:faces")


def test_backgrounds_leave_out_pictures_with_a_class(tmp_path):
    path = write_coco(tmp_path)
    everything = object_windows.read_backgrounds(path)
    without = object_windows.read_backgrounds(path, ["cat"])
    content = json.loads(path.read_text())
    cats = {a["image_id"] for a in content["annotations"] if a["category_id"] == 7}
    assert len(everything) == 4 and len(without) == 4 - len(cats)
    with pytest.raises(InputError, match="has no horse"):
        object_windows.read_backgrounds(path, ["horse"])


def test_backgrounds_are_read_when_looked_at(tmp_path):
    write(tmp_path / "a.png", noise(0))
    write(tmp_path / "b.png", noise(1, 40, 15))
    write(tmp_path / "c.png", b"no picture")
    places = object_windows.read_backgrounds(tmp_path)
    found = object_windows.Backgrounds(places, (16, 16))
    assert len(found) == 2 and found.too_small == 1
    np.testing.assert_array_equal(found[0], gray(0))
    with pytest.raises(InputError, match=r"c\.png"):
        found[1]


def test_a_damaged_archive_is_one_line(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="ZIP archive"):
        read_objects(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert read_objects(path) == []


def test_small_pictures_lie_side_by_side():
    large = gray(0, 40, 12)
    small = [np.full((10, 20), i, np.uint8) for i in range(5)]
    other = np.full((8, 8), 99, np.uint8)
    first, second, third = object_windows.tiled([*small, large, other], 40)
    np.testing.assert_array_equal(first, large)
    # Two in a row and four rows; the fifth is followed by the first again.
    assert second.shape == (40, 40)
    assert second[::10, ::20].tolist() == [[0, 1], [2, 3], [4, 0], [1, 2]]
    assert third.shape == (40, 40) and (third == 99).all()
    # Nine of these fill two.
    assert len(object_windows.tiled([*small, *small[:4]], 40)) == 2


def test_a_frame_that_skips_pixels_as_a_detector_does():
    picture = np.zeros((40, 40), np.uint8)
    picture[1::4] = picture[2::4] = 200
    size = np.array([40.0, 40.0])
    means = object_windows.sample(picture, size / 2, size, (10, 10))
    skipped = object_windows.sample(picture, size / 2, size, (10, 10), finest=1)
    # The mean of four rows, and that of the inner two, between which a look-up falls.
    np.testing.assert_allclose(means, 100, atol=1)
    np.testing.assert_allclose(skipped, 200, atol=1)
