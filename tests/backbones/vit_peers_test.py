"""ViT against timm, torchvision and Hugging Face with the same weights."""

import numpy as np
import pytest

# Before TensorFlow: the other way round importing torchvision crashes.
torch = pytest.importorskip("torch", reason="needs PyTorch (the extra peers)")
torchvision = pytest.importorskip("torchvision")
timm_vit = pytest.importorskip("timm.models.vision_transformer")
transformers = pytest.importorskip("transformers")

from mlcvtf.backbones.vit import vit  # noqa: E402
from mlcvtf.classification.classifier import ImageClassifier  # noqa: E402
from mlcvtf.weights.name_map import carry  # noqa: E402
from mlcvtf.weights.vit import SETTINGS, SKIPPED, rules, split_fused  # noqa: E402
from tests.backbones.vit_weights import (  # noqa: E402
    classifier,
    drawn,
    relative,
    smooth,
)

pytestmark = pytest.mark.peer


def numpy_state(module, seed=1):
    """Fills a torch module with drawn weights; returns them by name."""
    generator = np.random.default_rng(seed)
    state = {key: drawn(key, tuple(value.shape), generator)
             for key, value in module.state_dict().items()}
    module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    module.eval()
    return state


def normalised(images, name):
    """Pictures as the peer wants them: a torch tensor, channels first."""
    mean, std = {"unit": (0.5, 0.5), "mean_std": (
        np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))}[name]
    images = ((images / 255 - mean) / std).astype("float32")
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (24, 64)])
@pytest.mark.parametrize("token", [True, False])
def test_equals_timm(size, token):

    peer = timm_vit.VisionTransformer(
        32, 8, depth=2, num_heads=3, embed_dim=24, mlp_ratio=40 / 24, num_classes=32,
        dynamic_img_size=True, class_token=token, fc_norm=False,
        global_pool="token" if token else "avg")
    model = classifier(class_token=token)
    carry(model, split_fused(numpy_state(peer)), rules("timm"), SKIPPED)
    images = smooth(*size)
    with torch.no_grad():
        features = peer.forward_features(normalised(images, "unit")).numpy()
        logits = peer(normalised(images, "unit")).numpy()
    outputs = model.backbone(images)
    shape = (2, size[0] // 8, size[1] // 8, 24)
    assert relative(outputs["P3"], features[:, int(token):].reshape(shape)) < 1e-4
    if token:
        assert relative(outputs["class_token"], features[:, 0]) < 1e-4
    assert relative(model(images)["logits"], logits) < 1e-4


def test_equals_torchvision():
    peer = torchvision.models.vision_transformer.VisionTransformer(
        32, 8, 2, 3, 24, 40, num_classes=32)
    model = classifier("torchvision")
    carry(model, split_fused(numpy_state(peer)), rules("torchvision"), SKIPPED)
    images = smooth(32, 32)
    with torch.no_grad():
        logits = peer(normalised(images, "mean_std")).numpy()
    assert relative(model(images)["logits"], logits) < 1e-4


@pytest.mark.parametrize("old_names", [False, True])
def test_equals_hugging_face(old_names):
    peer = transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=32,
        intermediate_size=40, patch_size=8, num_labels=32))
    assert peer.config.layer_norm_eps == SETTINGS["hugging_face"]["epsilon"]
    model, state = classifier("hugging_face"), numpy_state(peer)
    if old_names:
        state = {former(key): value for key, value in state.items()}
        state["vit.pooler.dense.bias"] = np.zeros(24)
    report = carry(model, split_fused(state), rules("hugging_face"), SKIPPED)
    assert len(report.skipped) == old_names
    images = smooth(32, 32)
    with torch.no_grad():
        logits = peer(normalised(images, "unit")).logits.numpy()
    assert relative(model(images)["logits"], logits) < 1e-4


def former(name):
    """What transformers called a weight before version 5, and files on the hub do."""
    for new, old in (
        ("vit.layers.", "vit.encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(new, old)
    return name


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["vit_b_16", "vit_b_32"])
def test_the_published_form_equals_torchvision(arch):
    peer = getattr(torchvision.models, arch)(weights=None)
    model = ImageClassifier(
        vit(arch.replace("vit_b_", "b"), **SETTINGS["torchvision"]), 1000)
    carry(model, split_fused(numpy_state(peer)), rules("torchvision"), SKIPPED)
    images = smooth(224, 224)[:1]
    with torch.no_grad():
        logits = peer(normalised(images, "mean_std")).numpy()
    assert relative(model(images)["logits"], logits) < 1e-4
