"""The recipe for a user's own folder: what it trains on, scores and begins with."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.commands import train as command
from mlcvtf.configs import folder_classifier
from mlcvtf.errors import InputError
from mlcvtf.training import fit, report
from mlcvtf.training import recipe as recipes
from tests.case import child
from tests.conformance import descriptors
from tests.data.made_sets import write

APP = pathlib.Path(__file__).parents[2] / "apps/train"
QUICK = ("--config.size=64", "--config.epochs=2", "--config.batch_size=4",
         "--config.colour=0.0", "--config.learning_rate=0.01", "--config.area=0.8")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file with a model on a backbone of four convolutions, which is frozen."""
    path = tmp_path_factory.mktemp("backbone") / "model.keras"
    keras.utils.set_random_seed(3)
    model = ImageClassifier(descriptors.pyramid(), 7)
    model.backbone.trainable = False
    model.save(path)
    return path


def pictures(folder, counts, bad=()):
    """Writes noise, red on one side and blue on the other; `bad` are no pictures."""
    for channel, (name, count) in enumerate(counts.items()):
        for i in range(count):
            noise = np.random.default_rng((channel, i)).integers(0, 60, (24, 24, 3))
            noise[..., 2 * (channel % 2)] += 180
            data = "none" if f"{name}/{i}" in bad else noise.astype(np.uint8)
            write(folder / name / f"{i}.png", data)
    return folder


def configured(folder, *flags):
    return recipes.configure(
        folder_classifier, [f"--config.data={folder}", *QUICK, *flags])


def names(record_set):
    return {"/".join(r.image.path.split("/")[-2:]) for r in record_set.records}


def test_a_share_of_every_class_is_held_out(tmp_path):
    pictures(tmp_path, {"blue": 20, "red": 10, "rare": 2, "single": 1})
    train, held_out = folder_classifier.records(configured(tmp_path))
    assert train.names == held_out.names == ("blue", "rare", "red", "single")
    counts = [np.bincount([r.label for r in part.records], minlength=4).tolist()
              for part in (train, held_out)]
    assert counts == [[16, 1, 8, 1], [4, 1, 2, 0]]
    assert not names(train) & names(held_out)
    again = folder_classifier.records(configured(tmp_path))[1]
    other = folder_classifier.records(configured(tmp_path, "--config.seed=1"))[1]
    assert names(again) == names(held_out) != names(other)
    whole, none = folder_classifier.records(
        configured(tmp_path, "--config.held_out=0.0"))
    assert none is None and len(whole.records) == 33
    with pytest.raises(InputError, match="held_out is at least 0 and below 1"):
        folder_classifier.records(configured(tmp_path, "--config.held_out=1.0"))


def test_parts_are_taken_as_they_are(tmp_path):
    pictures(tmp_path / "train", {"blue": 3, "red": 3})
    pictures(tmp_path / "validation", {"red": 2})
    train, held_out = folder_classifier.records(configured(tmp_path))
    assert len(train.records) == 6 and [r.label for r in held_out.records] == [1, 1]
    pictures(tmp_path / "validation", {"green": 1})
    with pytest.raises(InputError, match="blue, red, received green"):
        folder_classifier.records(configured(tmp_path))


