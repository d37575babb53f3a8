"""landscapes --output=DIR [flags]

Draws what optimizers do: the ways of SGD, momentum, Nesterov, AdaGrad, RMSProp, Adam,
AdamW, Newton's method and truncated Newton over the contours of five surfaces, with
the noisy gradients of mini-batches. Every surface gives SURFACE.png and SURFACE.gif,
and the figures 1.1 to 1.8 of the course are figure_1_1.png, figure_1_1.gif and so on. A
line is printed per file.
"""

import os
import sys

from absl import flags

from mlcvtf.commands import command
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "output", None, "Folder for the pictures; it is made.", flag_values=FLAGS
)
flags.DEFINE_list(
    "surfaces",
    ["sphere", "canyon", "saddle", "beale", "rosenbrock"],
    "Surfaces that are drawn.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("figures", True, "Draws the course's figures.", flag_values=FLAGS)
flags.DEFINE_integer(
    "batch_size",
    32,
    "Examples per mini-batch on the surfaces, of 256; 256: no noise.",
    1,
    256,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "steps",
    None,
    "Steps on every surface; its own number by default.",
    1,
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", 0, "Of the mini-batches.", 0, flag_values=FLAGS)
flags.DEFINE_integer(
    "frames", 60, "Of an animated GIF; 0: PNG alone.", 0, 1000, flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Runs the command."""
    if argv:
        raise flags.Error(f"arguments are flags (--name=value), received {argv[0]}")
    if not FLAGS.output:
        raise flags.Error("--output=DIR is needed, the folder for the pictures")
    known = FLAGS["surfaces"].default
    unknown = [name for name in FLAGS.surfaces if name not in known]
    if unknown:
        raise InputError(
            f"surfaces are of {', '.join(known)}; received {', '.join(unknown)}"
        )
    try:
        os.makedirs(FLAGS.output, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the output must be a folder, {FLAGS.output}: {error.strerror}"
        ) from None

    # TensorFlow would tell of the devices that it does not find.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from mlcvtf.commands import landscape_pictures as pictures

    walks, figures = {}, {}
    for name in FLAGS.surfaces:
        figures[name] = pictures.overview(name, FLAGS.batch_size)
    if FLAGS.figures:
        figures |= pictures.FIGURES
        _write("figure_1_2.png", pictures.nesterov_figure())
    pictures.walk(
        [panel for panels in figures.values() for panel in panels],
        FLAGS.steps,
        FLAGS.seed,
        walks,
    )
    for name, panels in figures.items():
        still, moving = pictures.draw(panels, walks, FLAGS.frames)
        _write(f"{name}.png", still)
        if moving is not None:
            _write(f"{name}.gif", moving)
    return 0


def _write(name, content):
    from mlcvtf.commands import landscape_pictures

    path = os.path.join(FLAGS.output, name)
    landscape_pictures.write(path, content)
    print(path, flush=True)


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
