"""Fine-tuning: each verb does what it promises, by the weights after a step."""

import json
import types

import keras
import numpy as np
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.data.batches import EndlessBatches
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.errors import InputError
from mlcvtf.layers.inverted_residual import InvertedResidual
from mlcvtf.training import checkpoint, fit
from mlcvtf.training.fine_tuning import (
    ScaledRate,
    discriminative_rates,
    fix_normalisation,
    freeze,
    stages,
    swap_head,
    two_step,
    unfreeze,
)

SIDE = 16


def pyramid():
    """A backbone of three stages; the second has its normalisation in a block."""
    x = images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="one")(x)
    outputs = {"P1": keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)}
    outputs["P2"] = InvertedResidual(6, 2, 2, 0.9, name="two")(outputs["P1"])
    outputs["P3"] = keras.layers.Conv2D(5, 3, 2, name="three")(outputs["P2"])
    # In another order than they are computed, which must not matter.
    return keras.Model(images, dict(sorted(outputs.items(), reverse=True)))


def classifier(classes=3, **kwargs):
    keras.utils.set_random_seed(2)
    return ImageClassifier(pyramid(), classes, **kwargs)


def data(seed=0, rows=8, classes=3):
    random = np.random.default_rng(seed)
    images = random.uniform(0, 255, (rows, SIDE, SIDE, 3)).astype("float32")
    return images, random.integers(0, classes, rows).astype("int32")


def values(weights):
    # Copies: a view of the device's memory would go on changing.
    return {v.path: np.array(keras.ops.convert_to_numpy(v.value)) for v in weights}


def changed(model, before):
    """Names the variables that are not what they were, bit for bit."""
    return {path for path, v in values(model.weights).items()
            if not np.array_equal(v, before[path])}


def step(model, optimizer, times=1):
    """Fits one batch; returns which variables changed."""
    model.compile(optimizer, run_eagerly=True)
    before = values(model.weights)
    for _ in range(times):
        model.train_on_batch(*data())
    return changed(model, before)


def layers_of(paths):
    return {path.split("/")[0] for path in paths}


def test_stages_are_what_is_computed_between_outputs():
    names = {name: {layer.name for layer in layers}
             for name, layers in stages(classifier()).items()}
    assert list(names) == ["P1", "P2", "P3"]
    assert names["P1"] >= {"one", "norm"}
    assert (names["P2"], names["P3"]) == ({"two"}, {"three"})


def test_every_layer_of_mobilenet_is_in_one_stage():
    backbone = mobilenet_v2(0.35)
    found = sum(stages(backbone).values(), [])
    assert sorted(id(x) for x in found) == sorted(id(x) for x in backbone.layers)
    assert list(stages(backbone)) == ["P1", "P2", "P3", "P4", "P5"]


@pytest.mark.parametrize(
    ("until", "learning"),
    [("P1", {"two", "three", "logits"}), ("P2", {"three", "logits"}),
     (None, {"logits"})],
)
def test_frozen_weights_are_bit_equal_after_steps(until, learning):
    model = classifier()
    freeze(model, until)
    # Weight decay and momentum would move what has no gradient, too.
    moved = step(model, keras.optimizers.AdamW(0.1, weight_decay=0.1), times=3)
    assert layers_of(moved) == learning


def test_a_frozen_stage_computes_the_same_in_training():
    model = classifier()
    freeze(model)
    images = data()[0]
    for training in (True, False):
        outputs = model.backbone(images, training=training)
        again = model.backbone(images[:4], training=training)
        for name in outputs:
            # With the batch's own statistics four pictures would not do as eight do.
            np.testing.assert_allclose(outputs[name][:4], again[name], atol=1e-4)


def test_unfreezing_from_a_stage_on():
    model = classifier()
    freeze(model)
    unfreeze(model, "P3")
    assert layers_of(step(model, keras.optimizers.SGD(0.1))) == {"three", "logits"}
    unfreeze(model)
    assert layers_of(step(model, keras.optimizers.SGD(0.1))) == {
        "one", "norm", "two", "three", "logits"}


def test_unfreezing_what_was_frozen_as_a_whole():
    model = classifier()
    model.backbone.trainable = False
    unfreeze(model, "P2")
    assert layers_of(step(model, keras.optimizers.SGD(0.1))) == {
        "two", "three", "logits"}


def test_a_backbone_alone_is_frozen_as_well():
    model = classifier()
    freeze(model.backbone, "P2")
    assert layers_of(step(model, keras.optimizers.SGD(0.1))) == {"three", "logits"}


