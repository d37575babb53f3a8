"""TFDS is not installed here: a stand-in with its interface, and its absence."""

import sys
import types

import numpy as np
import pytest

from mlcvtf.data.examples import Examples
from mlcvtf.data.tfds import read_tfds
from mlcvtf.errors import InputError
from tests.data.made_sets import encoded, noise

IMAGES = [encoded(noise(i)) for i in range(2)]
OBJECTS = {"bbox": np.array([[0.5, 0, 1, 0.25]], np.float32), "label": np.array([1]),
           "is_difficult": np.array([True])}


def stand_in(monkeypatch, rows, features):
    names = types.SimpleNamespace(names=["cat", "dog"])
    features = {"image": None} | {
        key: {"label": names} if key == "objects" else names for key in features}

    def load(name, split, data_dir, download, with_info, decoders):
        assert with_info and decoders == {"image": "skip"}
        if name != "pets":
            raise ValueError(f"no dataset {name}\nat all")
        return rows, types.SimpleNamespace(features=features)

    module = types.SimpleNamespace(
        load=load, as_numpy=iter,
        decode=types.SimpleNamespace(SkipDecoding=lambda: "skip"))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def test_objects_are_y_first_and_fractions(monkeypatch):
    rows = [{"image": IMAGES[0], "objects": OBJECTS}]
    stand_in(monkeypatch, rows, ["objects"])
    found = read_tfds("pets", "train")
    assert found.kind == "boxes" and found.names == ("cat", "dog")
    record, = found.records
    assert record.boxes.tolist() == [[0, 15, 10, 30]]
    assert record.labels.tolist() == [1] and record.difficult.tolist() == [True]
    image, _ = Examples(found, (30, 40)).example(0)
    np.testing.assert_array_equal(image, noise(0))


def test_labels(monkeypatch):
    rows = [{"image": data, "label": i} for i, data in enumerate(IMAGES)]
    stand_in(monkeypatch, rows, ["label"])
    found = read_tfds("pets", "test")
    assert found.kind == "label" and [r.label for r in found.records] == [0, 1]


def test_what_cannot_be_had_is_one_line(monkeypatch):
    stand_in(monkeypatch, [], ["caption"])
    with pytest.raises(InputError, match="pets has image, caption"):
        read_tfds("pets", "train")
    with pytest.raises(InputError, match="no dataset cats at all"):
        read_tfds("cats", "train")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match="tensorflow-datasets, which is not installed"):
        read_tfds("pets", "train")
