"""tf.data and the PyDataset give equal batches; errors come out as they went in."""

import numpy as np
import pytest

from mlcvtf.data import datasets
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet
from mlcvtf.errors import InputError
from tests.case import assert_same_tree, child, shared_data
from tests.data.made_sets import encoded, noise, write_coco


def made(kind, count=7, bad=()):
    """A set whose i-th picture, mask and partner are noise of seed i, its class i."""
    def place(seed):
        data = b"no picture" if seed in bad else encoded(noise(seed))
        return Place(f"{seed}.png", data=data)

    def mask(seed):
        return Place("mask.png", data=encoded(noise(seed)[..., 0]))

    return RecordSet([Record(place(i), label=i, mask=mask(i), pair=place(i))
                      for i in range(count)], tuple("abcdefg"), kind)


def twins(examples, order, epochs=2):
    """Returns all batches of both."""
    data = datasets.batches(examples, order, epochs)
    arrays = ArrayBatches(examples, order)
    return list(data.as_numpy_iterator()), [
        arrays[i] for i in range(epochs * order.steps)]


@pytest.mark.parametrize("kind", ["label", "mask", "pair", "boxes"])
@pytest.mark.parametrize("remainder", ["drop", "pad"])
def test_both_give_equal_batches(tmp_path, kind, remainder):
    found = read_coco(write_coco(tmp_path, count=7)) if kind == "boxes" else made(kind)
    examples = Examples(found, (16, 24), with_crowd=True)
    order = Order(7, 3, seed=4, remainder=remainder)
    one, other = twins(examples, order)
    assert len(one) == len(other) == (4 if remainder == "drop" else 6)
    for batch, arrays in zip(one, other, strict=True):
        assert_same_tree(tuple(batch), tuple(arrays))
        assert batch[0].dtype == arrays[0].dtype == np.float32
    assert not np.array_equal(one[0][0], one[len(one) // 2][0])
    if kind == "label":
        expected = [order.record(0, p) for p in order.positions(0)]
        assert one[0][1].tolist() == expected
        np.testing.assert_array_equal(
            one[0][0][0], examples.example(expected[0])[0].astype(np.float32))
    if remainder == "pad":
        assert one[2][2].tolist() == [1.0, 0.0, 0.0]


def test_shapes_and_cardinality_are_known(tmp_path):
    examples = Examples(read_coco(write_coco(tmp_path)), (16, 24), max_boxes=5)
    order = Order(4, 2)
    data = datasets.batches(examples, order, epochs=3, start=1)
    assert int(data.cardinality()) == 5 == len(list(data))
    images, targets = data.element_spec
    assert images.shape == (2, 16, 24, 3)
    assert targets["boxes"].shape == (2, 5, 4) and targets["labels"].shape == (2, 5)
    with pytest.raises(InputError, match="a run of 6 batches"):
        datasets.batches(examples, order, epochs=3, start=7)


def test_a_start_in_the_middle_is_the_same_stream():
    examples, order = Examples(made("label"), (16, 24)), Order(7, 2, seed=1)
    whole = list(datasets.batches(examples, order, 3).as_numpy_iterator())
    rest = list(datasets.batches(examples, order, 3, start=4).as_numpy_iterator())
    assert len(whole) == 9 and len(rest) == 5
    for one, other in zip(whole[4:], rest, strict=True):
        assert_same_tree(one, other)


def test_shards_have_equal_steps_and_share_the_batch():
    examples = Examples(made("label"), (16, 24))
    whole = datasets.batches(examples, Order(7, 4, seed=1))
    parts = [datasets.batches(examples, Order(7, 2, seed=1, shard_index=i,
                                              shard_count=2)) for i in range(2)]
    assert {int(d.cardinality()) for d in (whole, *parts)} == {1}
    labels = [next(d.as_numpy_iterator())[1].tolist() for d in (whole, *parts)]
    assert labels[0] == labels[1] + labels[2]


def test_skip_keeps_the_epoch_whole_and_both_alike():
    examples = Examples(made("label", bad=(1, 2, 6)), (16, 24), on_bad_image="skip")
    one, other = twins(examples, Order(7, 1, seed=2), epochs=1)
    assert len(one) == 7
    for batch, arrays in zip(one, other, strict=True):
        assert_same_tree(tuple(batch), tuple(arrays))
    assert set(examples.replaced) == {"1.png", "2.png", "6.png"}
    assert examples.replacements == 6


def test_fail_comes_out_of_both_as_one_line():
    examples, order = Examples(made("label", bad=(3,)), (16, 24)), Order(7, 1)
    with pytest.raises(InputError, match=r"3\.png \(10 bytes\) is not$") as caught:
        with datasets.input_errors():
            list(datasets.batches(examples, order))
    assert "\n" not in str(caught.value)
    arrays = ArrayBatches(examples, order)
    with pytest.raises(InputError, match="3.png"):
        [arrays[i] for i in range(7)]


def test_fail_comes_out_of_fit():
    import keras

    examples, order = Examples(made("label", bad=(3,)), (16, 24)), Order(7, 1)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(7)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(InputError, match=r"3\.png"), datasets.input_errors():
        model.fit(datasets.batches(examples, order), verbose=0, shuffle=False)


def test_other_errors_of_tensorflow_stay_theirs():
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError), datasets.input_errors():
        tf.debugging.assert_equal(tf.constant(1), tf.constant(2))


def test_fit_runs_over_all_epochs_of_one_dataset():
    import keras

    examples, order = Examples(made("label"), (16, 24)), Order(7, 2)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(7)])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(datasets.batches(examples, order, epochs=3), epochs=3,
                        steps_per_epoch=order.steps, verbose=0, shuffle=False)
    assert len(history.epoch) == 3 and int(model.optimizer.iterations) == 9


