"""Fitted samples on disk: equal to fresh ones, and found by their contents alone."""

import numpy as np
import pytest

from mlcvtf.data import examples as module
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.augment_geometry import RandomAffine
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.folders import read_class_folders
from mlcvtf.data.order import Order
from mlcvtf.data.sample_cache import SampleCache
from mlcvtf.errors import InputError
from tests.case import assert_same_tree
from tests.data.datasets_test import made
from tests.data.made_sets import noise, write, write_coco


@pytest.fixture
def decoded(monkeypatch):
    """Lists the pictures that are decoded."""
    names, read = [], module.read_image

    def counted(record):
        names.append(str(record.image).rsplit("/", 1)[-1])
        return read(record)

    monkeypatch.setattr(module, "read_image", counted)
    return names


def classes(folder, count=3):
    for i in range(count):
        write(folder / "ab"[i % 2] / f"{i}.png", noise(i))
    return read_class_folders(folder)


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def all_of(examples):
    return [examples.example(i) for i in range(len(examples))]


@pytest.mark.parametrize("kind", ["label", "mask", "pair", "boxes"])
def test_a_cached_sample_is_the_fresh_one(tmp_path, kind, decoded):
    found = read_coco(write_coco(tmp_path)) if kind == "boxes" else made(kind, 4)
    settings = {"with_crowd": True, "augment": [RandomAffine()] if kind == "boxes"
                else [], "masks": "target"}

    def batches(cache):
        stream = ArrayBatches(Examples(found, (16, 24), cache=cache, **settings),
                              Order(4, 2, seed=1))
        return [stream[i] for i in range(4)]

    fresh = batches(False)
    writing, count = batches(tmp_path / "cache"), len(decoded)
    assert len(files(tmp_path / "cache")) == 4
    reading = batches(tmp_path / "cache")
    assert len(decoded) == count, "decoded again"
    for one, two, three in zip(fresh, writing, reading, strict=True):
        assert_same_tree(two, one)
        assert_same_tree(three, one)


def test_another_picture_or_label_is_another_entry(tmp_path, decoded):
    cache, folder = tmp_path / "cache", tmp_path / "set"
    all_of(Examples(classes(folder), (16, 24), cache=cache))
    before = all_of(Examples(classes(folder), (16, 24), cache=cache))
    assert len(decoded) == 3
    # The same name and length, other contents.
    write(folder / "a/0.png", noise(9))
    after = all_of(Examples(read_class_folders(folder), (16, 24), cache=cache))
    assert decoded[3:] == ["0.png"]
    assert not np.array_equal(after[0][0], before[0][0])
    assert_same_tree(after[1:], before[1:])
    # The same bytes in another class; its neighbours stay as they are.
    (folder / "a/2.png").rename(folder / "b/2.png")
    moved = all_of(Examples(read_class_folders(folder), (16, 24), cache=cache))
    assert decoded[4:] == ["2.png"]
    assert [int(target["label"]) for _, target in moved] == [0, 1, 1]


@pytest.mark.parametrize("change", [
    {"size": (24, 16)}, {"fit": "stretch"}, {"detail": 1.5},
])
def test_other_settings_are_other_entries(tmp_path, change, decoded):
    found = classes(tmp_path / "set", 1)
    settings = {"size": (16, 24), "fit": "letterbox", "detail": 1.0}
    all_of(Examples(found, **settings, cache=tmp_path / "cache"))
    one = all_of(Examples(found, **settings | change, cache=tmp_path / "cache"))
    assert len(decoded) == 2
    assert_same_tree(one, all_of(Examples(found, **settings | change)))


def test_other_versions_of_the_decoder_are_other_entries(tmp_path, monkeypatch):
    record = classes(tmp_path / "set", 1).records[0]
    keys = [SampleCache(tmp_path, {"a": 1}).key(record) for _ in range(2)]
    keys.append(SampleCache(tmp_path, {"a": 2}).key(record))
    monkeypatch.setattr("cv2.__version__", "0")
    keys.append(SampleCache(tmp_path, {"a": 1}).key(record))
    assert keys[0] == keys[1] and len(set(keys)) == 3


@pytest.mark.parametrize("damage", [b"", b"nothing", "cut", "turned"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    cache, found = tmp_path / "cache", classes(tmp_path / "set", 1)
    expected = all_of(Examples(found, (16, 24), cache=cache))
    path, = files(cache)
    data = path.read_bytes()
    if damage == "turned":
        middle = len(data) // 2
        damage = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]
    path.write_bytes(data[:len(data) // 2] if damage == "cut" else damage)
    assert_same_tree(all_of(Examples(found, (16, 24), cache=cache)), expected)
    assert path.read_bytes() == data


def test_a_kill_while_writing_leaves_nothing(tmp_path, monkeypatch):
    cache, found = tmp_path / "cache", classes(tmp_path / "set", 1)

    def cut(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", cut)
    with pytest.raises(KeyboardInterrupt):
        all_of(Examples(found, (16, 24), cache=cache))
    assert files(cache) == []


def test_a_full_disk_is_said_once_and_training_goes_on(tmp_path, monkeypatch, capsys):
    cache, found = tmp_path / "cache", classes(tmp_path / "set", 3)
    expected = all_of(Examples(found, (16, 24)))

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_same_tree(all_of(Examples(found, (16, 24), cache=cache)), expected)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "No space left on device; going on without" in lines[0]
    assert files(cache) == []


def test_a_bad_picture_is_not_kept_and_stays_bad(tmp_path):
    write(tmp_path / "set/a/0.png", "no picture")
    found = read_class_folders(tmp_path / "set")
    for _ in range(2):
        with pytest.raises(InputError, match="0.png"):
            Examples(found, (16, 24), cache=tmp_path / "cache").example(0)
    assert files(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a cache is a folder .*file/cache"):
        Examples(classes(tmp_path / "set"), (8, 8), cache=tmp_path / "file/cache")


def test_detail_is_kept_for_what_is_cut_out(tmp_path):
    found = classes(tmp_path / "set", 1)
    sizes = {detail: Examples(found, (12, 12), fit="stretch", detail=detail)
             .sample(0).size for detail in (1.0, 2.0, 9.0)}
    # 40x30 pixels are all there is.
    assert sizes == {1.0: (12, 12), 2.0: (24, 24), 9.0: (30, 40)}
    assert Examples(found, (12, 12), detail=9.0).example(0)[0].shape == (12, 12, 3)
    for detail, kind in ((0.5, "label"), (2.0, "mask")):
        with pytest.raises(InputError, match="detail is 1 or"):
            Examples(made(kind), (12, 12), detail=detail)