@pytest.mark.parametrize("verb", [freeze, unfreeze])
def test_an_unknown_stage_is_one_line(verb):
    with pytest.raises(InputError, match="stages are P1, P2, P3; received P4"):
        verb(classifier(), "P4")


def test_a_model_without_stages_is_one_line():
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="outputs are P1, P2 ..., received"):
        freeze(flat)


def is_normalisation(path):
    return path.split("/")[-1] in ("gamma", "beta", "moving_mean", "moving_variance")


def test_fixed_normalisation_stays_within_blocks_too():
    model = classifier()
    moving = {path for path in step(model, keras.optimizers.SGD(0.1))
              if is_normalisation(path)}
    # Without it all four parts of all four layers move.
    assert len(moving) == 16
    fix_normalisation(model)
    moved = step(model, keras.optimizers.SGD(0.1))
    assert not {path for path in moved if is_normalisation(path)}
    assert layers_of(moved) == {"one", "two", "three", "logits"}
    unfreeze(model)
    assert moving <= step(model, keras.optimizers.SGD(0.1))


def updates(model, optimizer):
    """Gives the change of each weight by one step."""
    model.compile(optimizer, run_eagerly=True)
    before = values(model.trainable_weights)
    model.train_on_batch(*data())
    after = values(model.trainable_weights)
    return {path: after[path] - before[path] for path in before}


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.5)


def constant():
    return 0.1


@pytest.mark.parametrize("rate", [0.05, schedule()], ids=["number", "schedule"])
def test_the_backbone_moves_by_the_factors_under_gradient_descent(rate):
    plain = updates(classifier(), keras.optimizers.SGD(rate))
    model = classifier()
    scaled = updates(model, discriminative_rates(
        model, keras.optimizers.SGD(rate), factor=0.5, stage_factor=0.25))
    expected = {"logits": 1, "three": 0.5, "two": 0.125, "norm": 0.03125,
                "one": 0.03125}
    assert layers_of(plain) == set(expected)
    for path, change in plain.items():
        factor = expected[path.split("/")[0]]
        np.testing.assert_allclose(scaled[path], factor * change, rtol=2e-2, atol=1e-6,
                                   err_msg=path)
        if "kernel" in path:
            assert np.abs(change).max() > 1e-4, path


def test_one_rate_for_the_whole_backbone_is_one_optimizer_more():
    model = classifier()
    made = discriminative_rates(model, keras.optimizers.AdamW(0.5, weight_decay=0.25))
    head, = (o for o in made.optimizers if o.learning_rate == 0.5)
    backbone, = (o for o in made.optimizers if o is not head)
    assert float(backbone.learning_rate) == pytest.approx(0.05)
    assert {o.weight_decay for o in made.optimizers} == {0.25}


@pytest.mark.parametrize(
    "optimizer",
    [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.AdamW(0.1, 0.1),
     keras.optimizers.RMSprop(0.1)],
    ids=["sgd", "adamw", "rmsprop"],
)
def test_two_step_trains_the_head_alone_first(optimizer):
    model = classifier()
    fix_normalisation(model)
    made = two_step(model, optimizer, head_steps=3)
    assert layers_of(step(model, made, times=3)) == {"logits"}
    before = values(model.weights)
    model.train_on_batch(*data())
    assert layers_of(changed(model, before)) == {"one", "two", "three", "logits"}


def test_scaled_rate_by_hand():
    rate = ScaledRate(schedule(), 0.1, wait=4)
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(rate))
    for one in (rate, restored):
        found = [float(one(number)) for number in (0, 3, 4, 10)]
        np.testing.assert_allclose(
            found, [0, 0, 0.005 * 0.5**0.4, 0.0025], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": -1.0}, "factor is at least 0 .* received -1.0 and 1.0"),
        ({"stage_factor": 0.0}, "stage_factor above 0, received 0.1 and 0.0"),
        ({"optimizer": keras.optimizers.SGD(0.1, global_clipnorm=1.0)},
         "by clipnorm or clipvalue, received global_clipnorm=1.0"),
        ({"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))},
         "with a learning rate of its own, received LossScaleOptimizer"),
        ({"optimizer": keras.optimizers.SGD(constant)},
         "a number or a keras LearningRateSchedule, received function"),
    ],
)
def test_rates_that_cannot_be_are_one_line(change, message):
    arguments = {"optimizer": keras.optimizers.SGD(0.1)} | change
    with pytest.raises(InputError, match=message) as caught:
        discriminative_rates(classifier(), **arguments)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="head_steps is at least 0, received -1"):
        two_step(classifier(), keras.optimizers.SGD(0.1), head_steps=-1)


