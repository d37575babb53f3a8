"""From a file in its source's form to a network with equal outputs."""

import re

import keras
import numpy as np
import pytest

from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.errors import InputError
from mlcvtf.weights import architectures
from mlcvtf.weights.published import import_checkpoint, normalisation
from tests.weights.torch_writer import Array, write_legacy, write_zip

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def randomise(model, seed=0):
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "gamma" in weight.path or "variance" in weight.path:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif "mean" in weight.path or "beta" in weight.path or "bias" in weight.path:
            weight.assign(generator.normal(0, 0.1, weight.shape))


def pictures(side):
    """Makes smooth pictures: low frequencies of every colour."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(2 * np.pi * (a * x + b * y + c / 3))
             for a, b in ((1, 2), (3, 1)) for c in range(3)]
    return (127.5 + 100 * np.stack(waves, -1)).reshape(side, side, 2, 3).transpose(
        2, 0, 1, 3).astype("float32")


def difference(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("ending", [
    ".weights.h5", *(pytest.param(end, marks=pytest.mark.slow)
                      for end in (".h5", ".keras"))])
def test_mobilenet_v2_of_keras_applications(tmp_path, ending):
    keras.utils.set_random_seed(0)
    peer = keras.applications.MobileNetV2(
        (96, 96, 3), 0.35, weights=None, classes=7, classifier_activation=None)
    randomise(peer)
    path = tmp_path / f"a{ending}"
    (peer.save_weights if ending == ".weights.h5" else peer.save)(path)
    imported = import_checkpoint("keras", "mobilenetv2-0.35", path, 7)
    expected = np.asarray(peer(pictures(96) / 127.5 - 1))
    found = np.asarray(imported.model(pictures(96))["logits"])
    assert difference(found, expected) < 1e-4
    assert imported.normalisation == {"mean": [127.5] * 3, "std": [127.5] * 3,
                                      "bgr": False}
    assert imported.size == 224
    assert imported.report.parameters == peer.count_params()
    with pytest.raises(InputError, match="with 1000 classes, .* does not") as caught:
        import_checkpoint("keras", "MobileNetV2_0.35", path)
    assert "\n" not in str(caught.value)


def test_a_file_of_keras_without_a_layer_is_refused(tmp_path):
    peer = keras.applications.MobileNetV2(
        (32, 32, 3), 0.35, weights=None, classes=7, classifier_activation=None)
    peer.layers[1].kernel.assign(np.full(peer.layers[1].kernel.shape, np.nan))
    peer.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(InputError, match="lacks 1 or has no numbers.*: Conv1/kernel"):
        import_checkpoint("keras", "MobileNetV2_0.35", tmp_path / "a.weights.h5", 7)


@pytest.mark.parametrize("name, content", [
    ("a.h5", b""), ("a.keras", b"PK\x03\x04xx"), ("a.pth", b"weights")])
def test_other_files_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="a checkpoint of Keras holds") as caught:
        import_checkpoint("keras", "MobileNetV2_0.35", tmp_path / name, 2)
    assert "\n" not in str(caught.value)


def timm_name(path):
    """Names a variable of MobileNetV2 as timm does, from its structure there."""
    layer, variable = path.rsplit("/", 1)
    ends = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias",
            "moving_mean": "running_mean", "moving_variance": "running_var"}
    outer = {"stem": "conv_stem", "stem_normalisation": "bn1", "last": "conv_head",
             "last_normalisation": "bn2", "logits": "classifier"}
    if layer in outer:
        return f"{outer[layer]}.{ends[variable]}"
    stage, block, step, norm = re.fullmatch(
        r"stage(\d)_block(\d)/([a-z]+)(_normalisation)?", layer).groups()
    # The first stage's block does not expand: its parts are one place earlier.
    steps = ["depthwise", "project"] if stage == "1" else [
        "expand", "depthwise", "project"]
    convolutions = ["conv_dw", "conv_pw"] if stage == "1" else [
        "conv_pw", "conv_dw", "conv_pwl"]
    number = steps.index(step)
    part = f"bn{number + 1}" if norm else convolutions[number]
    return f"blocks.{int(stage) - 1}.{block}.{part}.{ends[variable]}"


def timm_state(model):
    """Returns a state dict as timm's MobileNetV2 would have it."""
    state = {}
    for weight in model.weights:
        array = keras.ops.convert_to_numpy(weight)
        if array.ndim == 4:
            turned = (2, 3, 0, 1) if "depthwise" in weight.path else (3, 2, 0, 1)
            array = array.transpose(turned)
        state[timm_name(weight.path)] = array.T if array.ndim == 2 else array
        if weight.path.endswith("moving_variance"):
            counter = timm_name(weight.path).replace("running_var",
                                                     "num_batches_tracked")
            state[counter] = np.array(5)
    return state


@pytest.fixture(scope="module")
def published():
    keras.utils.set_random_seed(1)
    model = ImageClassifier(mobilenet_v2(0.35, origin="torch"), 5)
    randomise(model)
    return model, timm_state(model)


def write(path, state, form=write_zip):
    form(path, {name: Array(array) for name, array in state.items()})
    return path


