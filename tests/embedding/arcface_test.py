"""The face embedder: losses by hand, verbs, and that it learns."""

import keras
import numpy as np
import pytest

from mlcvtf.embedding.arcface import VARIANTS, FaceEmbedder, face_backbone
from mlcvtf.layers.margins import AdditiveAngularMargin


def tiny(**arguments):
    keras.utils.set_random_seed(0)
    return FaceEmbedder(face_backbone("tiny", features=16, size=32), **arguments)


def test_shipped_variant_is_within_its_budget():
    assert face_backbone("base").count_params() <= 1_500_000


def test_unit_norm_and_centre():
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3))
    centre = np.arange(16.0)
    plain = tiny(centre=centre)
    outputs = {k: np.asarray(v) for k, v in plain(images).items()}
    moved = outputs["features"] + centre
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(outputs["embedding"], expected, atol=1e-5)


def test_embed_is_the_same_for_a_mirrored_face():
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    model = tiny(centre=np.ones(16))
    one, two = (
        np.asarray(model.embed(images)),
        np.asarray(model.embed(images[:, :, ::-1])),
    )
    np.testing.assert_allclose(one, two, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    features = (
        np.asarray(model(images)["features"])
        + np.asarray(model(images[:, :, ::-1])["features"])
    ) / 2 + 1
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(one, features, atol=1e-5)


def test_long_centre_turns_distances_into_cosines():
    generator = np.random.default_rng(0)
    z = generator.normal(size=(20, 16))
    centre = np.zeros(16)
    centre[0] = 300.0
    unit = (z + centre) / np.linalg.norm(z + centre, axis=1, keepdims=True)
    distance = ((z[:, None, 1:] - z[None, :, 1:]) ** 2).sum(-1)
    np.testing.assert_allclose(
        1 - unit @ unit.T, distance / (2 * 300**2), rtol=0.05, atol=1e-7
    )


def test_losses_by_hand():
    margin = AdditiveAngularMargin(4, scale=10.0, margin=0.2)
    model = tiny(margin=margin, margin_weight=0.5, teacher_weight=2.0)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3, 16)).astype(np.float32)
    teacher = generator.normal(size=(3, 16)).astype(np.float32)
    labels = np.array([2, -1, 0])
    found = float(
        model.compute_loss(
            y={"identity": labels, "teacher": teacher}, y_pred={"features": features}
        )
    )
    logits = np.asarray(margin(features, labels))
    log_share = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -0.5 * (log_share[0, 2] + log_share[2, 0]) / 2
    expected += 2.0 * ((features - teacher) ** 2).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_batch_without_identities():
    model = tiny(margin=AdditiveAngularMargin(4))
    features = np.ones((2, 16), np.float32)
    loss = model.compute_loss(
        y={"identity": np.array([-1, -1])}, y_pred={"features": features}
    )
    assert float(loss) == 0


def test_learns_to_tell_patterns_apart():
    generator = np.random.default_rng(0)
    patterns = generator.uniform(0, 255, (6, 32, 32, 3))
    labels = np.repeat(np.arange(6), 8)
    images = (patterns[labels] + generator.normal(0, 25, (48, 32, 32, 3))).astype("f4")
    model = tiny(margin=AdditiveAngularMargin(6, scale=16.0, margin=0.2))
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(images, {"identity": labels}, epochs=25, batch_size=16, verbose=0)
    fresh = patterns[labels] + generator.normal(0, 25, (48, 32, 32, 3))
    vectors = np.asarray(model.embed(fresh.astype(np.float32)))
    same = labels[:, None] == labels[None]
    cosine = vectors @ vectors.T
    assert cosine[same].min() > cosine[~same].max()


def test_refuses_bad_arguments():
    with pytest.raises(ValueError, match="variant is one of .*received 'huge'"):
        face_backbone("huge")
    with pytest.raises(ValueError, match="size is a multiple of 16, received 100"):
        face_backbone("base", size=100)
    with pytest.raises(ValueError, match=r"one number per feature \(16\), received 3"):
        tiny(centre=[1, 2, 3])
    assert set(VARIANTS) >= {"tiny", "base"}
