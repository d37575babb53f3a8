"""The recipe that fine-tunes: which labels it uses, and from what it starts."""

import keras
import numpy as np
import pytest

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.configs import cifar10_classifier, clothing10_classifier
from mlcvtf.errors import InputError
from mlcvtf.training import recipe as recipes
from tests.case import shared_data


def labels():
    return np.random.default_rng(0).permutation(
        np.repeat(np.arange(4), (50, 30, 20, 3)))


def test_a_smaller_part_is_within_a_larger_one_and_balanced_alike():
    parts = {f: clothing10_classifier.part(labels(), f, 1) for f in (0.1, 0.3, 1.0)}
    assert set(parts[0.1]) < set(parts[0.3]) < set(parts[1.0])
    assert np.bincount(labels()[parts[0.1]]).tolist() == [5, 3, 2, 1]
    assert np.bincount(labels()[parts[0.3]]).tolist() == [15, 9, 6, 1]
    assert parts[1.0].tolist() == list(range(103))
    assert set(clothing10_classifier.part(labels(), 0.1, 2)) != set(parts[0.1])
    for fraction in (0.0, 1.1):
        with pytest.raises(InputError, match=f"above 0 to 1, received {fraction}"):
            clothing10_classifier.part(labels(), fraction, 1)


def test_a_tenth_of_every_class_is_held_out():
    held = clothing10_classifier.held_out(labels())
    assert np.bincount(labels()[held]).tolist() == [5, 3, 2, 1]


def configured(*flags):
    return recipes.configure(clothing10_classifier, [*flags])


def test_tuning_never_trains_on_what_it_scores():
    shared_data("clothing10")
    images = clothing10_classifier.data(configured("--config.tune=True")).images
    whole = clothing10_classifier.data(configured())
    held = whole.images[clothing10_classifier.held_out(whole.labels)]
    assert len(images) + len(held) == len(whole.images) == 3068
    trained = {image.tobytes() for image in images}
    assert not any(image.tobytes() in trained for image in held)
    few = clothing10_classifier.data(configured("--config.fraction=0.1"))
    assert len(few.images) == 307 and set(few.labels) == set(range(10))


def test_it_starts_from_the_backbone_that_is_named(tmp_path):
    path = tmp_path / "model.keras"
    flags = ["--config.alpha=0.1", f"--config.pretrained.pretext={path}"]
    pretext = ImageClassifier(cifar10_classifier.backbone(configured(*flags)), 4)
    pretext.save(path)
    config = configured(*flags, "--config.init=pretext")
    model = clothing10_classifier.build(config)
    for one, other in zip(
        model.backbone.weights, pretext.backbone.weights, strict=True
    ):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    assert model.classes == 10 and model.label_smoothing == config.label_smoothing
    assert isinstance(model.optimizer, keras.optimizers.MultiOptimizer)


def test_what_it_cannot_start_from_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cifar10, pretext, received imagenet"):
        clothing10_classifier.build(configured("--config.init=imagenet"))
    flag = f"--config.pretrained.cifar10={tmp_path}/none.keras"
    with pytest.raises(InputError, match="a trained model at .*, there is none"):
        clothing10_classifier.build(configured(flag))
