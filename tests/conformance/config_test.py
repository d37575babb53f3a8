"""An object rebuilt from its configuration does the same."""

import json

import keras
import numpy as np
import pytest

from tests.case import assert_same_tree
from tests.conformance import descriptors


@pytest.mark.parametrize("name", descriptors.MODELS)
def test_model_round_trip(name):
    instance = descriptors.MODELS[name].build()
    text = json.dumps(keras.saving.serialize_keras_object(instance))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(instance)
    assert json.dumps(keras.saving.serialize_keras_object(copy)) == text


@pytest.mark.parametrize("name", descriptors.MODELS)
def test_a_rebuilt_model_computes_the_same(name):
    model, inputs, outputs = descriptors.reference(name)
    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(model)
    )
    copy(inputs, training=False)
    copy.set_weights(model.get_weights())
    actual = descriptors.arrays(copy(inputs, training=False))
    assert_same_tree(actual, outputs, 1e-6)


@pytest.mark.parametrize("name", [*descriptors.LOSSES, *descriptors.METRICS])
def test_loss_or_metric_round_trip(name):
    descriptor = (descriptors.LOSSES | descriptors.METRICS)[name]
    instance = descriptor.build()
    config = instance.get_config()
    copy = type(instance).from_config(json.loads(json.dumps(config)))
    assert copy.get_config() == config
    values = [evaluate(x, descriptor) for x in (instance, copy)]
    assert np.isfinite(values[0]) and values[0] > 0
    assert values[0] == values[1]


def evaluate(function, descriptor):
    truth, prediction = descriptor.truth(), descriptor.prediction()
    if isinstance(function, keras.metrics.Metric):
        function.update_state(truth, prediction)
        return float(function.result())
    return float(function(truth, prediction))
