"""One call for an exported model: LiteRT, SavedModel or Keras behind it.

The runtime is imported when a model is loaded, and TensorFlow only for the two that
need it: with a `.tflite` file the first result is there in a quarter of a second.
"""

import contextlib
import hashlib
import json
import os
import pathlib

import numpy as np

from mlcvtf import card as cards
from mlcvtf.errors import InputError

# Runtime to what it reads from a model folder; "auto" takes the first there is.
RUNTIMES = {
    "litert": "float32.tflite",
    "litert_float16": "float16.tflite",
    "litert_dynamic": "dynamic.tflite",
    "litert_int8": "int8.tflite",
    "saved_model": "saved_model",
    "keras": "model.keras",
}
# The sides of the pictures that "prepared" takes are multiples of this.
MULTIPLE = 32


def load(
    folder: str | os.PathLike,
    runtime: str = "auto",
    task: str | None = None,
    threads: int = 2,
) -> "Predictor":
    """Loads an exported model.

    Args:
        folder: the model folder, which holds `card.json` and the files of at least
            one runtime.
        runtime: a key of `RUNTIMES`, or "auto" for the first whose file is there.
        task: the task that the caller needs, for instance "face_detection".
        threads: processor threads, at least 1.

    Returns:
        The model as a callable.

    Raises:
        InputError: the folder is no model folder, the model is for another task, the
            runtime is unknown or its file missing, or a file differs from its
            SHA-256 in the card.
    """
    card = cards.read(folder, task)
    folder = pathlib.Path(folder)
    if runtime == "auto":
        there = [name for name, file in RUNTIMES.items() if (folder / file).exists()]
        if not there:
            raise InputError(
                f"a model folder holds one of {', '.join(RUNTIMES.values())}, "
                f"there is none in {folder}"
            )
        runtime = there[0]
    if runtime not in RUNTIMES:
        raise InputError(
            f"a runtime is auto or one of {', '.join(RUNTIMES)}, received {runtime}"
        )
    cards.check_files(folder, card, RUNTIMES[runtime])
    start = {"saved_model": _saved_model, "keras": _keras}.get(runtime, _litert)
    try:
        with quiet():
            functions = start(folder / RUNTIMES[runtime], card, threads)
            functions["serving_default"](_blank(card))
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{folder / RUNTIMES[runtime]} must be a model that {runtime} can load: "
            f"{first}"
        ) from error
    return Predictor(card, runtime, functions)


