"""Reads `.keras` files of this package without being told what is in them."""

import importlib
import json
import pathlib
import zipfile

import keras

from mlcvtf.errors import InputError


def load(path: str | pathlib.Path) -> keras.Model:
    """Loads a `.keras` file for inference.

    The classes of this package that it needs are imported first; other people's code
    is not.

    Args:
        path: the file.

    Returns:
        The model, not compiled.

    Raises:
        InputError: the file is none that Keras can read, in one line.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        for name in sorted(modules(config)):
            importlib.import_module(name)
        return keras.saving.load_model(path, compile=False)
    except (
        ValueError,
        TypeError,
        KeyError,
        OSError,
        ImportError,
        zipfile.BadZipFile,
    ) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"a model is a .keras file, Keras cannot read {path}: {first}"
        ) from None


def modules(config) -> set[str]:
    """Returns the modules of this package that a serialised object names.

    Args:
        config: JSON as nested dicts and lists.
    """
    if isinstance(config, dict):
        found = set().union(*map(modules, config.values())) if config else set()
        name = config.get("module")
        if isinstance(name, str) and name.startswith("mlcvtf."):
            found.add(name)
        return found
    if isinstance(config, list):
        return set().union(*map(modules, config)) if config else set()
    return set()
