"""Recipes: Python files that say how a model is trained, and what flags change in them.

A recipe has `get_config()` and three functions:

- `build(config)` gives a compiled `keras.Model`,
- `data(config)` gives the training set, a `data.batches.EndlessBatches`,
- `finish(config, model, workdir)` evaluates, exports, and returns a dict of figures,

and `smoke(config)`, which shrinks the config so that the whole recipe runs in seconds
on synthetic data. Sequences in a config are tuples: flags cannot change a list.

It may have `validation(config)`, which gives what `fit` takes as `validation_data`:
arrays, a data set of known length, or an `EndlessBatches`, of which the first epoch
counts. `training/options.py` has keys for the usual options.
"""

import difflib
import importlib.util
import pathlib

from absl import flags
from ml_collections import config_flags
from ml_collections.config_dict import config_dict

from mlcvtf.errors import InputError
from mlcvtf.training import options

FUNCTIONS = ("get_config", "smoke", "build", "data", "finish")
FLAG = "--config."


def load(name: str):
    """Imports a recipe by the name of a file in `mlcvtf/configs` or by its path.

    Raises:
        InputError: there is no such recipe, or it lacks a function.
    """
    path = pathlib.Path(name)
    if path.suffix != ".py":
        path = pathlib.Path(__file__).parents[1] / "configs" / f"{name}.py"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("[a-z]*.py"))
        raise InputError(
            f"a recipe is a .py file or one of {', '.join(known)}; received {name}"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    missing = [f for f in FUNCTIONS if not hasattr(module, f)]
    if missing:
        raise InputError(
            f"a recipe has {', '.join(FUNCTIONS)}; {path} lacks {', '.join(missing)}"
        )
    return module


def configure(recipe, overrides: list[str] = ()) -> config_dict.ConfigDict:
    """Reads a recipe's config and changes it as flags say.

    With `--config.smoke=True` the recipe's `smoke` shrinks the config; what flags say
    wins over it.

    Args:
        recipe: the module from `load`.
        overrides: flags `--config.key=value`, `--config.part.key=value`.

    Returns:
        The config: the recipe's keys, `smoke`, and those of `options.RUN`.

    Raises:
        InputError: a flag is malformed, names no key, or its value does not fit.
    """
    config = config_dict.ConfigDict(
        {"smoke": False} | options.RUN | recipe.get_config()
    )
    for override in overrides:
        _check_key(config, override)
    _apply(config, overrides)
    if config.smoke:
        recipe.smoke(config)
        _apply(config, overrides)
    return config


def _check_key(config, override):
    """Refuses a flag that names no key, with the nearest that there is."""
    path, equals, _ = override.removeprefix(FLAG).partition("=")
    if not equals:
        raise InputError(f"a key is set by {FLAG}key=value, received {override}")
    keys = _keys(config)
    if path not in keys:
        nearest = difflib.get_close_matches(path, keys, n=1, cutoff=0.0)
        raise InputError(
            f"{FLAG}{path} names no key of the recipe, the nearest is {nearest[0]}"
        )


def _keys(config, prefix=""):
    """Lists the dotted names of all values."""
    keys = []
    for key, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            keys += _keys(value, f"{prefix}{key}.")
        else:
            keys.append(prefix + key)
    return keys


def _apply(config, overrides):
    """Changes a config in place as flags say."""
    overrides = list(overrides)
    flag_values = flags.FlagValues()
    name = FLAG.strip("-.")
    config_flags.DEFINE_config_dict(
        name, config, flag_values=flag_values, lock_config=False, sys_argv=overrides
    )
    try:
        flag_values(["train", *overrides])
    except flags.Error as error:
        raise InputError(" ".join(str(error).split())) from None
