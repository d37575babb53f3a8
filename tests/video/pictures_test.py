"""Pictures of every kind to RGB uint8, and what is refused."""

import io
import os
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mlcvtf.errors import InputError
from mlcvtf.video import pictures

RANDOM = np.random.default_rng(3)
RGB = RANDOM.integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encode(image, name="PNG", **options):
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, name, **options)
    return file.getvalue()


def decode(data):
    result = pictures.decode_picture(data, "it")
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    return result


def test_rgb_is_kept():
    np.testing.assert_array_equal(decode(encode(RGB)), RGB)


def test_grey_becomes_three_equal_channels():
    grey = RGB[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_array_equal(decode(encode(grey)), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_are_scaled(channels, suffix):
    wide = RGB[..., :channels].astype(np.uint16) * 257
    data = cv2.imencode(suffix, wide)[1].tobytes()
    expected = RGB[..., ::-1] if channels == 3 else np.repeat(RGB[..., :1], 3, -1)
    np.testing.assert_array_equal(decode(data), expected)


def test_transparent_shows_white():
    image = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    image[:5, :, 3] = 0
    expected = RGB.copy()
    expected[:5] = 255
    np.testing.assert_array_equal(decode(encode(image)), expected)


def test_transparent_palette():
    image = Image.fromarray(RGB).quantize(16)
    palette = np.asarray(image.convert("RGB"))
    data = encode(image, transparency=3)
    expected = np.where(np.asarray(image)[..., None] == 3, 255, palette)
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_respected(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    result = decode(encode(RGB, exif=exif))
    np.testing.assert_array_equal(result, turns[orientation](RGB))


def test_cmyk_jpeg_and_one_bit():
    assert decode(encode(Image.new("CMYK", (8, 8)), "JPEG")).min() > 250
    assert decode(encode(Image.new("1", (8, 8), 1))).min() == 255


def test_one_pixel(tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(encode(RGB[:1, :1]))
    np.testing.assert_array_equal(pictures.read_picture(path), RGB[:1, :1])


@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_cut_pictures_are_refused(name, share):
    data = encode(RGB, name)
    with pytest.raises(InputError, match="a picture must be .* it ") as error:
        decode(data[: int(share * len(data))])
    assert "\n" not in str(error.value)


def test_flipped_bits_in_png_are_refused():
    data = bytearray(encode(RGB))
    data[len(data) // 2] ^= 8
    with pytest.raises(InputError, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize("size", [(20000, 20000), (10001, 10000)])
def test_too_large_is_refused_from_the_header(size):
    # The pixels are not there: reading them would be another error.
    data = encode(Image.new("1", size))[:100]
    start = time.perf_counter()
    with pytest.raises(InputError, match="at most 100000000 pixels, it has"):
        decode(data)
    assert time.perf_counter() - start < 0.5
    assert pictures.is_picture(io.BytesIO(data))


def test_nearly_too_large_is_read_without_a_warning(recwarn, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)
    assert decode(encode(RGB[:10, :10])).shape == (10, 10, 3)
    with pytest.raises(InputError, match="it has 11x10"):
        decode(encode(RGB[:10, :11]))
    assert not recwarn.list


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"not a picture", b"\x00" * 5000])
def test_other_data(data):
    with pytest.raises(InputError, match="Pillow reads"):
        decode(data)


def test_is_picture():
    assert pictures.is_picture(io.BytesIO(encode(RGB, "JPEG")))
    assert not pictures.is_picture(io.BytesIO(b"RIFF\x00\x00\x00\x00AVI LIST"))


def test_names_that_are_not_utf8(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(path, "wb") as file:
        file.write(encode(RGB))
    for name in (path, os.fsdecode(path)):
        np.testing.assert_array_equal(pictures.read_picture(name), RGB)
    os.truncate(path, 100)
    with pytest.raises(InputError, match="caf\ufffd.png"):
        pictures.read_picture(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        pictures.read_picture(tmp_path / "none.png")
    with pytest.raises(InputError, match="directory"):
        pictures.read_picture(tmp_path)


def test_suffixes():
    assert pictures.has_picture_suffix(b"caf\xe9.JPEG")
    assert not pictures.has_picture_suffix("film.mp4")
    assert not pictures.has_picture_suffix(".jpg")