def test_it_begins_with_the_backbone_that_is_named(tmp_path, backbone):
    pictures(tmp_path, {"blue": 2, "red": 2})
    model = folder_classifier.build(
        configured(tmp_path, f"--config.backbone={backbone}"))
    assert model.classes == 2
    assert isinstance(model.optimizer, keras.optimizers.MultiOptimizer)
    old = keras.models.load_model(backbone, compile=False)
    for one, other in zip(model.backbone.weights, old.backbone.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    # What was frozen in the file learns again: four convolutions and the head.
    assert len(model.trainable_variables) == 10


@pytest.mark.parametrize(("name", "message"), [
    ("nothing", "name of a shipped model or the path of a .keras.*received nothing"),
    ("file", "read from a .keras file; received"),
    ("plain", "a backbone is a functional model whose outputs are P1"),
])
def test_what_it_cannot_begin_with_is_one_line(tmp_path, name, message):
    pictures(tmp_path / "set", {"blue": 2, "red": 2})
    if name == "file":
        name = write(tmp_path / "file.keras", "nothing")
    if name == "plain":
        plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        name = tmp_path / "plain.keras"
        plain.save(name)
    config = configured(tmp_path / "set", f"--config.backbone={name}")
    with pytest.raises(InputError, match=message) as caught:
        folder_classifier.build(config)
    assert len(str(caught.value).splitlines()) == 1


def test_the_shipped_backbone_is_found():
    config = folder_classifier.get_config()
    assert (folder_classifier.shipped_models() / config["backbone"]
            / "model.keras").is_file()


def test_no_data_and_one_class_are_one_line(tmp_path):
    with pytest.raises(InputError, match="--config.data=DIR.*received none"):
        folder_classifier.build(configured(""))
    with pytest.raises(InputError, match="two classes or more apart.*has blue"):
        folder_classifier.build(configured(pictures(tmp_path, {"blue": 2})))


@pytest.mark.slow
def test_a_bad_picture_fails_or_is_replaced(tmp_path, backbone):
    folder = pictures(tmp_path / "set", {"blue": 14, "red": 14}, bad=("red/3",))
    workdir, cache = tmp_path / "work", tmp_path / "cache"

    def train(*flags):
        return subprocess.run(
            [sys.executable, APP, "--config=folder_classifier",
             f"--workdir={workdir}", f"--config.data={folder}",
             f"--config.backbone={backbone}", *QUICK, *flags],
            capture_output=True, text=True, timeout=500)

    result = train()
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("train: ") and "red/3.png" in line
    assert "Traceback" not in result.stderr
    # The same training goes on with the flag, from where it stopped.
    result = train("--on-bad-image=skip", f"--config.cache={cache}")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "1 picture was replaced by another" in result.stderr
    name, = json.loads((workdir / "replaced.json").read_text())
    assert name.endswith("red/3.png")
    log = report.read_log(workdir / "log.jsonl")
    assert len(log) == 2 and "val_accuracy" in log[0]
    figures = json.loads((workdir / "figures.json").read_text())
    assert figures["training pictures"] == 22 and figures["classes"] == 2
    # Every usable picture is in the cache: of training, and of scoring.
    assert len(list(cache.glob("*/*.npz"))) == 27
    card = json.loads((workdir / "card.json").read_text())
    assert card["labels"] == ["blue", "red"]


def test_a_score_leaves_out_what_cannot_be_used(tmp_path, backbone):
    pictures(tmp_path, {"blue": 3, "red": 2}, bad=("blue/1",))
    flags = [f"--config.backbone={backbone}", "--config.held_out=0.0"]
    model = folder_classifier.build(configured(tmp_path, *flags))
    for skip, flag in ((False, "fail"), (True, "skip")):
        config = configured(tmp_path, *flags, f"--config.on_bad_image={flag}")
        found = folder_classifier.examples(config, folder_classifier.records(config)[0])
        if skip:
            figures = folder_classifier.score(model, found)
            assert figures["pictures held out"] == 4
            assert figures["accuracy, held out"] in (0, 0.25, 0.5, 0.75, 1)
        else:
            with pytest.raises(InputError, match="blue/1.png"):
                folder_classifier.score(model, found)


def test_the_flag_is_refused_where_no_pictures_are_read(tmp_path):
    argv = ["train", "--config=face_detector", f"--workdir={tmp_path}",
            "--on-bad-image=skip"]
    command.FLAGS(argv)
    try:
        with pytest.raises(InputError, match="received face_detector, which has none"):
            command.main([], [])
    finally:
        command.FLAGS.unparse_flags()
        command.FLAGS["on-bad-image"].value = None


@pytest.mark.slow
def test_it_learns_from_the_shipped_backbone(tmp_path):
    pictures(tmp_path / "set", {"blue": 40, "red": 40})
    config = recipes.configure(folder_classifier, [
        f"--config.data={tmp_path / 'set'}", "--config.epochs=3",
        "--config.size=64", "--config.batch_size=8", "--config.colour=0.1"])
    figures = fit.run(folder_classifier, config, tmp_path / "work")
    assert figures["pictures held out"] == 16
    assert figures["accuracy, held out"] >= 0.9


def test_a_backbone_of_another_family_is_read(tmp_path):
    # In a process that has imported nothing of it.
    from mlcvtf.backbones.small_resnet import small_resnet
    from mlcvtf.classification.classifier import ImageClassifier

    path = tmp_path / "resnet.keras"
    ImageClassifier(small_resnet((4, 4, 4), 1), 3).save(path)
    code = (
        "from ml_collections import config_dict\n"
        "from mlcvtf.configs import folder_classifier\n"
        f"config = config_dict.ConfigDict(dict(backbone={str(path)!r}))\n"
        "print(folder_classifier.backbone(config).name)\n"
    )
    result = child(["-c", code])
    assert result.stdout.strip() == "resnet8", result.stderr[-1000:]
