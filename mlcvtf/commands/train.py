"""train --config NAME|FILE.py --workdir DIR [--config.key=value ...]

Runs a training recipe; run again with the same folder, it goes on where it stopped,
and --resume makes sure that it does.
`--config.epochs=2` changes a key of the recipe; with `--config.smoke=True` it runs in
seconds on synthetic data.
"""

import functools
import shlex
import sys

from absl import flags

from mlcvtf.commands import command, video_app
from mlcvtf.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "config",
    None,
    "A recipe: the name of a file in mlcvtf/configs, or a path.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_string(
    "workdir",
    None,
    "Folder for checkpoints, logs, the model and its figures.",
    flag_values=FLAGS,
    required=True,
)
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker"],
    "Devices: auto takes the workers of TF_CONFIG, else every visible GPU.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "resume",
    None,
    "Whether there must be a checkpoint to go on from (--resume) or must be none "
    "(--noresume); without this flag, it goes on where there is one.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "on-bad-image",
    None,
    ["fail", "skip"],
    "At a picture that cannot be used: fail ends the training, skip takes the next one "
    "in its place and lists it; as --config.on_bad_image.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "deterministic",
    False,
    "Takes operations that give the same bits in every run; may be slower.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "threads",
    None,
    "Threads of TensorFlow; one per core by default. The bits depend on them.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "tensorboard",
    None,
    "Whether to write WORKDIR/tensorboard; by default where TensorBoard is installed.",
    flag_values=FLAGS,
)


def main(argv: list[str], overrides: list[str]) -> int:
    """Trains and prints the figures."""
    video_app.refuse_arguments(argv)
    from mlcvtf.training import environment, fit
    from mlcvtf.training import recipe as recipes

    if FLAGS.deterministic:
        environment.make_deterministic()
    if FLAGS.threads:
        environment.set_threads(FLAGS.threads)
    strategy = fit.make_strategy(FLAGS.strategy)
    recipe = recipes.load(FLAGS.config)
    if FLAGS["on-bad-image"].value:
        if "on_bad_image" not in recipe.get_config():
            raise InputError(
                "--on-bad-image is for recipes with the key on_bad_image, such as "
                f"folder_classifier; received {FLAGS.config}, which has none"
            )
        overrides = [
            *overrides, f"--config.on_bad_image={FLAGS['on-bad-image'].value}"
        ]
    config = recipes.configure(recipe, overrides)
    figures = fit.run(
        recipe,
        config,
        FLAGS.workdir,
        strategy,
        resume=FLAGS.resume,
        tensorboard=FLAGS.tensorboard,
        command=shlex.join(["apps/train", *sys.argv[1:]]),
    )
    for name, value in figures.items():
        print(f"{name}: {value}")
    return 0


def cli() -> None:
    """Runs the command."""
    # The keys are those of a recipe that is not yet known: absl cannot parse them.
    overrides = [flag for flag in sys.argv[1:] if flag.startswith("--config.")]
    argv = [flag for flag in sys.argv if flag not in overrides]
    run = functools.partial(main, overrides=overrides)
    sys.exit(command.run(run, FLAGS, __doc__, argv))
