"""What `benchmarks/backbones` measures, each network in a process of its own."""

import importlib
import pathlib
import statistics
import time

# What one measurement lasts at least, in seconds: a single call of a small network
# takes milliseconds, of which some are chance.
LEAST = 0.5
CLASSES = 1000


def ratios(ours, theirs, runs: int) -> dict:
    """Times two functions in turn.

    Each measurement is of as many calls as fill `LEAST` seconds; which function is
    first changes from pair to pair.

    Args:
        ours: function of no arguments that waits for its result.
        theirs: the other.
        runs: number of pairs.

    Returns:
        {"ours", "theirs": median seconds of a call, "ratio", "low", "high": median,
        least and greatest of the pairs' ratios}.
    """
    repeats = [calls(ours), calls(theirs)]
    pairs = []
    for run in range(runs):
        order = (0, 1) if run % 2 == 0 else (1, 0)
        seconds = [0.0, 0.0]
        for side in order:
            seconds[side] = timed((ours, theirs)[side], repeats[side])
        pairs.append(seconds)
    shares = [a / b for a, b in pairs]
    return {
        "ours": statistics.median(a for a, _ in pairs),
        "theirs": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(shares),
        "low": min(shares),
        "high": max(shares),
    }


def calls(function) -> int:
    """Returns how many calls fill `LEAST` seconds, after two that warm up."""
    function()
    function()
    return max(1, round(LEAST / timed(function, 1)))


def timed(function, repeats: int) -> float:
    """Returns the seconds of a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def pair(source: str, name: str, runs: int) -> dict:
    """Times a network beside its peer: forward passes and a training step.

    Args:
        source: "keras" (`keras.applications`), "keras_hub", "torchvision" or "timm".
        name: of the network there; of KerasHub, as `networks.NETWORKS` has it.
        runs: pairs of each.

    Returns:
        Key "forward 1", "forward 8" and "train 16" to what `ratios` gives.
    """
    torch = source in ("torchvision", "timm")
    if torch:
        # Before TensorFlow: the other way round it hangs or ends the process.
        importlib.import_module(source)
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    side, ours, theirs = networks(source, name)
    generator = np.random.default_rng(0)
    found = {"size": side}
    for batch in (1, 8):
        images = generator.uniform(0, 255, (batch, side, side, 3)).astype("float32")
        functions = (
            keras_forward(ours, images),
            (torch_forward if torch else keras_forward)(theirs, images),
        )
        found[f"forward {batch}"] = ratios(*functions, runs)
    images = generator.uniform(0, 255, (16, side, side, 3)).astype("float32")
    labels = generator.integers(0, CLASSES, 16)
    functions = (
        keras_step(ours, images, labels),
        (torch_step if torch else keras_step)(theirs, images, labels),
    )
    found["train 16"] = ratios(*functions, runs)
    return found


def networks(source, name):
    """Builds our network and its peer; returns the pictures' side and both."""
    if source == "keras_hub":
        from mlcvtf.classification import networks as ours

        return ours.NETWORKS[name].size, ours.build(name, CLASSES), hub_peer(name)
    from mlcvtf.weights import architectures

    architecture = architectures.find(source, name)
    live = architecture.live(CLASSES) if source == "keras" else None
    model = architecture.build(CLASSES, {}, live)
    if source == "keras":
        return live.input_shape[1], model, live
    if source == "torchvision":
        options = {"init_weights": False} if name == "googlenet" else {}
        options |= {"aux_logits": False} if name == "googlenet" else {}
        peer = importlib.import_module("torchvision").models.get_model(
            name, weights=None, **options
        )
    else:
        peer = importlib.import_module("timm").create_model(name, num_classes=CLASSES)
    return architecture.size, model, peer


