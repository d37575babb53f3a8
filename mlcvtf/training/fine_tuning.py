"""Fine-tuning: a new head, stages that stay as they are, lower rates for the backbone.

Every verb takes a task model with a `backbone`, or a backbone itself: a functional
model whose outputs are "P1", "P2" ... Stages have those names: the stage "P4" is what
is computed after "P3" and needed for "P4"; the first stage reaches down to the input.

    model = swap_head(keras.models.load_model("pretrained.keras"), classes=10)
    freeze(model, until="P3")
    fix_normalisation(model)
    model.compile(two_step(model, keras.optimizers.AdamW(1e-3), head_steps=100))

What is trainable counts from `compile` on: Keras keeps the step that it traced before.

References:
    Yosinski et al., 2014, "How transferable are features in deep neural networks?",
    arXiv:1411.1792 (stages that stay, stages that go on learning).
    Howard, Ruder, 2018, "Universal Language Model Fine-tuning for Text
    Classification", arXiv:1801.06146, section 3.2 (discriminative rates: 1/2.6 per
    layer downwards) and 3.3 (the head first).
    Kumar et al., 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution", arXiv:2202.10054 (why the head first).
"""

import re
from collections.abc import Iterator

import keras
from keras import ops

from mlcvtf.errors import InputError


def swap_head(model: keras.Model, classes: int, **changes) -> keras.Model:
    """Makes a model for other classes that has the weights of this one's backbone.

    Args:
        model: a task model with `backbone`, and `classes` in its config.
        classes: of the new model.
        **changes: other values of its config, such as `dropout`.

    Returns:
        A new model of the same type, all of it trainable and not compiled. What is not
        the backbone has fresh weights, also where `classes` is the same; the given
        model stays as it is.

    Raises:
        InputError: the model has no backbone or no classes, or a change names nothing
            in its config.
    """
    config = model.get_config()
    for key in ("backbone", "classes", *changes):
        if key not in config:
            raise InputError(
                f"a head is swapped in a model whose config has {key}, "
                f"{type(model).__name__} has {', '.join(sorted(config))}"
            )
    new = type(model).from_config(config | changes | {"classes": classes})
    new.backbone.set_weights(model.backbone.get_weights())
    # Frozen layers say so in the config.
    _train([new], True)
    return new


