"""train --config NAME|FILE.py --workdir DIR [--set KEY=VALUE ...]

Runs a training recipe; run again with the same folder, it goes on where it stopped.
"""

import sys

from absl import flags

from mlcvtf.commands import command

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
flags.DEFINE_multi_string(
    "set", [], "Changes a key of the recipe: --set epochs=2.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "smoke", False, "Runs the recipe in seconds on synthetic data.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "strategy",
    "auto",
    ["auto", "one_device", "mirrored", "multi_worker"],
    "Devices: auto takes the workers of TF_CONFIG, else every visible GPU.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> int:
    """Trains and prints the figures."""
    del argv
    from ml_collections.config_dict import config_dict

    from mlcvtf.errors import InputError
    from mlcvtf.training import fit

    recipe = fit.load_recipe(FLAGS.config)
    config = config_dict.ConfigDict(recipe.get_config())
    if FLAGS.smoke:
        recipe.smoke(config)
    for item in FLAGS.set:
        key, _, value = item.partition("=")
        if key not in config:
            raise InputError(
                f"--set takes one of {', '.join(sorted(config))}; received {key}"
            )
        try:
            config[key] = type(config[key])(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{key} is a {type(config[key]).__name__}, received {value}"
            ) from None
    strategy = fit.make_strategy(FLAGS.strategy)
    for name, value in fit.run(recipe, config, FLAGS.workdir, strategy).items():
        print(f"{name}: {value}")
    return 0


def cli() -> None:
    """Runs the command."""
    sys.exit(command.run(main, FLAGS, __doc__))
