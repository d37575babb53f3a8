"""Writes goldens/vit.npz: logits of a small ViT as timm computes them.

    .venv-peers/bin/python -m tests.backbones.make_vit_golden
"""

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from tests.backbones.vit_peers_test import normalised
from tests.backbones.vit_weights import GOLDEN, published_names, smooth

if __name__ == "__main__":
    peer = VisionTransformer(
        32, 8, depth=2, num_heads=3, embed_dim=24, mlp_ratio=40 / 24, num_classes=32,
        dynamic_img_size=True)
    peer.load_state_dict(
        {k: torch.from_numpy(v) for k, v in published_names().items()})
    peer.eval()
    with torch.no_grad():
        logits = {f"logits_{size}": peer(normalised(smooth(size, size), "unit")).numpy()
                  for size in (32, 48)}
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **logits)
