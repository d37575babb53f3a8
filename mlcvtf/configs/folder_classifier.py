"""Fine-tunes a backbone on your own pictures: one folder per class.

    apps/train --config=folder_classifier --config.data=DIR --workdir=work/mine

`DIR` has a folder of pictures per class, or `train/` and `val/` (`validation/`,
`test/`) with such folders each; a ZIP archive does as well. Without parts a fifth of
every class is held out and scored. `apps/data_check DIR` finds duplicates first, which
held out would flatter the score.

MobileNetV2 (arXiv:1801.04381) from the weights of a shipped model or of any `.keras`
file whose model is or has a backbone; the head learns alone first. `backbone=""` begins
with random weights: with a thousand pictures per class or more and many epochs that can
end higher (docs/training.md, "Fine-tuning").

Reached on 1,000 pictures of CIFAR-10 in ten folders, 15 epochs at 64 pixels: accuracy
0.438 on 500 others, 0.336 from random weights.
"""

import functools
import io
import json
import pathlib

import keras
import numpy as np
from PIL import Image

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.data import augment, folders
from mlcvtf.data.array_batches import ArrayBatches
from mlcvtf.data.augment_geometry import RandomCrop, RandomFlip
from mlcvtf.data.examples import Examples
from mlcvtf.data.order import Order
from mlcvtf.data.places import Place
from mlcvtf.data.records import Record, RecordSet
from mlcvtf.data.samples import OnPicture
from mlcvtf.errors import InputError
from mlcvtf.export import keras_file
from mlcvtf.models_folder import shipped_models
from mlcvtf.training import fine_tuning, options

TRAINING = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "test")
# Pictures that are classified together.
TOGETHER = 64


def get_config():
    """Returns the recipe's settings."""
    return options.PICTURES | {
        # The folder or archive.
        "data": "",
        # Share of every class that is held out where there are no parts; 0: none.
        "held_out": 0.2,
        # Name of a shipped model, path of a .keras file, or "" for random weights of
        # MobileNetV2 at width `alpha`.
        "backbone": "clothing10_classifier",
        "alpha": 0.35,
        "seed": 0,
        "snapshot_epochs": 1000,
        "epochs": 20,
        "batch_size": 32,
        # Side in pixels that pictures are stretched to.
        "size": 96,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "dropout": 0.1,
        "label_smoothing": 0.1,
        # Share of the steps in which the head learns alone, and the backbone's rate
        # from then on, relative to the head's.
        "head_share": 0.1,
        "backbone_factor": 1.0,
        "fixed_normalisation": False,
        # Smallest share of a picture that is cut out, and the change of colours.
        "area": 0.35,
        "colour": 0.5,
        "flip": True,
    }


def smoke(config):
    """Shrinks the recipe to seconds on synthetic pictures."""
    config.update(data="", backbone="", alpha=0.1, epochs=1, batch_size=4, size=32)


def build(config):
    """Builds the classifier on the backbone that the config names."""
    names = records(config)[0].names
    if len(names) < 2:
        raise InputError(
            f"a classifier tells two classes or more apart, {config.data} has "
            f"{', '.join(names)}"
        )
    model = ImageClassifier(
        backbone(config), len(names), config.dropout, config.label_smoothing
    )
    fine_tuning.unfreeze(model)
    if config.fixed_normalisation:
        fine_tuning.fix_normalisation(model)
    steps = config.epochs * len(data(config))
    rate = options.Schedule(
        "cosine", config.learning_rate, steps, max(1, steps // 20), final=0.01
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, clipnorm=5.0
    )
    if config.backbone:
        optimizer = fine_tuning.two_step(
            model, optimizer, round(config.head_share * steps), config.backbone_factor
        )
    model.compile(optimizer)
    return model


def backbone(config) -> keras.Model:
    """Gives the network that is fine-tuned, with its weights."""
    if not config.backbone:
        # A thousand steps are too few for averages over a thousand.
        return mobilenet_v2(config.alpha, last_channels=None, momentum=0.97)
    path = pathlib.Path(config.backbone)
    if not path.is_file():
        path = shipped_models() / config.backbone / "model.keras"
    if not path.is_file():
        raise InputError(
            "backbone is the name of a shipped model or the path of a .keras file; "
            f"received {config.backbone}, which is neither"
        )
    try:
        model = keras_file.load(path)
    except InputError as error:
        raise InputError(
            f"a backbone is read from a .keras file; received {path}: {error}"
        ) from None
    found = getattr(model, "backbone", model)
    fine_tuning.stages(found)
    return found


def records(config) -> tuple[RecordSet, RecordSet | None]:
    """Lists the pictures to train with, and those that are held out, if any."""
    if not config.data:
        if not config.get("smoke"):
            raise InputError(
                "the pictures are named by --config.data=DIR, a folder with one "
                "folder per class; received none"
            )
        made = made_up(config.size)
        return made, made
    parts = {
        kind: next(
            (p for n in kind if (p := pathlib.Path(config.data) / n).is_dir()), None
        )
        for kind in (TRAINING, HELD_OUT)
    }
    if all(parts.values()):
        train = folders.read_class_folders(parts[TRAINING])
        return train, folders.read_class_folders(parts[HELD_OUT], train.names)
    return split(folders.read_class_folders(config.data), config.held_out, config.seed)


def split(whole: RecordSet, share: float, seed: int) -> tuple:
    """Holds out a share of every class, one picture at least where it has two.

    Args:
        whole: of kind "label".
        share: at least 0 and below 1; 0 holds nothing out.
        seed: of the draw.

    Returns:
        Two record sets, the second None where nothing is held out.

    Raises:
        InputError: the share is out of its range.
    """
    if not 0 <= share < 1:
        raise InputError(f"held_out is at least 0 and below 1, received {share}")
    if not share:
        return whole, None
    labels = np.array([record.label for record in whole.records])
    generator = np.random.default_rng((seed, 3))
    held = np.zeros(len(labels), bool)
    for label in range(len(whole.names)):
        members = generator.permutation(np.flatnonzero(labels == label))
        held[members[: max(len(members) > 1, round(share * len(members)))]] = True
    if not held.any():
        return whole, None
    return tuple(
        whole._replace(
            records=[r for r, h in zip(whole.records, held, strict=True) if h == wanted]
        )
        for wanted in (False, True)
    )


def made_up(size: int) -> RecordSet:
    """Makes pictures for the smoke form: four of noise for each of two classes."""
    found = []
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "png")
        place = Place(f"{number}.png", data=file.getvalue())
        found.append(Record(place, label=number % 2))
    return RecordSet(found, ("even", "odd"), "label")


