"""Options of a training do what they say."""

import math

import keras
import numpy as np
import pytest
from ml_collections.config_dict import config_dict

from mlcvtf.errors import InputError
from mlcvtf.training import options


def config(**changes):
    return config_dict.ConfigDict(options.OPTIMIZER | changes)


def linear(optimizer, policy="float32"):
    """A line with the same weights every time."""
    with options.precision(policy):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[0.5], [-0.3]]), np.array([0.1])])
    model.compile(optimizer, loss="mse")
    return model


def points(count=16):
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 2)).astype(np.float32)
    return x, (x @ [[2.0], [-1.0]]).astype(np.float32)


def rates(steps=20, **changes):
    made = options.schedule(config(learning_rate=0.5, **changes), steps)
    return [float(made(step)) for step in range(steps + 2)]


def fallen(step, steps=20, warmup=4):
    return min((step - warmup) / (steps - warmup), 1.0)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("constant", lambda u: 1.0),
        ("cosine", lambda u: 0.1 + 0.9 * (1 + math.cos(math.pi * fallen(u))) / 2),
        ("polynomial", lambda u: 0.1 + 0.9 * (1 - fallen(u)) ** 2),
        ("step", lambda u: 0.3 ** ((u >= 10) + (u >= 15))),
    ],
)
def test_schedule_is_the_formula(name, formula):
    found = rates(
        schedule=name,
        warmup_steps=4,
        final_rate=0.1,
        power=2.0,
        boundaries=(0.5, 0.75),
        factor=0.3,
    )
    np.testing.assert_allclose(found[:4], [0.125, 0.25, 0.375, 0.5], rtol=1e-6)
    np.testing.assert_allclose(
        found[4:], [0.5 * formula(u) for u in range(4, 22)], rtol=1e-5
    )


def test_schedule_counts_updates_and_survives_a_file():
    once = rates(10, warmup_steps=2)
    twice = rates(20, warmup_steps=2, accumulate=2)
    assert twice[:20:2] == twice[1:20:2] == once[:10]
    made = options.schedule(config(boundaries=(0.2, 0.4), schedule="step"), 10)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(made)
    )
    assert [float(again(u)) for u in range(10)] == [float(made(u)) for u in range(10)]


@pytest.mark.parametrize("name", options.OPTIMIZERS)
def test_accumulation_equals_the_bigger_batch(name):
    keys = {
        "optimizer": name,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
        "learning_rate": 0.1,
        "warmup_steps": 1,
    }
    x, y = points()
    whole = linear(options.optimizer(config(**keys), 2 * 2))
    whole.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    parts = linear(options.optimizer(config(accumulate=4, **keys), 2 * 8))
    parts.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    assert np.abs(whole.get_weights()[0] - [[0.5], [-0.3]]).min() > 0.01


def test_clipping_bounds_the_step_of_all_weights_together():
    keys = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}
    x, y = points()
    moved = []
    for norm in (0.0, 0.2):
        model = linear(options.optimizer(config(clip_norm=norm, **keys), 4))
        before = np.concatenate([w.ravel() for w in model.get_weights()])
        model.fit(x, 10 * y, batch_size=16, epochs=1, verbose=0)
        after = np.concatenate([w.ravel() for w in model.get_weights()])
        moved.append((after - before) / options.OPTIMIZER["learning_rate"])
    norm = np.linalg.norm(moved[0])
    assert norm > 1
    np.testing.assert_allclose(moved[1], moved[0] * 0.2 / norm, atol=1e-4)


def test_the_average_is_that_of_the_weights_after_each_step():
    seen = []

    class Weights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights()[0])

    model = linear(options.optimizer(config(average=0.7, learning_rate=0.1), 8))
    x, y = points()
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[Weights()])
    average = seen[0]
    for weights in seen[1:]:
        average = 0.7 * average + 0.3 * weights
    np.testing.assert_allclose(model.get_weights()[0], average, rtol=1e-5)
    assert np.abs(average - seen[-1]).max() > 0.01


def test_float16_leaves_out_a_step_that_overflows():
    made = options.optimizer(config(policy="mixed_float16", optimizer="sgd"), 2)
    model = linear(made, "mixed_float16")
    assert model.layers[0].compute_dtype == "float16"
    assert model.layers[0].kernel.dtype == "float32"
    before = model.get_weights()[0]
    x, y = points()
    model.fit(x * 1e6, y, batch_size=16, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    assert float(model.optimizer.dynamic_scale) == made.initial_scale / 2
    assert keras.config.dtype_policy().name == "float32"


def test_bfloat16_computes_in_it_without_loss_scaling():
    model = linear(
        options.optimizer(config(policy="mixed_bfloat16"), 2), "mixed_bfloat16"
    )
    assert model.layers[0].compute_dtype == "bfloat16"
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_precision_is_put_back_after_an_error():
    with pytest.raises(RuntimeError), options.precision("mixed_bfloat16"):
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"


def test_biases_and_scales_are_not_decayed():
    keys = {
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.5,
        "schedule": "constant",
        "learning_rate": 0.1,
    }
    model = linear(options.optimizer(config(**keys), 1))
    x = np.zeros((4, 2), np.float32)
    # Nothing to learn: what moves is decay.
    model.fit(x, np.full((4, 1), 0.1, np.float32), verbose=0)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(kernel, [[0.475], [-0.285]], rtol=1e-5)
    np.testing.assert_allclose(bias, [0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is one of adamw, sgd; received adam"),
        ({"schedule": "linear"}, "schedule is one of .*; received linear"),
        ({"policy": "float16"}, "policy is one of .*; received float16"),
        ({"learning_rate": 0.0}, "learning_rate is above 0; received 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is 0 or more; received -1.0"),
        ({"accumulate": 0}, "accumulate is 1 to 10 .*; received 0"),
        ({"accumulate": 11}, "accumulate is 1 to 10 .*; received 11"),
        ({"clip_norm": -1.0}, "clip_norm is 0 or more; received -1.0"),
        ({"average": 1.0}, "average is at least 0 and below 1; received 1.0"),
        ({"final_rate": 2.0}, "final_rate is a share, 0 to 1; received 2.0"),
        ({"warmup_steps": 10}, "below the 10 updates .*; received 10"),
        ({"boundaries": (0.8, 0.6)}, "boundaries is .*; received"),
        ({"boundaries": (0.5, 1.5)}, "boundaries is .*; received"),
    ],
)
def test_keys_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        options.optimizer(config(**changes), 10)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stopping_mode": "low"}, "is one of min, max; received low"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes is 0 or more; received -1"),
        ({"checkpoint_steps": -1}, "checkpoint_steps is 0 or more; received -1"),
        ({"patience": 0}, "patience is 1 or more; received 0"),
    ],
)
def test_keys_of_a_run_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        options.check_run(config_dict.ConfigDict(options.RUN | changes))
