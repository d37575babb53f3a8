"""The shipped face embedder: a teacher's embeddings and ArcFace on identities.

Deng et al., 2019, arXiv:1801.07698 (see `embedding/arcface.py`). The features regress
the embeddings of a CC0 network (`shared/data/face_teacher`), so part of what this model
knows came from there; ArcFace adds the identities of LFW folds 1-4 and CelebA.

    apps/train --config=face_landmarks --workdir=work/face_landmarks
    apps/train --config=face_embedder --workdir=work/face_embedder

It writes `model.keras` and `card.json`, with thresholds calibrated on the people set
aside, for `apps/export`. LFW folds 5 and 6 are read by no recipe: their figures come
from `benchmarks/face_verification`, on the exported model.
"""

import json
import pathlib

import keras
import numpy as np

from mlcvtf.data import faces
from mlcvtf.data.face_crops import FaceCrops
from mlcvtf.embedding import alignment, calibration
from mlcvtf.embedding.arcface import FaceEmbedder, face_backbone
from mlcvtf.layers.margins import AdditiveAngularMargin
from mlcvtf.metrics import verification
from mlcvtf.training import options

# The teacher's numbers have a standard deviation of 0.05.
TEACHER_SCALE = 20.0
# Length of the constant vector, in the teacher's units, that makes cosines order
# pairs as distances do. The teacher's own embeddings want a long one (LFW folds 1-4:
# accuracy 0.907 without, 0.926 at 0.6, 0.941 at 1.5, 0.945 by distance), the student's
# a shorter one: `finish` prints the error of each on the people set aside.
CENTRE = 0.6
CENTRES = (0.0, 0.3, 0.6, 1.0, 1.5)
LICENCE = "research only: the pictures of LFW and CelebA are for research alone"
DATA = [
    "LFW folds 1-4 (Huang et al., 2007), without the people set aside; research",
    "CelebA (Liu et al., 2015), celeba_wild_ids and celeba_aligned_10k, without the "
    "people set aside; non-commercial research",
    "landmarks for alignment by configs/face_landmarks.py, trained on YouTube Faces "
    "(Wolf et al., 2011)",
    "embeddings by face_recognition_densenet_model_v1 of davisking/dlib-models (CC0), "
    "which this network learned to repeat; that network saw CelebA in its own training",
]


