"""attention_maps --model FILE.keras --image FILE --output DIR

Draws what a vision Transformer has learned, and where it looks in a picture:

  patch_filters.png        principal components of the filters that project patches
  position_similarity.png  cosines of each learned position with all others
  attention_distance.png   how far each head of each block looks, in pixels
  attention_rollout.png    the picture, and from where in it the output comes

The picture is stretched to the size whose positions the model has learned.
"""

import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model",
    None,
    "A .keras file with a vision Transformer: a backbone or a model on one.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_string(
    "image", None, "The picture to look at.", flag_values=FLAGS, required=True
)
flags.DEFINE_string(
    "output",
    None,
    "Folder for the pictures; made if missing.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_integer(
    "filters",
    28,
    "Principal components to draw at most.",
    lower_bound=1,
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Draws the pictures and writes them."""
    video_app.refuse_arguments(argv)
    import os
    import pathlib

    from mlcvtf.export import keras_file
    from mlcvtf.video import pictures

    image = pictures.read_picture(FLAGS.image)
    if not pathlib.Path(FLAGS.model).is_file():
        raise InputError(f"--model is a .keras file, there is none at {FLAGS.model}")
    drawn = _draw(keras_file.load(FLAGS.model), image)

    from mlcvtf.commands.contact_sheet import write_png

    try:
        os.makedirs(FLAGS.output, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--output is a folder that can be made, {FLAGS.output}: {error.strerror}"
        ) from None
    for name, (picture, line) in drawn.items():
        path = os.path.join(FLAGS.output, f"{name}.png")
        write_png(path, picture, "a picture")
        print(f"{path}: {line}")


def _draw(model, image):
    """Returns {name: (picture, what it shows)}."""
    import cv2
    import numpy as np

    from mlcvtf.explain import attention_maps, attention_pictures

    backbone = attention_maps.vision_transformer(model)
    patch = backbone.get_layer("patches").patch
    rows, columns = backbone.get_layer("tokens").grid
    size = (columns * patch, rows * patch)
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    seen = cv2.resize(image, size, interpolation=way)[None].astype(np.float32)
    weights = attention_maps.attention_weights(backbone, seen)
    grid = attention_maps.grid_of(backbone, seen)
    filters = attention_maps.patch_filters(backbone, FLAGS.filters)
    similarity = attention_maps.position_similarity(backbone)
    distances = attention_maps.mean_attention_distance(weights, grid, patch)
    rollout = attention_maps.attention_rollout(weights, grid)[0]
    row, column = np.unravel_index(rollout.argmax(), rollout.shape)
    depth, _, heads = weights.shape[:3]
    return {
        "patch_filters": (
            attention_pictures.draw_filters(filters),
            f"{len(filters)} principal components of {patch}x{patch} filters",
        ),
        "position_similarity": (
            attention_pictures.draw_similarity(similarity),
            f"cosines of {rows}x{columns} positions",
        ),
        "attention_distance": (
            attention_pictures.draw_distances(distances),
            f"{depth} blocks of {heads} heads, {distances.min():.1f} to "
            f"{distances.max():.1f} of at most {np.hypot(*size):.1f} pixels",
        ),
        "attention_rollout": (
            attention_pictures.draw_rollout(image, rollout),
            f"most comes from row {row + 1}, column {column + 1} of {rows}x{columns}",
        ),
    }


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
