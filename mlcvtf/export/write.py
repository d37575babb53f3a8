"""Writes a model folder: every runtime's files, checked, with their card.

The folder appears whole or not at all.
"""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from mlcvtf import card as cards
from mlcvtf.errors import InputError
from mlcvtf.export import litert, parity, quantize, saved_model, signatures

# What the pipeline knows itself; the rest of the card comes from the recipe.
FILLED = ("name", "task", "outputs", "commit", "parameters", "files")
FORMATS = ("saved_model", "litert")
# Tasks whose models decide by exact comparisons: no smaller precision serves them.
EXACT = ("body_parts", "cascade_detection")
# Of the LiteRT files beside that in float32.
PRECISIONS = ("float16", *quantize.PRECISIONS)


def export(
    model: keras.Model,
    task: str,
    folder: str | pathlib.Path,
    card: dict,
    pictures: list[np.ndarray] | None = None,
    formats: tuple[str, ...] = FORMATS,
    precisions: tuple[str, ...] = ("float16",),
    representative: list[np.ndarray] = (),
    measure: Callable[[pathlib.Path], dict] | None = None,
) -> dict:
    """Exports a model to a model folder.

    The folder holds `model.keras`, `card.json` and, by `formats`, `saved_model/` and
    `float32.tflite` with `float16.tflite`, `dynamic.tflite` or `int8.tflite` beside
    it. The weights ship in float32 (or as the smaller files say), whatever precision
    they were trained in; a margin head for training stays behind.

    Args:
        model: a built detector or embedder; it is not changed.
        task: one of `signatures.TASKS`.
        folder: the folder to write. An older model folder in its place is replaced
            in the end; anything else there is refused.
        card: what the pipeline cannot know: labels, thresholds, licence, data,
            recipe, figures, and `calibration` of an embedder. For a detector
            `{"input": {"longest_side": 640}}` changes the largest picture, a
            classifier needs `{"input": {"size": [height, width]}}`. "keep_float" lists
            layers that int8 leaves out.
        pictures: uint8 `[height, width, 3]` each (for "body_parts" depth, float32
            `[height, width]` in metres), for the parity report; by default
            `sample_pictures(task)`.
        formats: what to write beside the Keras file, of `FORMATS`.
        precisions: of the LiteRT files beside float32, of `PRECISIONS`; a forest or a
            cascade, whose decisions are exact, has none.
        representative: uint8 `[height, width, 3]` each; pictures of the kind that the
            model is for, for "int8".
        measure: called with the finished folder before it takes its place; what it
            returns is "evaluation" in the card, what it raises stops the export.

    Returns:
        The card as written; "parity" is the report, "float_operations" what stayed
        float in a quantised file.

    Raises:
        InputError: the card lacks a key, or `folder` is there and no model folder.
        ValueError: weights are not finite or all zero, or a LiteRT file is not what
            it must be.
        ParityError: a runtime's answers differ.
    """
    folder = pathlib.Path(folder)
    _check_target(folder)
    missing = [key for key in cards.REQUIRED
               if key not in card and key not in (*FILLED, "input")]
    if missing:
        raise InputError(f"a card for export has labels, thresholds, licence, data, "
                         f"recipe and figures; it lacks {', '.join(missing)}")
    _check_weights(model)
    given = card.get("input", {})
    if task == "classification" and "size" not in given:
        raise InputError(
            "the card of a classifier has the size of its input, such as "
            '"input": {"size": [96, 96]}; this one has none'
        )
    options = signatures.options(given)
    model = inference_copy(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.",
                                            dir=folder.parent))
    try:
        card = dict(card, name=folder.name, task=task, commit=commit(),
                    input=signatures.card_input(model, task, given),
                    keras_modules=signatures.keras_modules(model),
                    weights=_digest(model))
        frozen = signatures.endpoints(model, task, freeze=True, **options)
        quantise = functools.partial(
            quantize.quantize,
            pictures=representative,
            keep_float=card.get("keep_float", ()),
        )
        precisions = precisions if task not in EXACT else ()
        precisions = precisions if "litert" in formats else None
        card |= _write_files(scratch, model, frozen, precisions, quantise)
        if "saved_model" not in formats:
            shutil.rmtree(scratch / "saved_model")
        cards.write(scratch, card)
        serving, _ = signatures.endpoints(model, task, **options)["serving_default"]
        card["parity"] = parity.report(
            scratch,
            lambda picture: {k: np.asarray(v) for k, v in serving(picture).items()},
            sample_pictures(task) if pictures is None else pictures,
            card["thresholds"].get("score", 0.0),
            card.get("parity_bounds", {}),
            # What a small cascade finds depends on what it was trained for.
            must_find=task != "cascade_detection",
        )
        cards.write(scratch, card)
        if measure is not None:
            card["evaluation"] = measure(scratch)
            cards.write(scratch, card)
        scratch.chmod(0o755)
        _replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cards.read(folder, task)


def inference_copy(model: keras.Model) -> keras.Model:
    """Copies a model in float32 and without a margin head.

    A model trained in mixed precision would compute in bfloat16 wherever it is loaded.
    """
    config = _in_float32(keras.saving.serialize_keras_object(model))
    config.pop("compile_config", None)
    head = config["config"].get("margin")
    if head is not None:
        config["config"]["margin"] = None
    copy = keras.saving.deserialize_keras_object(config)
    if head is None:
        copy.set_weights(model.get_weights())
    else:
        copy.backbone.set_weights(model.backbone.get_weights())
    return copy