def hub_peer(name):
    """Builds a network of KerasHub from its arguments, without a download."""
    import keras_hub

    models = keras_hub.models
    if name.startswith("vit"):
        from mlcvtf.backbones.vit import VARIANTS

        row = VARIANTS[name.removeprefix("vit_")]
        backbone = models.ViTBackbone(
            (224, 224, 3), row.patch, row.depth, row.heads, row.dimension, row.hidden
        )
        return models.ViTImageClassifier(backbone, CLASSES)
    from mlcvtf.backbones.resnet import VARIANTS

    row = VARIANTS[name]
    backbone = models.ResNetBackbone(
        [64],
        [7],
        [64, 128, 256, 512],
        list(row.repeats),
        [1, 2, 2, 2],
        "bottleneck_block" if row.bottleneck else "basic_block",
        image_shape=(224, 224, 3),
    )
    return models.ResNetImageClassifier(backbone, CLASSES)


def keras_forward(model, images):
    """Returns a compiled forward pass."""
    import tensorflow as tf

    images = tf.constant(images)
    compiled = tf.function(lambda x: model(x, training=False), autograph=False)

    def run():
        tf.nest.map_structure(lambda t: t.numpy(), compiled(images))

    return run


def keras_step(model, images, labels):
    """Returns a training step of SGD with momentum."""
    import keras
    import tensorflow as tf

    if type(model).__module__.startswith("mlcvtf."):
        # It has its loss and its accuracy.
        options = {}
    else:
        options = {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": ["accuracy"],
        }
    model.compile(keras.optimizers.SGD(1e-4, 0.9), jit_compile=False, **options)
    images, labels = tf.constant(images), tf.constant(labels)
    return lambda: model.train_on_batch(images, labels)


def torch_forward(model, images):
    """Returns a forward pass of PyTorch."""
    import torch

    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def run():
        model.eval()
        with torch.inference_mode():
            model(tensor)

    return run


def torch_step(model, images, labels):
    """Returns a training step of PyTorch, of SGD with momentum."""
    import torch

    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, 0.9)

    def run():
        model.train()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(tensor), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def variant(name: str, folder: str) -> dict:
    """Times a forward pass of one picture and writes the network's LiteRT file.

    Args:
        name: of `networks.NETWORKS`.
        folder: where the file is written.

    Returns:
        {"size", "parameters", "multiply_adds", "ms"; "file" or, where the converter
        refuses, "refused": why}.
    """
    import numpy as np
    import tensorflow as tf

    from mlcvtf.classification import networks as every
    from mlcvtf.explain.profile import profile

    side = every.NETWORKS[name].size
    model = every.build(name, CLASSES)
    counts = profile(model, (side, side, 3))
    found = {
        "size": side,
        "parameters": counts.total("parameters"),
        "multiply_adds": counts.total("multiply_adds"),
    }
    images = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3))
    run = keras_forward(model, images.astype("float32"))
    repeats = calls(run)
    found["ms"] = 1000 * statistics.median(timed(run, repeats) for _ in range(5))
    path = pathlib.Path(folder) / f"{name}.tflite"
    saved = pathlib.Path(folder) / "saved_model"
    function = tf.function(
        lambda x: model(x, training=False)["logits"],
        [tf.TensorSpec((1, side, side, 3), "float32")],
        autograph=False,
    )
    module = tf.Module()
    module.model, module.serve = model, function
    tf.saved_model.save(module, str(saved), signatures=function)
    from mlcvtf.export.litert import convert

    try:
        path.write_bytes(convert(saved, ["serving_default"]))
    except Exception as error:
        # The converter raises plain exceptions; for one, a file beyond 2 GiB.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return found | {"refused": lines[0]}
    return found | {"file": str(path)}


def litert(path: str) -> dict:
    """Times a LiteRT file on two threads; this process imports nothing larger.

    Returns:
        {"litert_ms": of a picture, "litert_mib": the process's peak, Python included}.
    """
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=2)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    images = np.random.default_rng(0).uniform(0, 255, detail["shape"])
    interpreter.set_tensor(detail["index"], images.astype("float32"))
    repeats = calls(interpreter.invoke)
    seconds = statistics.median(timed(interpreter.invoke, repeats) for _ in range(5))
    return {"litert_ms": 1000 * seconds, "litert_mib": peak_mib()}


def peak_mib() -> float:
    """Returns the most memory that this process has had, in MiB (Linux).

    Not `getrusage`: there a process begins with the peak of the one that started it.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    line = next(li for li in status.splitlines() if li.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