def get_config():
    """Returns the recipe's settings."""
    return {
        "data": "../shared/data",
        "landmarks": "work/face_landmarks/landmarks.npz",
        "seed": 0,
        "snapshot_epochs": 4,
        "epochs": 25,
        "batch_size": 128,
        "learning_rate": 3e-3,
        "weight_decay": 0.02,
        "variant": "base",
        "policy": "mixed_bfloat16",
        "teacher_weight": 1.0,
        "margin_weight": 0.02,
        "margin": 0.3,
        "scale": 24.0,
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic faces."""
    config.update(data="", landmarks="", epochs=1, batch_size=8, variant="tiny")


def pictures(config):
    """Reads the pictures to train on: images, matrices, identities, teacher."""
    images, matrices, people, teacher = [], [], [], []
    stored = faces.stored_landmarks(config.landmarks)
    for part in faces.read_training(config.data)[0]:
        images += part.images
        matrices += [
            alignment.similarity(stored[part.source][name], alignment.TEMPLATE)
            for name in part.names
        ]
        people += part.people
        teacher.append(faces.read_teacher(config.data, part.source, part.names)[0])
    return images, np.stack(matrices), labels(people), np.concatenate(teacher)


def labels(people) -> np.ndarray:
    """Numbers the people who have two pictures or more; the others get -1."""
    counts = {}
    for person in people:
        counts[person] = counts.get(person, 0) + 1
    known = sorted(person for person, count in counts.items() if count > 1)
    number = {person: i for i, person in enumerate(known)}
    return np.array([number.get(person, -1) for person in people], np.int32)


def synthetic(config):
    """Makes a few noise pictures in place of faces, for the smoke form."""
    generator = np.random.default_rng(config.seed)
    images = list(generator.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8))
    matrices = np.repeat(np.array([[[1.75, 0, 0], [0, 1.75, 0]]]), 16, axis=0)
    teacher = generator.normal(0, 0.05, (16, 128)).astype(np.float32)
    return images, matrices, np.arange(16, dtype=np.int32) // 2, teacher


def data(config):
    """Gives jittered aligned crops with identities and teacher embeddings."""
    images, matrices, identity, teacher = (
        pictures(config) if config.data else synthetic(config)
    )
    targets = {"identity": identity, "teacher": teacher * TEACHER_SCALE}
    return FaceCrops(
        images, matrices, targets, batch_size=config.batch_size, seed=config.seed
    )


def build(config):
    """Builds the embedder with its margin head."""
    dataset = data(config)
    with options.precision(config.policy):
        backbone = face_backbone(config.variant)
    classes = int(dataset.targets["identity"].max()) + 1
    model = FaceEmbedder(
        backbone,
        AdditiveAngularMargin(classes, config.scale, config.margin),
        margin_weight=config.margin_weight,
        teacher_weight=config.teacher_weight,
    )
    steps = len(dataset) * config.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=steps // 20,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "alpha"])
    model.compile(options.scale_loss(optimizer, config.policy))
    return model


def centre(config, length=CENTRE):
    """Returns the constant vector along the teacher's offset, in feature units."""
    if not config.data or not config.teacher_weight:
        return np.zeros(128)
    offset = faces.read_teacher(config.data, "lfw", [])[1]
    return offset / np.linalg.norm(offset) * length * TEACHER_SCALE


def finish(config, model, workdir):
    """Writes the bare embedder and `card.json`, calibrated on the people set aside."""
    workdir = pathlib.Path(workdir)
    backbone = face_backbone(config.variant)
    backbone.set_weights(model.backbone.get_weights())
    bare = FaceEmbedder(backbone, centre=centre(config), name="face_embedder")
    bare.save(workdir / "model.keras")
    if not config.data:
        return {"parameters": bare.count_params()}
    features, people = features_aside(config, bare)
    errors = {
        f"equal error rate, people set aside, centre {length}": pair_error(
            unit(features + centre(config, length)), people
        )
        for length in (CENTRES if config.teacher_weight else (0.0,))
    }
    vectors = unit(features + centre(config))
    extra = {
        "labels": [],
        "thresholds": {"margin": name_margin(vectors, people)},
        "calibration": calibration.impostor_quantiles(vectors, people),
        "licence": LICENCE,
        "data": DATA if config.teacher_weight else DATA[:-1],
        "recipe": {"config": "mlcvtf/configs/face_embedder.py", **config.to_dict()},
        "figures": [
            {
                "figure": "equal error rate, all pairs of pictures of people set aside",
                "value": pair_error(vectors, people),
                "command": "apps/train --config=face_embedder",
            }
        ],
    }
    (workdir / "card.json").write_text(json.dumps(extra, indent=2) + "\n")
    (workdir / "set_aside.txt").write_text("\n".join(sorted(set(people))) + "\n")
    return {
        "parameters": bare.count_params(),
        "pictures set aside": len(people),
        "margin": extra["thresholds"]["margin"],
    } | errors


def unit(vectors):
    """Returns rows of unit norm."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def pair_error(vectors, people) -> float:
    """Returns the equal error rate of all pairs of pictures."""
    first, second = np.triu_indices(len(people), 1)
    scores = np.sum(vectors[first] * vectors[second], axis=1)
    same = np.array(people)[first] == np.array(people)[second]
    return round(float(verification.equal_error_rate(scores, same)), 4)


def name_margin(vectors, people) -> float:
    """Returns the lead over the second name that 99 % of right answers have.

    Of the people set aside, everybody with two pictures or more is enrolled with the
    first; the others are queries.
    """
    people = np.array(people)
    names, first, count = np.unique(people, return_index=True, return_counts=True)
    enrolled = first[count > 1]
    queries = np.setdiff1d(np.flatnonzero(np.isin(people, names[count > 1])), enrolled)
    scores = vectors[queries] @ vectors[enrolled].T
    best = scores.argmax(axis=1)
    right = people[enrolled][best] == people[queries]
    ordered = np.sort(scores[right], axis=1)
    return round(float(np.quantile(ordered[:, -1] - ordered[:, -2], 0.01)), 4)


def features_aside(config, model):
    """Computes the features of the people set aside: mean of plain and mirrored."""
    import cv2

    crops, people = [], []
    stored = faces.stored_landmarks(config.landmarks)
    for part in faces.read_training(config.data)[1]:
        for name, image in zip(part.names, part.images, strict=True):
            matrix = alignment.similarity(stored[part.source][name], alignment.TEMPLATE)
            crops.append(cv2.warpAffine(image, matrix, (112, 112)))
        people += part.people
    crops = np.stack(crops).astype(np.float32)
    both = [
        np.concatenate(
            [
                model.backbone.predict_on_batch(part[i : i + 128])
                for i in range(0, len(part), 128)
            ]
        )
        for part in (crops, crops[:, :, ::-1])
    ]
    return (both[0] + both[1]) / 2, people