def commit() -> str:
    """Returns the git commit of the checkout that this package is in, or "unknown"."""
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    try:
        lines = [
            subprocess.run(["git", "-C", str(root), *arguments], check=True,
                           capture_output=True, text=True).stdout.strip()
            for arguments in (("rev-parse", "HEAD"),
                              ("status", "--porcelain", "--", "mlcvtf"))
        ]
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return lines[0] + (" with changes" if lines[1] else "")


def sample_pictures(task: str) -> list[np.ndarray]:
    """Returns the pictures of the parity report: faces, noise, many sizes.

    The faces are those of scikit-image and matplotlib, which come with the package;
    "body_parts" gets depth of a ball, in metres.
    """
    if task == "body_parts":
        return [_ball(240, 320), _ball(33, 17), _ball(1, 1), _ball(90, 50, near=0.3),
                np.zeros((24, 32), np.float32)]
    import cv2
    from matplotlib import cbook
    from PIL import Image
    from skimage import data

    collins = data.astronaut()
    if task == "cascade_detection":
        # Small ones: the graph looks at each window's place on its own.
        small = cv2.resize(collins, (256, 256), interpolation=cv2.INTER_AREA)
        return [small, small[20:160, 60:180].copy(), _noise(96, 160), _noise(1, 1),
                _noise(17, 33), _noise(33, 300)]
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(Image.open(file).convert("RGB"))
    if task in ("classification", "face_embedding"):
        crops = [collins[30:180, 140:290], hopper[60:320, 130:390]]
        faces = [cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA)
                 for crop in crops]
        return [*faces, *(face[:, ::-1].copy() for face in faces), *crops,
                np.zeros((112, 112, 3), np.uint8), _noise(1, 1), _noise(90, 200)]
    crowd = np.zeros((480, 640, 3), np.uint8)
    for row in range(2):
        for column in range(4):
            picture = (collins, hopper)[(row + column) % 2]
            tile = cv2.resize(picture, (160, 200), interpolation=cv2.INTER_AREA)
            crowd[row * 240 : row * 240 + 200, column * 160 : column * 160 + 160] = tile
    large = cv2.resize(collins, (3000, 2000), interpolation=cv2.INTER_LINEAR)
    return [collins, hopper, crowd, large, cv2.resize(collins, (120, 160)),
            _noise(480, 640), _noise(1, 1), _noise(17, 33), _noise(33, 700)]


def _ball(height, width, near=2.0):
    rows, columns = np.mgrid[:height, :width]
    away = np.hypot(rows - height / 2, columns - width / 2) / max(height, width)
    random = np.random.default_rng(height * width)
    depth = near + 2 * away**2 + random.normal(0, 0.01, away.shape)
    seen = (away < 0.45) & (random.random(away.shape) > 0.02)
    return np.where(seen, depth, 0).astype(np.float32)


def _noise(height, width):
    generator = np.random.default_rng(height * width)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _in_float32(config):
    """Replaces every dtype policy in a serialised object."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return config | {"config": {"name": "float32"}}
        return {key: _in_float32(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    return config


def _write_files(folder, model, endpoints, precisions, quantise):
    """Writes the files of every runtime; returns what the card says about them.

    LiteRT's are made from the SavedModel; with `precisions` None there are none.
    """
    model.save(folder / "model.keras")
    outputs = saved_model.write(folder / "saved_model", endpoints)
    parameters = model.count_params()
    known = {"outputs": signatures.card_outputs(outputs), "parameters": parameters}
    if precisions is None:
        return known
    full, floats = litert.convert(folder / "saved_model", list(endpoints)), {}
    weights = model.get_weights()
    small = any(weight.dtype != np.float32 for weight in weights)
    operations = litert.check(full, parameters, weights=weights if small else None)
    (folder / "float32.tflite").write_bytes(full)
    for precision in precisions:
        if precision in quantize.PRECISIONS:
            content = quantise(full, precision)
            floats[precision] = quantize.float_operations(content)
        else:
            content = litert.convert(folder / "saved_model", list(endpoints), precision)
        litert.check(content, parameters, precision)
        (folder / f"{precision}.tflite").write_bytes(content)
    return known | {"operations": operations, "float_operations": floats}


def _digest(model):
    """Identifies the weights, whatever file they are in: SHA-256, hexadecimal."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight))
    return digest.hexdigest()


def _check_weights(model):
    for weight in model.weights:
        value = np.asarray(keras.ops.convert_to_numpy(weight), np.float64)
        if not np.all(np.isfinite(value)):
            raise ValueError(f"Weights are finite numbers, {weight.path} has others")
        if value.ndim > 1 and not np.any(value):
            raise ValueError(f"Trained weights are not zero, {weight.path} is")


def _check_target(folder):
    if folder.exists() and not (folder / "card.json").is_file():
        raise InputError(
            f"the output is a new folder or a model folder to replace, {folder} is "
            "something else"
        )


def _replace(source, folder):
    """Puts a finished folder in its place; an older one goes when it is there."""
    if not folder.exists():
        os.rename(source, folder)
        return
    older = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.",
                                          dir=folder.parent))
    os.rename(folder, older / "model")
    try:
        os.rename(source, folder)
    except OSError:
        os.rename(older / "model", folder)
        raise
    finally:
        shutil.rmtree(older, ignore_errors=True)