def data(config):
    """Gives cut, mirrored and recoloured pictures; an epoch is one pass."""
    colours = functools.partial(augment.photometric, strength=config.colour)
    changes = [RandomCrop((config.area, 1.0), probability=1.0)]
    if config.flip:
        changes.append(RandomFlip())
    if config.colour:
        changes.append(OnPicture(colours))
    found = examples(config, records(config)[0], augment=changes, detail=1.5)
    size = min(config.batch_size, len(found))
    return ArrayBatches(found, Order(len(found), size, config.seed))


def validation(config):
    """Gives the pictures that are held out, as they are."""
    held_out = records(config)[1]
    if held_out is None:
        return None
    found = examples(config, held_out)
    order = Order(len(found), config.batch_size, shuffle=False, remainder="pad")
    return ArrayBatches(found, order)


def examples(config, record_set, **settings) -> Examples:
    """Makes pictures of one size."""
    return Examples(
        record_set,
        (config.size, config.size),
        fit="stretch",
        on_bad_image=config.on_bad_image,
        cache=config.cache or False,
        **settings,
    )


def finish(config, model, workdir):
    """Measures on the pictures that are held out; writes `card.json`."""
    train, held_out = records(config)
    figures = {}
    if held_out is not None:
        figures = score(model, examples(config, held_out))
    licence = "that of your pictures"
    if config.backbone:
        licence += f"; the backbone began as {config.backbone}, under its own terms"
    card = {
        "labels": list(train.names),
        "thresholds": {},
        "input": {"size": [config.size, config.size]},
        "licence": licence,
        "data": [str(config.data)],
        "recipe": {
            "config": "mlcvtf/configs/folder_classifier.py",
            **config.to_dict(),
        },
        "figures": [
            {
                "figure": name,
                "value": value,
                "command": "apps/train --config=folder_classifier "
                f"--config.data={config.data}",
            }
            for name, value in figures.items()
        ],
    }
    (pathlib.Path(workdir) / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    return {
        "parameters": model.count_params(),
        "classes": len(train.names),
        "training pictures": len(train.records),
    } | figures


def score(model, found: Examples) -> dict:
    """Measures accuracy; pictures that cannot be used are left out, if skipped."""
    labels, right, usable = [], [], []
    for index in range(len(found)):
        try:
            usable.append(found.example(index))
        except InputError:
            if found.on_bad_image == "fail":
                raise
        if len(usable) == TOGETHER or (index == len(found) - 1 and usable):
            images = np.stack([image for image, _ in usable]).astype(np.float32)
            truth = np.array([target["label"] for _, target in usable])
            answers = keras.ops.convert_to_numpy(model.classify(images)["labels"])
            right += (answers == truth).tolist()
            labels += truth.tolist()
            usable = []
    if not labels:
        return {}
    share = np.bincount(labels).max() / len(labels)
    return {
        "pictures held out": len(labels),
        "accuracy, held out": round(float(np.mean(right)), 4),
        "share of the most frequent class, held out": round(float(share), 4),
    }
