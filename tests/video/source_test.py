"""Sources: files whole and in order, live sources as late as possible."""

import functools
import http.server
import os
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mlcvtf.errors import InputError
from mlcvtf.video import source
from mlcvtf.video.frame import Ended
from tests.video import stream

CODECS = {".avi": "MJPG", ".mkv": "mp4v", ".mp4": "mp4v"}


def grey(value, height=64, width=96):
    return np.full((height, width, 3), value, np.uint8)


def write_video(path, count=30, rate=10.0):
    """Writes a video whose frame i has the colour (R, G, B) = (4 i, 255 - 4 i, 100)."""
    codec = cv2.VideoWriter_fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(path), codec, rate, (96, 64))
    assert writer.isOpened()
    for index in range(count):
        image = grey(100)
        image[..., 2], image[..., 1] = 4 * index, 255 - 4 * index
        writer.write(image)
    writer.release()
    return path


def read_all(opened, every=1):
    try:
        return [frame for frame in opened.frames(every) if frame is not None]
    finally:
        opened.close()


@pytest.mark.parametrize("suffix", CODECS)
def test_video_is_read_whole_and_in_order(tmp_path, suffix):
    opened = source.open_source(str(write_video(tmp_path / f"film{suffix}")))
    assert (opened.length, opened.rate, opened.live, opened.still) == (
        30,
        10.0,
        False,
        False,
    )
    frames = read_all(opened)
    assert [frame.index for frame in frames] == list(range(30))
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 10, atol=1e-3)
    for index, frame in enumerate(frames):
        assert frame.image.shape == (64, 96, 3)
        expected = (4 * index, 255 - 4 * index, 100)
        np.testing.assert_allclose(frame.image.mean((0, 1)), expected, atol=6)


def test_every_third_frame(tmp_path):
    opened = source.open_source(str(write_video(tmp_path / "film.avi")))
    frames = read_all(opened, every=3)
    assert [frame.index for frame in frames] == list(range(0, 30, 3))
    for frame in frames:
        assert abs(frame.image[..., 0].mean() - 4 * frame.index) < 6
        assert abs(frame.time - frame.index / 10) < 1e-3


@pytest.mark.parametrize("name", [b"caf\xe9.avi", b"%02d.avi", b"a:b.avi", b"film"])
def test_names_that_ffmpeg_would_misread(tmp_path, name):
    film = write_video(tmp_path / "film.avi")
    path = os.path.join(os.fsencode(tmp_path), name)
    os.rename(film, path)
    assert len(read_all(source.open_source(os.fsdecode(path)))) == 30


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_cut_video_keeps_what_was_read(tmp_path, suffix):
    film = write_video(tmp_path / f"film{suffix}", count=60)
    os.truncate(film, film.stat().st_size // 2)
    opened = source.open_source(str(film))
    frames = []
    with pytest.raises(Ended, match=r"read (\d+) of 60 frames") as error:
        for frame in opened.frames():
            frames.append(frame)
    opened.close()
    assert error.value.exit_code == 4
    assert 10 < len(frames) < 50
    assert f"read {len(frames)} of 60 frames" in str(error.value)
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_a_video_without_its_index(tmp_path):
    film = write_video(tmp_path / "film.mp4")
    os.truncate(film, film.stat().st_size // 2)
    with pytest.raises(InputError, match="film.mp4 lacks its index: read 0") as error:
        source.open_source(str(film))
    assert error.value.exit_code == 4


@pytest.mark.parametrize("text", ["none.mp4", "", "two\nlines"])
def test_a_source_that_is_not_there(text):
    with pytest.raises(InputError, match="a source must be a webcam") as error:
        source.open_source(text)
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)


def test_a_file_that_is_neither_picture_nor_video(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"notes.txt \(5 bytes\) is neither"):
        source.open_source(str(path))


def test_a_webcam_that_is_not_there():
    with pytest.raises(InputError, match="no.* 97") as error:
        source.open_source("97")
    assert error.value.exit_code == 1


def test_one_picture_without_suffix(tmp_path):
    Image.fromarray(grey(70)).save(tmp_path / "picture", "PNG")
    opened = source.open_source(str(tmp_path / "picture"))
    assert opened.still and opened.length == 1
    (frame,) = read_all(opened)
    assert frame[:2] == (0, 0.0)
    np.testing.assert_array_equal(frame.image, grey(70))


def test_one_broken_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="a.png"):
        read_all(source.open_source(str(tmp_path / "a.png")))


def test_a_folder_of_pictures(tmp_path):
    for name, value in (("b.png", 20), ("a.png", 10), ("d.bmp", 40), (".e.png", 50)):
        Image.fromarray(grey(value, 8 + value)).save(tmp_path / name)
    (tmp_path / "c.jpg").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("no picture")
    lines = []
    opened = source.open_source(str(tmp_path), notify=lines.append)
    assert opened.length == 4
    frames = read_all(opened)
    assert [(f.index, f.time, int(f.image[0, 0, 0])) for f in frames] == [
        (0, 0.0, 10),
        (1, 1.0, 20),
        (3, 3.0, 40),
    ]
    assert len(lines) == 1 and "c.jpg" in lines[0]


