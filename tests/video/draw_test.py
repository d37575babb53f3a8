"""Drawing: where, in which colour, and that no text can break it."""

import os

import numpy as np
import pytest

from mlcvtf.video import draw


def blank(height=240, width=320):
    return np.full((height, width, 3), 90, np.uint8)


def changed(image):
    """The box of all changed pixels: x1, y1, x2, y2 (exclusive)."""
    rows, columns = np.nonzero((image != 90).any(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_box_is_an_outline_of_its_colour():
    image = blank()
    draw.box(image, (50, 60, 150, 160), draw.KNOWN)
    assert tuple(image[60, 100]) == draw.KNOWN == tuple(image[110, 150])
    np.testing.assert_array_equal(image[70:150, 60:140], 90)
    np.testing.assert_allclose(changed(image), (50, 60, 151, 161), atol=1)


@pytest.mark.parametrize(
    "corners",
    [(-50, -50, 900, 900), (10, 10, 10, 10), (np.nan, 0, 5, 5), (-1e20, 0, np.inf, 9)],
)
def test_boxes_anywhere(corners):
    for image in (blank(), blank(1, 1)):
        draw.box(image, corners, draw.KNOWN)
        draw.label(image, "Ada", corners, draw.KNOWN)


def test_label_stands_above_its_box():
    image = blank()
    draw.label(image, "Ada", (100, 100, 160, 180), draw.KNOWN)
    left, top, right, bottom = changed(image)
    assert (left, bottom) == (100, 100)
    assert 8 < bottom - top < 30
    assert 15 < right - left < 60
    # The plate's colour at its edge, white ink inside.
    assert tuple(image[top, left]) == draw.KNOWN
    assert image[top:bottom, left:right].min(-1).max() > 240


def test_label_goes_inside_at_the_top_and_stays_in_the_picture():
    image = blank()
    draw.label(image, "Ada Lovelace", (300, 2, 330, 60), draw.KNOWN)
    left, top, right, _ = changed(image)
    assert top == 2
    assert right == 320 and left < 300


def ink(text):
    image = blank()
    draw.label(image, text, (10, 100, 50, 150), draw.KNOWN)
    return image


def test_umlauts_are_drawn_as_such():
    drawings = [ink(text) for text in ("Zoe", "Zoë", "Zo?", "Zo\ufffd")]
    for index, first in enumerate(drawings):
        for second in drawings[index + 1 :]:
            assert (first != second).any()


def test_undecodable_names_are_drawn_with_a_replacement():
    name = os.fsdecode(b"caf\xe9")
    np.testing.assert_array_equal(ink(name), ink("caf\ufffd"))
    ink("")
    ink("two\nlines\x00")
    ink("x" * 500)


def test_landmarks_and_corner():
    image = blank()
    draw.points(image, [[20.4, 30.2], [200, 100]], draw.UNKNOWN)
    assert tuple(image[30, 20]) == draw.UNKNOWN == tuple(image[100, 200])
    image = blank()
    draw.corner(image, "")
    assert (image == 90).all()
    draw.corner(image, "31.4 fps")
    assert changed(image)[:2] == (0, 0)


def test_without_matplotlib_pillows_own_font(monkeypatch):
    monkeypatch.setattr(draw.importlib.util, "find_spec", lambda name: None)
    draw._font.cache_clear()
    draw._render.cache_clear()
    try:
        assert (ink("Zoë") != ink("Zoe")).any()
    finally:
        draw._font.cache_clear()
        draw._render.cache_clear()
