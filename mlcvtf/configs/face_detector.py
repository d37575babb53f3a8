r"""The shipped face detector: CenterNet on composed scenes.

Zhou et al., 2019, arXiv:1904.07850 (see `detection/centernet.py`): MobileNetV2 of
width 0.5, stride 4, five landmarks, sizes and landmarks scale-free.

    apps/train --config=face_landmarks --workdir=work/face_landmarks
    apps/train --config=face_detector --workdir=work/face_detector

The shipped weights come from two trainings, since the truth of YouTube Faces was found
to be shifted, and the refinement was added, after the first; boxes and scores are those
of the first:

    apps/train --config=face_detector ...     # old landmarks, without refinement
    ... --config.start=FIRST/model.keras --config.train=landmarks --config.epochs=12 \
        --config.learning_rate=3e-3

Training all weights on for 22 epochs (rate 1e-3, landmark weight 10) brought the error
of the landmarks to 0.061 eye distances rather than 0.067, but AP50 on WIDER mini and
dlib from 0.854 to 0.849, nine wrong faces for three on YouTube Faces val, and one with
a name in a test: it is not what is shipped.

Faces: YouTube Faces train without people of LFW folds 5-6, LFW folds 1-4, CelebA.
Backgrounds: COCO without people, CamVid, clothing, 7-Scenes. Scored on YouTube Faces
val here; `dlib_faces` and `wider_face_mini` are read by `benchmarks/face_detection`
alone. No threshold is tuned on them either: the one in the card is where 95 % of the
boxes are right on scenes composed with another seed. That share was set after a look at
YouTube Faces val at several thresholds: its recall is not independent of the choice.
That a landmark is the mean of two answers was decided there, too.

Cost: 95 and 20 minutes on two busy cores. The recall on new scenes is printed at the
end; the figures on real pictures are in the card.
"""

import json
import pathlib

import keras
import numpy as np

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.data import archives, faces
from mlcvtf.data.face_scenes import FaceScenes
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.export import keras_file
from mlcvtf.ops import boxes as box_ops
from mlcvtf.training import options

# Share of right boxes on new scenes at the score threshold: scenes are crowded, so that
# fewer would show boxes on things in every picture without a face.
RIGHT = 0.95
# That from which on a second face in a gallery picture is believed.
CERTAIN = 0.995