@pytest.mark.parametrize("form", [write_zip, write_legacy])
def test_mobilenet_v2_of_timm(tmp_path, published, form):
    model, state = published
    path = write(tmp_path / "a.pth", state, form)
    imported = import_checkpoint("timm", "mobilenetv2_035", path)
    assert imported.model.classes == 5
    np.testing.assert_array_equal(
        np.asarray(imported.model(pictures(64))["logits"]),
        np.asarray(model(pictures(64))["logits"]))
    assert imported.normalisation["bgr"] is False
    np.testing.assert_allclose(imported.normalisation["mean"], MEAN)
    np.testing.assert_allclose(imported.normalisation["std"], STD)
    assert len(imported.report.loaded) == len(model.weights)
    assert all("num_batches" in name for name in imported.report.skipped)
    assert len(imported.report.skipped) == len(state) - len(model.weights) > 0


def test_what_does_not_fit_is_named(tmp_path, published):
    _, state = published
    path = tmp_path / "a.pth"
    fewer = {k: v for k, v in state.items() if k != "blocks.3.1.bn2.running_mean"}
    with pytest.raises(InputError, match="missing stage4_block1/depthwise_norm"):
        import_checkpoint("timm", "mobilenetv2_035", write(path, fewer))
    more = state | {"extra.weight": np.ones(3)}
    with pytest.raises(InputError, match=r"1 that do not: unexpected extra\.weight"):
        import_checkpoint("timm", "mobilenetv2_035", write(path, more))
    other = state | {"conv_stem.weight": np.ones((16, 4, 3, 3), "f4")}
    with pytest.raises(InputError, match=r"conv_stem.weight has shape \[16, 4, 3, 3\]"):
        import_checkpoint("timm", "mobilenetv2_035", write(path, other))
    with pytest.raises(InputError, match="do not"):
        import_checkpoint("timm", "mobilenetv2_050", write(path, state))
    headless = {k: v for k, v in state.items() if not k.startswith("classifier")}
    with pytest.raises(InputError, match="the bias of a head with two classes or more"):
        import_checkpoint("timm", "mobilenetv2_035", write(path, headless))


def test_names_of_architectures():
    for source in architectures.SOURCES:
        for name in architectures.names(source):
            found = architectures.find(source, name)
            assert found.rules and found.size >= 160
            assert (found.live is not None) == (source == "keras")
    known = {"torchvision": 5 + 2 + 2 + 1 + 8 + 14 + 4 + 1, "keras": 3 + 6 + 8 + 1}
    for source, count in known.items():
        assert len(architectures.names(source)) == count
    assert architectures.find("hugging_face", "microsoft/resnet-50").size == 224
    assert architectures.find("hugging_face", "facebook/regnet-y-040").rules
    assert architectures.find("keras", "EfficientNetB3").size == 300
    with pytest.raises(InputError, match="one of resnet18, .*; received lenet"):
        architectures.find("torchvision", "lenet")
    with pytest.raises(InputError, match="a source is one of .*, received x"):
        architectures.find("x", "resnet50")


def test_normalisation_of_caffe_is_said():
    backbone = architectures.find("keras", "resnet50").build
    with keras.StatelessScope(initialize_variables=False):
        model = backbone(2, {}, None)
        found = normalisation(model)
    keras.utils.clear_session()
    assert found == {"mean": [123.68, 116.779, 103.939], "std": [1.0] * 3, "bgr": True}


PEERS = [
    ("torchvision", "resnet18", 64, "zip"),
    ("torchvision", "googlenet", 64, "legacy"),
    ("torchvision", "mobilenet_v2", 64, "safetensors"),
    ("torchvision", "efficientnet_b0", 64, "zip"),
    ("timm", "mobilenetv2_035", 64, "legacy"),
    ("timm", "regnety_002", 64, "safetensors"),
    ("timm", "vit_tiny_patch16_224", 224, "zip"),
    ("timm", "darknet17", 64, "zip"),
]


@pytest.mark.peer
@pytest.mark.parametrize("source, name, side, form", PEERS)
def test_equals_its_peer_after_a_file(tmp_path, source, name, side, form):
    torch = pytest.importorskip("torch")
    peers = pytest.importorskip("timm" if source == "timm" else "torchvision")
    torch.manual_seed(0)
    if source == "timm":
        peer = peers.create_model(name, pretrained=False, num_classes=11)
    else:
        options = {"init_weights": False} if name == "googlenet" else {}
        peer = getattr(peers.models, name)(num_classes=11, **options)
    with torch.no_grad():
        for key, value in peer.state_dict().items():
            if value.ndim == 1 and key.endswith(("weight", "running_var")):
                value.uniform_(0.5, 1.5)
            elif value.ndim == 1:
                value.normal_(0, 0.1)
    peer.eval()
    path = tmp_path / "file"
    if form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(peer.state_dict(), path)
    else:
        torch.save(peer.state_dict(), path,
                   _use_new_zipfile_serialization=form == "zip")
    imported = import_checkpoint(source, name, path)
    colours = imported.normalisation
    images = (pictures(side) - colours["mean"]) / colours["std"]
    images = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        expected = peer(images).numpy()
    found = np.asarray(imported.model(pictures(side))["logits"])
    assert difference(found, expected) < 1e-4
