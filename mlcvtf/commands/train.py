"""train --config NAME|FILE.py --workdir DIR [--config.key=value ...]

Runs a training recipe; run again with the same folder, it goes on where it stopped.
`--config.epochs=2` changes a key of the recipe; with `--config.smoke=True` it runs in
seconds on synthetic data.
"""

import functools
import sys

from absl import flags

from mlcvtf.commands import command, video_app

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


def main(argv: list[str], overrides: list[str]) -> int:
    """Trains and prints the figures."""
    video_app.refuse_arguments(argv)
    from mlcvtf.training import fit
    from mlcvtf.training import recipe as recipes

    strategy = fit.make_strategy(FLAGS.strategy)
    recipe = recipes.load(FLAGS.config)
    config = recipes.configure(recipe, overrides)
    for name, value in fit.run(recipe, config, FLAGS.workdir, strategy).items():
        print(f"{name}: {value}")
    return 0


def cli() -> None:
    """Runs the command."""
    # The keys are those of a recipe that is not yet known: absl cannot parse them.
    overrides = [flag for flag in sys.argv[1:] if flag.startswith("--config.")]
    argv = [flag for flag in sys.argv if flag not in overrides]
    run = functools.partial(main, overrides=overrides)
    sys.exit(command.run(run, FLAGS, __doc__, argv))