def test_arrays_need_no_tensorflow(tmp_path):
    """Keras itself is stood in for: without JAX it would import TensorFlow."""
    write_coco(tmp_path)
    code = """
import sys, types
class PyDataset:
    def __init__(self, **kwargs): pass
sys.modules["keras"] = types.SimpleNamespace(
    utils=types.SimpleNamespace(PyDataset=PyDataset))
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
examples = Examples(read_coco(sys.argv[1] + "/train.json"), (16, 24))
images, targets = ArrayBatches(examples, Order(4, 2))[0]
print(images.shape, targets["boxes"].shape, "tensorflow" in sys.modules)
"""
    result = child(["-c", code, tmp_path])
    assert result.stdout == "(2, 16, 24, 3) (2, 3, 4) False\n", result.stderr


@pytest.mark.peer
def test_a_model_fits_on_arrays_with_jax(tmp_path):
    pytest.importorskip("jax", reason="needs jax (the extra jax)")
    write_coco(tmp_path)
    code = """
import sys
import keras
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.augment_geometry import RandomAffine
from mlcvtf.data.augment_mixing import Mosaic
from mlcvtf.data.coco import read_coco
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
examples = Examples(read_coco(sys.argv[1] + "/train.json"), (16, 24),
                    augment=[Mosaic(), RandomAffine()])
class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
    def call(self, images):
        return self.dense(keras.ops.mean(images, axis=(1, 2)))
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        valid = keras.ops.cast(y["labels"] >= 0, "float32")
        return keras.ops.mean(keras.ops.square(y_pred - keras.ops.sum(valid)))
model = Model()
model.compile("sgd")
model.fit(ArrayBatches(examples, Order(4, 2)), steps_per_epoch=2, epochs=2, verbose=0)
print(int(model.optimizer.iterations), keras.backend.backend())
"""
    result = child(["-c", code, tmp_path], KERAS_BACKEND="jax")
    assert result.stdout == "4 jax\n", result.stderr


def test_a_shared_set_streams():
    found = read_coco(shared_data("coco_mini") / "val.json")
    order = Order(57, 8, remainder="pad")
    one, other = twins(Examples(found, (64, 64)), order, epochs=1)
    assert sum(batch[2].sum() for batch in one) == 57
    # 450 boxes of which 8 are crowds; padding repeats pictures with weight 0.
    boxes = sum(int(((b[1]["labels"] >= 0).sum(1) * b[2]).sum()) for b in one)
    assert boxes == 442
    assert_same_tree(one[3][1], other[3][1])