def model_hash(card: dict) -> str:
    """Identifies what a model folder computes, whatever the runtime.

    Returns:
        64 hexadecimal digits that depend on the task, the input and the weights.

    Raises:
        InputError: the card has no digest of the weights.
    """
    if "weights" not in card:
        raise InputError(
            f"the card of an exported model has a digest of its weights, that of "
            f"{card['name']} has none"
        )
    parts = [card["task"], card["input"], card["weights"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Predictor:
    """A loaded model; `load` makes it.

    Args:
        card: the model's card.
        runtime: a key of `RUNTIMES`.
        functions: signature name to a function of one array.

    Attributes:
        card: the model's card, a dict.
        runtime: the runtime that was chosen.
        model_hash: hexadecimal digits that identify weights and task, the same for
            every runtime of a model folder.
        signatures: signature name to a function from one array to a dict of arrays.
    """

    def __init__(self, card: dict, runtime: str, functions: dict):
        self.card, self.runtime, self.signatures = card, runtime, functions
        self.model_hash = model_hash(card)
        self._longest_side = card["input"].get("longest_side", 0)
        depth = card["input"].get("name") == "depth"
        self._check = _check_depth if depth else _check_pixels

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the model on one picture.

        Args:
            image: uint8 `[height, width, 3]` RGB, of any size; of a model whose card
                says so, depth: float32 `[height, width]` in metres, 0 where missing.

        Returns:
            The outputs that the card names, without a batch dimension.

        Raises:
            ValueError: `image` is something else.
        """
        self._check(image, 3)
        if "prepared" in self.signatures and max(image.shape[:2]) <= self._longest_side:
            return self._run_prepared(image)
        return self.signatures["serving_default"](image)

    def batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the model on pictures of one size.

        Args:
            images: uint8 `[n, height, width, 3]` RGB, n at least 1; or depth, float32
                `[n, height, width]` in metres.

        Returns:
            The outputs that the card names, with a leading batch dimension. A
            detector's are padded; where its "labels" are -1 there is nothing.

        Raises:
            ValueError: `images` is something else.
        """
        self._check(images, 4)
        return self.signatures["batch"](images)

    def _run_prepared(self, image):
        """Does here what "serving_default" does slowly: the cast and the padding."""
        height, width = image.shape[:2]
        padded = prepared(image)
        found = self.signatures["prepared"](padded)
        if padded.shape == image.shape:
            return found
        corners = np.float32([width, height, width, height])
        boxes = np.minimum(found["boxes"], corners)
        keep = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        return {name: value[keep] for name, value in (found | {"boxes": boxes}).items()}


def prepared(image: np.ndarray) -> np.ndarray:
    """Makes of a picture what the signature "prepared" takes.

    Args:
        image: uint8 `[height, width, 3]`.

    Returns:
        float32 `[height, width, 3]`, padded with black to the right and to the bottom
        to multiples of `MULTIPLE`.
    """
    height, width = image.shape[:2]
    rows, columns = height + -height % MULTIPLE, width + -width % MULTIPLE
    padded = np.zeros((rows, columns, 3), np.float32)
    padded[:height, :width] = image
    return padded


def _check_pixels(image, rank):
    good = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not good or image.ndim != rank or image.shape[-1] != 3 or not image.size:
        shape = "[height, width, 3]" if rank == 3 else "[n, height, width, 3]"
        raise ValueError(
            f"Pixels are a uint8 array {shape}, received "
            f"{getattr(image, 'dtype', type(image).__name__)} "
            f"{list(getattr(image, 'shape', ()))}"
        )


def _check_depth(depth, rank):
    """Checks depth as `_check_pixels` pixels, of whose rank one is the colour."""
    good = isinstance(depth, np.ndarray) and depth.dtype == np.float32
    if not good or depth.ndim != rank - 1 or not depth.size:
        shape = "[height, width]" if rank == 3 else "[n, height, width]"
        raise ValueError(
            f"Depth is a float32 array {shape} in metres, received "
            f"{getattr(depth, 'dtype', type(depth).__name__)} "
            f"{list(getattr(depth, 'shape', ()))}"
        )


def _blank(card):
    """Returns a picture without anything, such as the model takes."""
    if card["input"].get("name") == "depth":
        return np.zeros((MULTIPLE, MULTIPLE), np.float32)
    return np.zeros((MULTIPLE, MULTIPLE, 3), np.uint8)


def _litert(path, card, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
    runners = {
        name: (interpreter.get_signature_runner(name), *signature["inputs"])
        for name, signature in interpreter.get_signature_list().items()
    }

    # A runner allocates again only when the size of its input changes.
    def function(runner, name):
        return lambda array: runner(**{name: array})

    return {key: function(*runner) for key, runner in runners.items()}


@contextlib.contextmanager
def quiet():
    """Keeps what runtimes log from C++ off the error stream, in a `with` block."""
    try:
        kept = os.dup(2)
    except OSError:  # There is no error stream.
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _tensorflow(threads):
    """Imports TensorFlow and limits its threads while it can still be done."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    # Once TensorFlow has run, its thread pools are fixed and the limit of the first
    # model stands.
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def _saved_model(path, card, threads):
    tf = _tensorflow(threads)
    loaded = tf.saved_model.load(str(path))

    def function(name):
        (argument,) = loaded.signatures[name].structured_input_signature[1]

        def call(array):
            # The whole `loaded`, not a signature alone, keeps the variables alive.
            found = loaded.signatures[name](**{argument: tf.constant(array)})
            return {key: value.numpy() for key, value in found.items()}

        return call

    return {name: function(name) for name in loaded.signatures}


def _keras(path, card, threads):
    tf = _tensorflow(threads)
    from mlcvtf.export import keras_file, signatures

    model = keras_file.load(path)
    def function(endpoint, specification):
        compiled = tf.function(endpoint, specification, autograph=False)
        return lambda array: {k: v.numpy() for k, v in compiled(array).items()}

    options = signatures.options(card["input"])
    endpoints = signatures.endpoints(model, card["task"], **options)
    return {name: function(*endpoint) for name, endpoint in endpoints.items()}