def stages(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Lists the layers of each stage, from the input on.

    Args:
        model: a task model with a backbone, or a backbone.

    Returns:
        "P1", "P2" ... to layers; every layer of the backbone is in one stage.

    Raises:
        InputError: the backbone is no functional model with such outputs.
    """
    backbone = getattr(model, "backbone", model)
    outputs = getattr(backbone, "output", None)
    if not isinstance(outputs, dict) or not all(
        re.fullmatch(r"P\d+", name) for name in outputs
    ):
        raise InputError(
            "a backbone is a functional model whose outputs are P1, P2 ..., received "
            f"{backbone.name} of type {type(backbone).__name__}"
        )
    found, known = {}, set()
    for name in sorted(outputs, key=lambda name: int(name[1:])):
        layers = keras.Model(backbone.inputs, outputs[name]).layers
        found[name] = [layer for layer in layers if id(layer) not in known]
        known |= {id(layer) for layer in layers}
    return found


def freeze(model: keras.Model, until: str | None = None) -> None:
    """Keeps the backbone's weights as they are, up to a stage.

    BatchNormalization that is frozen is in inference mode as well (see
    `fix_normalisation`), so a frozen stage computes the same all the time.

    Args:
        model: a task model with a backbone, or a backbone.
        until: the last stage that stays, such as "P3"; the whole backbone by default.

    Raises:
        InputError: there is no such stage.
    """
    found = stages(model)
    names = list(found)
    for name in names[: _index(names, until, len(names) - 1) + 1]:
        _train(found[name], False)


def unfreeze(model: keras.Model, since: str | None = None) -> None:
    """Has the backbone's weights learn again, from a stage on.

    That includes normalisation: `fix_normalisation` comes after it.

    Args:
        model: a task model with a backbone, or a backbone.
        since: the first stage that learns, such as "P4"; the whole backbone by
            default.

    Raises:
        InputError: there is no such stage.
    """
    backbone = getattr(model, "backbone", model)
    found = stages(backbone)
    names = list(found)
    first = _index(names, since, 0)
    if not backbone.trainable:
        # A model that was frozen as a whole hides what its layers say.
        backbone.trainable = True
        for name in names[:first]:
            _train(found[name], False)
    for name in names[first:]:
        _train(found[name], True)


def fix_normalisation(model: keras.Model) -> None:
    """Puts all BatchNormalization into inference mode, in training too.

    They normalise with their moving statistics, which stay as they are, and so do gamma
    and beta: in Keras `trainable = False` is both (see "About setting
    `layer.trainable = False`" in the docstring of BatchNormalization). Detectors are
    fine-tuned so (He et al., 2016, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, appendix A): it saves memory, and a batch of few large pictures
    gives poor statistics. Where batches are large and pictures of another kind,
    statistics that adapt can be better: try both.

    Args:
        model: any model; layers within layers are found as well.
    """
    _train(
        [x for x in _nested(model) if isinstance(x, keras.layers.BatchNormalization)],
        False,
    )


@keras.saving.register_keras_serializable(package="mlcvtf")
class ScaledRate(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate times a factor, zero during the first steps.

    Args:
        rate: a number or a `LearningRateSchedule`.
        factor: at least 0.
        wait: steps of rate 0.
    """

    def __init__(self, rate, factor: float = 1.0, wait: int = 0):
        super().__init__()
        self.rate, self.factor, self.wait = rate, factor, wait

    def __call__(self, step):
        rate = self.rate(step) if callable(self.rate) else self.rate
        rate = ops.cast(rate, "float32") * self.factor
        begun = ops.cast(step, "float32") >= self.wait
        return ops.where(begun, rate, ops.zeros_like(rate))

    def get_config(self):
        rate = self.rate
        if callable(rate):
            rate = keras.saving.serialize_keras_object(rate)
        return {"rate": rate, "factor": self.factor, "wait": self.wait}

    @classmethod
    def from_config(cls, config):
        return cls(**dict(config, rate=_rate(config["rate"])))


def discriminative_rates(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    factor: float = 0.1,
    stage_factor: float = 1.0,
) -> keras.optimizers.MultiOptimizer:
    """Gives the backbone a lower learning rate than the head.

    The backbone's last stage learns at `factor` times the optimizer's rate, each stage
    below at `stage_factor` times the one above it. Weight decay is multiplied by the
    rate in Keras, and follows it.

    Args:
        model: a task model with a backbone. Optimizer and model belong together:
            variables are told apart by their paths.
        optimizer: not yet used; each group gets one with the same config.
            `exclude_from_weight_decay` is in no config: call it on each of the
            result's `optimizers`.
        factor: at least 0.
        stage_factor: above 0; 1 / 2.6 is what Howard and Ruder advise per layer.

    Returns:
        A `keras.optimizers.MultiOptimizer`. It has no `learning_rate` that callbacks
        could change: give `optimizer` a schedule.

    Raises:
        InputError: a factor is out of its range, the optimizer wraps others (Keras puts
            loss scaling around the result by itself), its rate is neither a number nor
            a schedule, `global_clipnorm` is set (it would be per group), or a variable
            outside of the backbone has the path of one within.
    """
    return _grouped(model, optimizer, factor, stage_factor, 0)


def two_step(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    head_steps: int,
    factor: float = 1.0,
    stage_factor: float = 1.0,
) -> keras.optimizers.MultiOptimizer:
    """Trains the head alone first, then all, in one `fit`.

    A new head sends noise into the backbone until it has learnt something. During the
    first steps the backbone's rate is 0, which leaves its weights as they are bit for
    bit; statistics of BatchNormalization move unless they are fixed. One `fit` means
    one schedule and one checkpoint; its price are gradients of the backbone that nobody
    uses. A long first step is cheaper by `freeze`, `compile`, `fit`, then `unfreeze`,
    `compile`, `fit`.

    Args:
        model: as of `discriminative_rates`.
        optimizer: likewise.
        head_steps: steps of the head alone.
        factor: likewise, from then on.
        stage_factor: likewise.

    Returns:
        As of `discriminative_rates`.

    Raises:
        InputError: `head_steps` is negative, or as of `discriminative_rates`.
    """
    if head_steps < 0:
        raise InputError(f"head_steps is at least 0, received {head_steps}")
    return _grouped(model, optimizer, factor, stage_factor, head_steps)


def _grouped(model, optimizer, factor, stage_factor, wait):
    """Makes one optimizer for the head and one per rate of the backbone."""
    if factor < 0 or stage_factor <= 0:
        raise InputError(
            "factor is at least 0 and stage_factor above 0, received "
            f"{factor} and {stage_factor}"
        )
    config = optimizer.get_config()
    if "learning_rate" not in config:
        raise InputError(
            "groups are made of an optimizer with a learning rate of its own, received "
            f"{type(optimizer).__name__}"
        )
    if config.get("global_clipnorm") is not None:
        raise InputError(
            "groups of variables are clipped by clipnorm or clipvalue, received "
            f"global_clipnorm={config['global_clipnorm']}"
        )
    rate = _rate(config["learning_rate"])
    found = stages(model)
    _check_paths(model)
    groups = list(found.values())[::-1]
    if stage_factor == 1:
        groups = [sum(groups, [])]
    optimizers = {}
    for group in groups:
        pattern = "|".join(re.escape(v.path) for layer in group for v in layer.weights)
        if pattern:
            scaled = rate * factor if isinstance(rate, float) else None
            if wait or scaled is None:
                scaled = ScaledRate(rate, factor, wait)
            optimizers[pattern] = _copy(optimizer, scaled)
        factor *= stage_factor
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(_copy(optimizer, rate), optimizers)
    )


def _copy(optimizer, rate):
    """Makes an optimizer like another one, at another rate."""
    config = optimizer.get_config()
    if not isinstance(rate, float):
        rate = keras.saving.serialize_keras_object(rate)
    # Names are made anew: two alike would have variables of one name.
    del config["name"]
    return type(optimizer).from_config(config | {"learning_rate": rate})


def _rate(stored):
    """Gives the number or the schedule that a config holds."""
    schedule = keras.optimizers.schedules.LearningRateSchedule
    kind = ""
    if isinstance(stored, dict):
        kind = stored.get("class_name")
        # A function of one's own has no config that a copy could be made of.
        if kind not in ("function", "__lambda__"):
            stored = keras.saving.deserialize_keras_object(stored)
    if isinstance(stored, schedule):
        return stored
    if isinstance(stored, dict) or callable(stored):
        raise InputError(
            "a learning rate is a number or a keras LearningRateSchedule, received "
            f"{kind or type(stored).__name__}"
        )
    return float(stored)


def _check_paths(model):
    """Makes sure that a path says whether a variable is the backbone's."""
    within = {id(v): v.path for v in model.backbone.weights}
    paths = set(within.values())
    for variable in model.weights:
        if id(variable) not in within and variable.path in paths:
            raise InputError(
                "layers of backbone and head have names of their own, both have "
                f"{variable.path}"
            )


def _index(names, name, default):
    """Finds a stage among all."""
    if name is None:
        return default
    if name not in names:
        raise InputError(
            f"the backbone's stages are {', '.join(names)}; received {name}"
        )
    return names.index(name)


def _train(layers, value):
    """Sets what is trainable, layers within layers one by one.

    On TensorFlow a value that a layer has already is not handed down to those in it.
    """
    for layer in layers:
        for inner in _nested(layer):
            inner.trainable = value


def _nested(layer, known=None) -> Iterator[keras.layers.Layer]:
    """Yields a layer and all in it; Keras lists only those of the first level."""
    known = set() if known is None else known
    if id(layer) in known:
        return
    known.add(id(layer))
    yield layer
    for value in list(vars(layer).values()):
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, list | tuple):
            value = [value]
        for inner in list(value):
            if isinstance(inner, keras.layers.Layer):
                yield from _nested(inner, known)