def test_a_name_in_backbone_and_head_is_refused():
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, SIDE, name="logits")(images)
    model = ImageClassifier(keras.Model(images, {"P4": x}), 3)
    with pytest.raises(InputError, match="both have logits/"):
        discriminative_rates(model, keras.optimizers.SGD(0.1))


def test_a_saved_training_goes_on_as_if_it_was_not(tmp_path):
    def fresh():
        model = classifier()
        adam = keras.optimizers.AdamW(schedule(), weight_decay=0.1)
        model.compile(two_step(model, adam, 2, factor=0.5, stage_factor=0.5))
        return model

    whole = fresh()
    for seed in range(4):
        whole.train_on_batch(*data(seed))
    half = fresh()
    for seed in range(3):
        half.train_on_batch(*data(seed))
    half.save(tmp_path / "half.keras")
    restored = keras.models.load_model(tmp_path / "half.keras")
    restored.train_on_batch(*data(3))
    assert not changed(restored, values(whole.weights))


class Pictures(EndlessBatches):
    """Noise with classes; fails at one batch, if asked."""

    def __init__(self, killed_at=None):
        super().__init__()
        self.killed_at = killed_at

    def __len__(self):
        return 3

    def batch(self, epoch, index):
        if (epoch, index) == self.killed_at:
            raise OSError("killed")
        return data((epoch, index))


def recipe(killed_at=None):
    def build(config):
        model = swap_head(classifier(5), 3, dropout=0.2)
        fix_normalisation(model)
        adam = keras.optimizers.AdamW(schedule(), use_ema=True, ema_momentum=0.5)
        model.compile(two_step(model, adam, head_steps=2, factor=0.5))
        return model

    return types.SimpleNamespace(
        __name__="tuned", build=build, data=lambda config: Pictures(killed_at),
        finish=lambda config, model, workdir: {
            "weights": [w.tolist() for w in model.get_weights()]})


def test_a_killed_fine_tuning_ends_as_the_undisturbed_one(tmp_path):
    config = config_dict.ConfigDict({"seed": 1, "epochs": 2, "snapshot_epochs": 9,
                                     "checkpoint_minutes": 0.0})
    whole = fit.run(recipe(), config, tmp_path / "whole")
    for killed_at in ((0, 2), (1, 1)):
        with pytest.raises(Exception, match="killed"):
            fit.run(recipe(killed_at), config, tmp_path / "cut")
    assert (tmp_path / "cut" / checkpoint.FILE).is_file()
    assert fit.run(recipe(), config, tmp_path / "cut") == whole
    assert json.loads((tmp_path / "cut/figures.json").read_text()) == whole


def test_a_swapped_head_is_fresh_and_the_backbone_a_copy():
    model = classifier(dropout=0.1)
    freeze(model, "P1")
    fix_normalisation(model)
    before = values(model.weights)
    new = swap_head(model, 5, label_smoothing=0.2)
    assert (new.classes, new.dropout, new.label_smoothing) == (5, 0.1, 0.2)
    assert new(data()[0])["logits"].shape == (8, 5)
    assert not changed(model.backbone, values(new.backbone.weights))
    # All of it learns, and none of it is the old one's.
    assert layers_of(step(new, keras.optimizers.SGD(0.1))) == {
        "one", "norm", "two", "three", "logits"}
    assert not changed(model, before)
    again = swap_head(model, 3)
    assert changed(again, before) == {"logits/kernel"}


def test_a_detectors_head_is_swapped_as_well():
    detector = CenterNet(mobilenet_v2(0.1, None, momentum=0.9), 1, width=4,
                         head_channels=4)
    new = swap_head(detector, 4)
    images = np.zeros((1, 64, 64, 3), "float32")
    assert new(images)["heatmap"].shape == (1, 16, 16, 4)
    assert not changed(detector.backbone, values(new.backbone.weights))


def test_what_has_no_head_to_swap_is_one_line():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(InputError, match="whose config has backbone, Sequential has"):
        swap_head(model, 3)
    with pytest.raises(InputError, match="whose config has drop, ImageClassifier has"):
        swap_head(classifier(), 3, drop=0.5)
