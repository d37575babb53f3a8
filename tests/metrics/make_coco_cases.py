"""Makes `coco_cases.json`: random detections with the numbers of pycocotools.

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install pycocotools numpy
    /tmp/peers/bin/python tests/metrics/make_coco_cases.py

The file is checked in so that the default tests need no pycocotools.
"""

import contextlib
import io
import json
import pathlib

import numpy as np

FIXTURE = pathlib.Path(__file__).with_name("coco_cases.json")
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs",
         "ARm", "ARl")


def random_case(seed: int, pictures: int, classes: int, most: int, found: int = 6):
    """Draws truths and detections near them, with what is hard to get right.

    There are equal scores, equal boxes, several detections of one truth, detections
    of classes that the picture or the whole set lacks, crowds, pictures with nothing,
    mask areas that put an object into another range than its box, and overlaps of
    exactly 0.5 and 0.75 (all coordinates are whole numbers).

    Returns:
        Lists of one dict per picture: detections and truths, plain Python numbers.
    """
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, most + 1)) * int(rng.random() > 0.1)
        sides = np.exp(rng.uniform(np.log(6), np.log(200), (count, 2))).round()
        corner = rng.integers(0, 250, (count, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1).astype(int)
        labels = rng.integers(0, classes, count)
        area = (sides.prod(axis=1) * rng.uniform(0.4, 1.0, count)).round(1)
        truths.append({"boxes": boxes.tolist(), "labels": labels.tolist(),
                       "crowd": (rng.random(count) < 0.1).tolist(),
                       "area": area.tolist()})
        number = int(rng.integers(0, found * (most + 1)))
        detections.append(_random_detections(rng, boxes, labels, number, classes))
    return detections, truths


def _random_detections(rng, boxes, labels, number, classes):
    """Draws detections: most are shaken truths, some are anywhere."""
    rows, names = [], []
    for _ in range(number):
        kind = rng.random() if len(boxes) else 1.0
        if kind < 0.75:
            pick = rng.integers(len(boxes))
            box, name = boxes[pick].astype(float), labels[pick]
            size = np.tile(box[2:] - box[:2], 2)
            box = (box + rng.normal(0, rng.choice([0.02, 0.1, 0.3]), 4) * size).round()
            if kind < 0.1:
                # Half or three quarters of the truth: an overlap on the threshold.
                box = boxes[pick].astype(float)
                box[2] = box[0] + (box[2] - box[0]) * rng.choice([0.5, 0.75])
                box = box.round()
        else:
            corner = rng.integers(0, 250, 2)
            box = np.concatenate([corner, corner + rng.integers(5, 150, 2)])
            name = rng.integers(0, classes + 1)
        box[2:] = np.maximum(box[2:], box[:2] + 1)
        rows.append([int(v) for v in box])
        names.append(int(name))
    scores = rng.choice(np.arange(1, 100) / 100, number).tolist()
    return {"boxes": rows, "scores": scores, "labels": names}


def pycocotools_numbers(detections, truths) -> dict[str, float]:
    """Returns the twelve numbers of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_dataset(truths)
        truth.createIndex()
        results = coco_results(detections)
        found = truth.loadRes(results) if results else COCO()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats.tolist(), strict=True))


def coco_dataset(truths) -> dict:
    """Writes truths as the JSON of COCO: 1-based ids, boxes as corner and size."""
    annotations = []
    for image, picture in enumerate(truths):
        rows = zip(picture["boxes"], picture["labels"], picture["crowd"],
                   picture["area"], strict=True)
        for (x1, y1, x2, y2), label, crowd, area in rows:
            annotations.append({
                "id": len(annotations) + 1, "image_id": image + 1,
                "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area, "iscrowd": int(crowd)})
    categories = sorted({a["category_id"] for a in annotations})
    return {"images": [{"id": i + 1} for i in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": c} for c in categories]}


def coco_results(detections) -> list[dict]:
    """Writes detections as the list that `COCO.loadRes` reads."""
    return [
        {"image_id": image + 1, "category_id": label + 1, "score": score,
         "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for image, picture in enumerate(detections)
        for (x1, y1, x2, y2), score, label in zip(
            picture["boxes"], picture["scores"], picture["labels"], strict=True)
    ]


def main():
    """Writes the fixture."""
    cases = []
    for seed, sizes in enumerate([(6, 3, 4), (6, 1, 12), (10, 5, 3), (3, 2, 9, 20)]):
        detections, truths = random_case(seed, *sizes)
        cases.append({"detections": detections, "truths": truths,
                      "pycocotools": pycocotools_numbers(detections, truths)})
    FIXTURE.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
