"""Models with losses of their own, and data that replicas share unequally."""

import numpy as np


def scenes(rows):
    """Gives pictures, and targets with none to three objects, of unequal numbers."""
    random = np.random.default_rng(3)
    pictures = random.uniform(0, 255, (rows, 64, 64, 3)).astype("float32")
    corners = random.uniform(0, 40, (rows, 3, 2))
    boxes = np.concatenate([corners, corners + random.uniform(8, 24, (rows, 3, 2))], -1)
    labels = np.where(np.arange(3) < random.integers(0, 4, (rows, 1)), 0, -1)
    landmarks = corners[:, :, None] + random.uniform(0, 16, (rows, 3, 5, 2))
    landmarks[random.random((rows, 3)) < 0.4] = np.nan
    return pictures, {
        "boxes": boxes.astype("float32"),
        "labels": labels,
        "landmarks": landmarks.astype("float32"),
    }


def people(rows):
    """Gives faces, of which many are unlabelled, and a teacher's features."""
    random = np.random.default_rng(4)
    faces = random.uniform(0, 255, (rows, 32, 32, 3)).astype("float32")
    identity = np.maximum(random.integers(-5, 5, rows), -1)
    teacher = random.normal(size=(rows, 8)).astype("float32")
    return faces, {"identity": identity, "teacher": teacher}


def fitted_model(name, rate, dataset, batch_size):
    """Fits a model of the conformance suites two epochs; returns it and its losses.

    By SGD, since Adam would hide a loss that is a multiple of what it should be.
    """
    import keras

    from tests.conformance import descriptors

    model = descriptors.build(name)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9))
    x, y = dataset
    history = model.fit(x, y, batch_size=batch_size, epochs=2, shuffle=False, verbose=0)
    return model, {"losses": np.array(history.history["loss"])}
