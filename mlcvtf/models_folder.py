"""Where the shipped models are. Standard library only."""

import pathlib

from mlcvtf.errors import InputError


def shipped_models() -> pathlib.Path:
    """Finds the folder of the models that come with this package.

    A wheel carries them inside the package; in a checkout, and in an editable
    install of one, they stand beside the package.

    Returns:
        The absolute path of a folder that has one sub-folder per model.

    Raises:
        InputError: neither place holds a model.
    """
    package = pathlib.Path(__file__).resolve().parent
    places = (package / "saved_models", package.parent / "saved_models")
    for place in places:
        if next(place.glob("*/card.json"), None) is not None:
            return place
    raise InputError(
        "the shipped models are in saved_models/ of the package or of the checkout, "
        f"found none in {places[0]} or {places[1]}; give --models"
    )