def get_config():
    """Returns the recipe's settings."""
    return {
        "data": "../shared/data",
        "landmarks": "work/face_landmarks/landmarks.npz",
        # A detector whose weights are the first; heads that it lacks begin with random
        # ones, as all do for "".
        "start": "",
        # "all", or "landmarks" for the heads of the landmarks alone: boxes and scores
        # stay those of `start`.
        "train": "all",
        "seed": 0,
        "snapshot_epochs": 5,
        "epochs": 36,
        "steps": 200,
        "landmark_weight": 5.0,
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "alpha": 0.5,
        "width": 32,
        "head_channels": 32,
        "max_faces": 16,
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic pictures."""
    config.update(data="", landmarks="", epochs=1, steps=2)


def build(config):
    """Builds the detector."""
    model = CenterNet(
        mobilenet_v2(config.alpha, last_channels=None, momentum=0.99),
        classes=1,
        landmarks=5,
        width=config.width,
        head_channels=config.head_channels,
        scale_free=True,
        neighbours=1,
        refine=True,
        size_weight=1.0,
        landmark_weight=config.landmark_weight,
        name="face_detector",
    )
    if config.start:
        given = keras_file.load(config.start)
        parts = [(model.backbone, given.backbone), (model.decoder, given.decoder)]
        parts += [(model.heads[name], head) for name, head in given.heads.items()]
        for mine, theirs in parts:
            mine.set_weights(theirs.get_weights())
    options.one_of("train", config.train, ("all", "landmarks"))
    if config.train == "landmarks":
        model.backbone.trainable = model.decoder.trainable = False
        for name in ("heatmap", "offset", "size"):
            model.heads[name].trainable = False
    steps = config.steps * config.epochs
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=min(300, steps // 10),
    )
    model.compile(
        keras.optimizers.AdamW(
            rate,
            weight_decay=config.weight_decay,
            clipnorm=10.0,
            use_ema=True,
            ema_momentum=0.998,
        )
    )
    return model


def face_list(config) -> list:
    """Reads all training faces with their landmarks."""
    stored = faces.stored_landmarks(config.landmarks)
    images, _ = faces.read_landmarks(config.data)
    found = [(image, stored["ytf"][str(i)]) for i, image in enumerate(images)] * 2
    scored = faces.scored_people(config.data)
    for part in faces.read_training(config.data)[0]:
        found += [
            (image, stored[part.source][name])
            for name, image, person in zip(
                part.names, part.images, part.people, strict=True
            )
            if person not in scored
        ]
    return found


def backgrounds(root) -> list:
    """Reads pictures without faces; COCO's, the most varied, count five times."""
    root = pathlib.Path(root)
    coco = json.loads((root / "coco_mini/train.json").read_text())
    person = {c["id"] for c in coco["categories"] if c["name"] == "person"}
    peopled = {a["image_id"] for a in coco["annotations"] if a["category_id"] in person}
    names = [i["file_name"] for i in coco["images"] if i["id"] not in peopled]
    pictures = list(
        archives.read_pictures(root / "coco_mini/train.zip", names).values()
    )
    pictures *= 5
    others = (
        ("camvid", "train.zip", 3),
        ("clothing10", "train.zip", 9),
        ("rgbd_7scenes", "seqA_train.zip", 2),
    )
    for folder, archive, step in others:
        rows = archives.read_table(root / folder / archive.replace("zip", "csv"))
        names = [row.get("file") or row["color"] for row in rows][::step]
        pictures += archives.read_pictures(root / folder / archive, names).values()
    return pictures


def data(config):
    """Gives composed scenes."""
    if not config.data:
        generator = np.random.default_rng(0)
        picture = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        points = np.array(
            [[20, 25], [44, 25], [32, 38], [23, 50], [41, 50]], np.float32
        )
        return FaceScenes(
            [(picture, points)],
            [picture],
            ((64, 2), (96, 1)),
            config.steps,
            config.max_faces,
            config.seed,
        )
    return FaceScenes(
        face_list(config),
        backgrounds(config.data),
        steps=config.steps,
        max_faces=config.max_faces,
        seed=config.seed,
        workers=1,
    )


def finish(config, model, workdir):
    """Picks the score threshold on newly composed scenes and writes `card.json`."""
    if not config.data:
        return {"parameters": model.count_params()}
    scenes = data(config)
    scenes.seed, scenes.steps = config.seed + 1, 40
    threshold, share, certain = thresholds(model, scenes)
    extra = {
        "labels": ["face"],
        "thresholds": {"score": threshold, "certain": certain},
        # With all in int8 `apps/export --evaluate` found AP50 0.758, not 0.794, on
        # WIDER mini; that it is these two heads was then seen on composed scenes.
        "keep_float": ["heatmap", "size"],
        "box": "upright box around the similarity of five landmarks: "
        "mlcvtf/embedding/alignment.py, face_box",
        "licence": "research only: so are the pictures of LFW, CelebA, YouTube Faces, "
        "CamVid and 7-Scenes",
        "data": [
            "faces: YouTube Faces with landmarks (Wolf et al., 2011) without people of "
            "LFW folds 5-6; LFW folds 1-4 and CelebA with landmarks by "
            "configs/face_landmarks.py",
            "backgrounds: COCO without people, CamVid, Clothing dataset, 7-Scenes",
        ],
        "recipe": {"config": "mlcvtf/configs/face_detector.py", **config.to_dict()},
        "figures": [
            {
                "figure": "recall on new scenes at the score threshold, where 95 % of "
                "the boxes are right",
                "value": share,
                "command": "apps/train --config=face_detector",
            }
        ],
    }
    (pathlib.Path(workdir) / "card.json").write_text(json.dumps(extra, indent=2) + "\n")
    return {
        "parameters": model.count_params(),
        "score threshold": threshold,
        "score from which 99.5 % are faces": certain,
        "recall on new scenes, where 95 % of the boxes are right": share,
    }


def thresholds(model, scenes) -> tuple[float, float, float]:
    """Picks scores on composed scenes.

    Returns:
        The lowest score from which on 95 % of the boxes are right, the recall there,
        and the lowest from which on 99.5 % are.
    """
    scores, true, total = [], [], 0
    for batch in range(len(scenes)):
        images, targets = scenes[batch]
        found = model.detect(images)
        boxes, points = (
            keras.ops.convert_to_numpy(found[k]) for k in ("boxes", "scores")
        )
        for i in range(len(images)):
            truth = targets["boxes"][i][targets["labels"][i] >= 0]
            total += len(truth)
            free = np.ones(len(truth), bool)
            overlaps = keras.ops.convert_to_numpy(
                box_ops.iou(boxes[i][:, None], truth[None])
            )
            for overlap, score in zip(overlaps, points[i], strict=True):
                hit = bool(len(truth)) and (overlap * free).max() >= 0.5
                if hit:
                    free[(overlap * free).argmax()] = False
                scores.append(score)
                true.append(hit)
    order = np.argsort(scores)[::-1]
    hits = np.cumsum(np.array(true)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    right, certain = (
        np.flatnonzero(precision >= share)[-1] for share in (RIGHT, CERTAIN)
    )
    return (
        round(float(scores[order[right]]), 3),
        round(float(hits[right] / total), 4),
        round(float(scores[order[certain]]), 3),
    )
