"""Turns a classifier into a fully convolutional network that yields a heat map.

Long, Shelhamer, Darrell, 2015, "Fully Convolutional Networks for Semantic
Segmentation", arXiv:1411.4038, section 3.1: a dense layer over a map of h x w places
is a convolution with a kernel of that size, one over a vector a 1x1 convolution. Then
the network slides over larger images, and each place of its output is the scores of
one window. Not from the paper: global pooling becomes pooling over windows of the size
that the map had in training, or is left out (`windows=False`), which gives the class
activation map of Zhou et al., 2016, arXiv:1512.04150.
"""

import copy
from typing import NamedTuple

import keras

from mlcvtf.classification.classifier import ImageClassifier

POOLS = {
    "GlobalAveragePooling2D": "AveragePooling2D",
    "GlobalMaxPooling2D": "MaxPooling2D",
}
# Layers that treat every value alike: on a flattened map as on a map.
VALUEWISE = {
    "Activation",
    "AlphaDropout",
    "Dropout",
    "ELU",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "LeakyReLU",
    "ReLU",
}
# Layers of vectors that can be applied at every place of a map.
PLACEWISE = VALUEWISE | {
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "LayerNormalization",
    "Multiply",
    "Softmax",
    "UnitNormalization",
}
CONVOLUTION_KEYS = (
    "name",
    "trainable",
    "dtype",
    "activation",
    "use_bias",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "bias_regularizer",
    "kernel_constraint",
    "bias_constraint",
)


class _Tensor(NamedTuple):
    """A tensor in the config of a functional model: whose, which, and its shape."""

    name: str
    node: int
    index: int
    shape: tuple