def test_a_folder_without_a_usable_picture(tmp_path):
    with pytest.raises(InputError, match="must hold pictures"):
        source.open_source(str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"broken")
    (tmp_path / "b.jpg").write_bytes(b"")
    opened = source.open_source(str(tmp_path), notify=lambda line: None)
    with pytest.raises(InputError, match="none of the 2"):
        read_all(opened)


def levels(count=60):
    return [grey(4 * i) for i in range(count)]


def test_a_live_source_faster_than_the_app():
    with stream.serve(levels(), rate=100) as camera:
        opened = source.open_source(camera.url)
        assert opened.live and opened.length is None
        frames = []
        for frame in opened.frames():
            if frame is None:
                continue
            # The newest frame that the server had sent, not the next in a queue.
            frames.append((frame, len(camera.sent)))
            if len(frames) == 8:
                break
            time.sleep(0.1)
        opened.close()
    indices = [frame.index for frame, _ in frames]
    assert np.diff(indices).min() >= 4
    for frame, sent in frames[1:]:
        assert abs(int(frame.image[0, 0, 0]) - 4 * (frame.index % 60)) <= 3
        # What is on its way through sockets and decoder is a few frames at most.
        assert sent - frame.index <= 8


def test_a_live_source_slower_than_the_app():
    with stream.serve(levels(), rate=20) as camera:
        opened = source.open_source(camera.url)
        frames = []
        for frame in opened.frames():
            if frame is not None:
                frames.append(frame)
            if len(frames) == 20:
                break
        opened.close()
    # Each frame once, and none left out but where this machine was busy.
    indices = [frame.index for frame in frames]
    assert np.diff(indices).min() >= 1
    assert indices[-1] - indices[0] <= 22
    values = [int(frame.image[0, 0, 0]) for frame in frames]
    expected = [4 * (frame.index % 60) for frame in frames]
    np.testing.assert_allclose(values, expected, atol=3)
    duration = frames[-1].time - frames[0].time
    assert 0.7 < duration < 2.0
    assert frames[0].time == 0.0


@pytest.mark.parametrize("how", ["stalled", "closed"])
def test_a_stream_that_comes_back(how):
    lines = []
    with stream.serve(levels(), rate=50) as camera:
        opened = source.open_source(camera.url, reconnect=5.0, notify=lines.append)
        event = getattr(camera, how)
        seen, silent = 0, 0
        for frame in opened.frames():
            if frame is None:
                silent += 1
                continue
            seen += 1
            if seen == 10 and not event.is_set():
                event.set()
                # A stalled connection is closed for good, or the old one goes on.
                threading.Timer(1.0, event.clear).start()
            if seen == 40:
                break
        opened.close()
    assert seen == 40
    assert silent >= 5
    if how == "closed":
        assert camera.connections >= 2
        assert len(lines) == 2
        assert "stopped, trying again for 5 s" in lines[0]
        assert "is back after" in lines[1]


def test_a_stalled_connection_is_made_anew():
    lines = []
    with stream.serve(levels(), rate=50) as camera:
        # The time-out is a third of this, so the reader gives up before the camera.
        opened = source.open_source(camera.url, reconnect=3.0, notify=lines.append)
        seen = 0
        for frame in opened.frames():
            seen += frame is not None
            if seen == 10 and frame is not None:
                camera.stalled.set()
                threading.Timer(1.4, camera.stalled.clear).start()
            if seen == 30:
                break
        opened.close()
        assert camera.connections >= 2
    assert "is back" in lines[-1]


@pytest.mark.parametrize("how", ["stalled", "closed"])
def test_a_stream_that_stays_away(how):
    with stream.serve(levels(), rate=50) as camera:
        opened = source.open_source(camera.url, 1.0, notify=lambda line: None)
        last = time.monotonic()
        with pytest.raises(Ended, match="sent nothing for 1 s") as error:
            for seen, frame in enumerate(opened.frames()):
                if frame is not None:
                    last = time.monotonic()
                if seen == 5:
                    getattr(camera, how).set()
        gone = time.monotonic() - last
        opened.close()
    assert error.value.exit_code == 3
    assert 0.9 < gone < 2.5


def test_a_stream_that_never_answers():
    lines = []
    start = time.monotonic()
    with pytest.raises(InputError, match="did not within 1 s") as error:
        source.open_source("http://me:secret@127.0.0.1:9/x", 1.0, lines.append)
    assert error.value.exit_code == 3
    assert 0.9 < time.monotonic() - start < 3
    assert len(lines) == 1
    assert "secret" not in lines[0] + str(error.value)


@pytest.mark.parametrize("cut", [False, True])
def test_a_recording_behind_a_url_is_read_whole(tmp_path, cut):
    film = write_video(tmp_path / "film.avi")
    if cut:
        os.truncate(film, film.stat().st_size // 2)
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = source.open_source(f"http://127.0.0.1:{server.server_port}/film.avi")
        assert (opened.live, opened.length) == (False, 30)
        if cut:
            with pytest.raises(Ended, match="of 30 frames"):
                read_all(opened)
        else:
            frames = read_all(opened)
            assert [frame.index for frame in frames] == list(range(30))
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_an_undecodable_url_never_reaches_opencv():
    with pytest.raises(InputError, match="printable ASCII"):
        source.open_source(os.fsdecode(b"http://caf\xe9/"))
