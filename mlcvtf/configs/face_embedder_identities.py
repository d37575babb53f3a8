"""The face embedder without a teacher: ArcFace on identities alone.

Deng et al., 2019, arXiv:1801.07698. The same pictures, alignment and augmentation as
`face_embedder`, but only people with two pictures or more, a smaller network and no
knowledge from another one: what the labels of these data alone can teach.

    apps/train --config=face_landmarks --workdir=work/face_landmarks
    apps/train --config=face_embedder_identities --workdir=work/face_embedder_identities
"""

from mlcvtf.configs import face_embedder
from mlcvtf.configs.face_embedder import build, centre, finish, smoke

__all__ = ["build", "centre", "data", "finish", "get_config", "smoke"]


def get_config():
    """Returns the recipe's settings."""
    return face_embedder.get_config() | {
        "epochs": 16,
        "variant": "small",
        "teacher_weight": 0.0,
        "margin_weight": 1.0,
        "margin": 0.2,
        "scale": 20.0,
        "weight_decay": 0.05,
    }


def data(config):
    """Gives the crops of people with two pictures or more."""
    crops = face_embedder.data(config)
    known = crops.targets["identity"] >= 0
    crops.images = [image for image, k in zip(crops.images, known, strict=True) if k]
    crops.matrices = crops.matrices[known]
    crops.targets = {name: values[known] for name, values in crops.targets.items()}
    return crops