def convolutionalize(
    model: keras.Model,
    size: tuple[int, int] | None = None,
    windows: bool = True,
) -> keras.Model:
    """Builds the fully convolutional form of a classifier, with its weights.

    Args:
        model: an `ImageClassifier`, or a functional or Sequential model that ends in
            flattening or global pooling and dense layers; maps are channels last. It
            is not changed.
        size: height and width, in pixels, that the classifier was made for; needed
            where the model takes any size.
        windows: global pooling becomes pooling over windows; False leaves it out, so
            that a place of the heat map is what that place alone speaks for.

    Returns:
        A functional model of any size at least `size` (any size at all where there
        was global pooling and `windows` is False). Its outputs have the names of the
        classifier's and shape `[batch, rows, columns, classes]`: 1 x 1 at `size`, equal
        to the classifier's, and one place more for each stride of the network beyond.

    Raises:
        ValueError: the model has no dense layer after a map, or something in it
            cannot slide over a map; the message names it.
    """
    source = _functional(model)
    shapes = {op.name: _shape(op) for op in source.operations}
    config = _any_size(source.get_config())
    head = _head(config, shapes)
    # Names of tensors to sizes, before anything is rewritten.
    sizes = _map_sizes(source, config, head, size) if windows else {}
    on_map = [
        any(len(tensor.shape) == 4 for tensor in _sources(layer))
        for layer in head.values()
    ]
    if not any(on_map) or not any(
        layer["class_name"] == "Dense" for layer in head.values()
    ):
        raise ValueError(
            "a classifier has dense layers after flattening or global pooling, "
            f"{model.name} has none"
        )
    places = {}
    for layer in head.values():
        _convert(layer, places, sizes, windows)
    try:
        with keras.saving.CustomObjectScope(_custom(source)):
            result = keras.Model.from_config(config)
    except (ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{model.name} cannot take any size: {first}") from None
    # A layer that was set to one size, such as Reshape, gives it whatever comes in.
    if any(tensor.shape[1] is not None for tensor in result.outputs):
        raise ValueError(f"{model.name} cannot take any size: a layer's output has one")
    weights = [keras.ops.convert_to_numpy(weight) for weight in source.weights]
    targets = [tuple(weight.shape) for weight in result.weights]
    if [w.size for w in weights] != [keras.ops.size(w) for w in result.weights]:
        raise ValueError(f"{model.name} has weights that depend on the image's size")
    result.set_weights(
        [w.reshape(shape) for w, shape in zip(weights, targets, strict=True)]
    )
    return result


def _functional(model):
    """Returns a functional model that shares the given one's layers."""
    if isinstance(model, ImageClassifier):
        images = keras.Input(model.backbone.input_shape[1:], name="images")
        # On symbols the call leaves a graph of layers, those of subclasses as well.
        logits = model.call(images)["logits"]
        return keras.Model(images, {"logits": logits}, name=model.name)
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not hasattr(model, "operations"):
        raise ValueError(
            "what can be turned is an ImageClassifier or a functional or built "
            f"Sequential model, received {type(model).__name__}"
        )
    return model


def _custom(model):
    """Returns the classes of a model's layers, some may not be registered."""
    return {type(layer).__name__: type(layer) for layer in model.layers}


def _shape(operation):
    shapes = [tuple(t.shape) for t in keras.tree.flatten(operation.output)]
    return shapes[0] if len(shapes) == 1 else None


def _any_size(config):
    """Lets every image input in a config, nested ones too, take any size."""
    if isinstance(config, dict):
        config = {
            key: _any_size(value)
            for key, value in config.items()
            # The sizes that layers were built for.
            if key not in ("build_config", "build_input_shape")
        }
        if config.get("class_name") == "InputLayer":
            batch, *sides = config["config"]["batch_shape"]
            if len(sides) == 3:
                config["config"]["batch_shape"] = [batch, None, None, sides[-1]]
        return config
    if isinstance(config, list | tuple):
        return type(config)(_any_size(value) for value in config)
    return config


def _head(config, shapes):
    """Returns the layers of vectors from which no way leads back to a map.

    A squeeze-and-excitation gate pools too, but it ends in the map again.
    """
    vectors = {}
    consumers = {layer["name"]: [] for layer in config["layers"]}
    for layer in config["layers"]:
        for source in _sources(layer):
            consumers[source.name].append(layer["name"])
    for layer in reversed(config["layers"]):
        name = layer["name"]
        shape = shapes[name]
        if (
            shape is not None
            and len(shape) == 2
            and all(consumer in vectors for consumer in consumers[name])
        ):
            vectors[name] = layer
    return dict(reversed(vectors.items()))


def _sources(layer):
    """Returns the tensors that a layer takes."""
    tensors = []

    def visit(value):
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                config = value["config"]
                tensors.append(
                    _Tensor(*config["keras_history"], tuple(config["shape"]))
                )
            else:
                for inner in value.values():
                    visit(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                visit(inner)

    visit(layer["inbound_nodes"])
    return tensors


def _map_sizes(source, config, head, size):
    """Returns map to height and width of it in the classifier at its size."""
    sizes = {}
    for layer in head.values():
        for tensor in _sources(layer):
            if len(tensor.shape) != 4:
                continue
            sizes[tensor] = tuple(tensor.shape[1:3])
            if None not in sizes[tensor]:
                continue
            if size is None:
                raise ValueError(
                    f"{source.name} takes any size; size is height and width that it "
                    "was made for"
                )
            names = [layer["name"] for layer in config["layers"]]
            trunk = dict(
                config,
                layers=config["layers"][: names.index(tensor.name) + 1],
                output_layers=[tensor.name, tensor.node, tensor.index],
            )
            with keras.saving.CustomObjectScope(_custom(source)):
                trunk = keras.Model.from_config(copy.deepcopy(trunk))
            shape = trunk.compute_output_shape((1, *size, source.input_shape[-1]))
            sizes[tensor] = tuple(shape[1:3])
    return sizes


def _convert(layer, places, sizes, windows):
    """Rewrites the config of one layer of vectors to one of maps, in place.

    Args:
        layer: of `config["layers"]`.
        places: name to height and width of the map that a flat vector was.
        sizes: map to height and width at the classifier's size.
        windows: see `convolutionalize`.
    """
    name, kind, config = layer["name"], layer["class_name"], layer["config"]
    inputs = _sources(layer)
    if len(layer["inbound_nodes"]) != 1:
        raise ValueError(f"a layer of vectors is used once, {name} more often")
    if config.get("noise_shape") or config.get("data_format") == "channels_first":
        raise ValueError(f"{name} ({kind}) cannot slide over a map as it is set")
    kept = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    on_map = len(inputs) == 1 and len(inputs[0].shape) == 4
    if kind in POOLS and on_map:
        layer["class_name"] = POOLS[kind] if windows else "Identity"
        if windows:
            kept |= {"pool_size": sizes[inputs[0]], "strides": 1, "padding": "valid"}
        layer["config"] = kept
    elif kind == "Flatten" and on_map:
        places[name] = sizes.get(inputs[0], inputs[0].shape[1:3])
        layer["class_name"], layer["config"] = "Identity", kept
    elif any(len(tensor.shape) == 4 for tensor in inputs):
        raise ValueError(
            f"{name} ({kind}) makes a vector of a map; what can be turned is Flatten, "
            + " and ".join(POOLS)
        )
    elif kind == "Dense":
        layer["class_name"] = "Conv2D"
        layer["config"] = {key: config[key] for key in CONVOLUTION_KEYS} | {
            "filters": config["units"],
            "kernel_size": places.get(inputs[0].name, (1, 1)),
        }
    elif any(tensor.name in places for tensor in inputs):
        if kind not in VALUEWISE:
            raise ValueError(
                f"{name} ({kind}) between flattening and the first dense layer cannot "
                "slide over a map"
            )
        places[name] = places[inputs[0].name]
    elif kind not in PLACEWISE:
        raise ValueError(f"{name} ({kind}) cannot slide over a map")
    elif "axis" in config:
        config["axis"] = -1
