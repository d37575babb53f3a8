"""Cures for Keras 3.15 under `tf.distribute`: TensorFlow and private parts of Keras.

Everything that is reached behind Keras's public interface is in this file, for the
versions in `VERSIONS`; it acts where a computation has several replicas and leaves
one device alone. In the order of `CURES`:

- the model is built from a batch of the local replica, not from a mean of batches;
- scalars that the replicas return are reduced without an axis;
- BatchNormalization computes its moments over all replicas (a config, and so a saved
  file, keeps `synchronized=False` and loads on JAX);
- gradients are summed over the replicas before anything looks at them: loss scaling
  tests the sum, so that all replicas skip a step or none does; clipping, accumulation
  and the overwriting by a moving average act on the sum as one device would;
- the steps of an execution are calls, since a loop of TensorFlow cannot carry a
  distributed batch;
- what cannot work is refused in one line before the first step.
"""

import functools
import itertools

import keras
import tensorflow as tf
from keras.src import tree
from keras.src.backend.tensorflow import optimizer as tensorflow_optimizer
from keras.src.backend.tensorflow import trainer
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from mlcvtf.errors import InputError
from mlcvtf.training.strategy import LOST_EXIT_CODE, end_soon, workers

VERSIONS = ("3.15",)
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
)

# The strategy that models are expected to be built under; None: any.
_expected = None
_original_attribute = "mlcvtf_original"


def install() -> None:
    """Puts the cures into Keras, once.

    Raises:
        InputError: this Keras is of a version that the cures were not tried with.
    """
    version = ".".join(keras.__version__.split(".")[:2])
    if version not in VERSIONS:
        raise InputError(
            f"several devices or machines are tried with Keras {', '.join(VERSIONS)}; "
            f"received Keras {keras.__version__}"
        )
    for owner, name, cure in CURES:
        original = getattr(owner, name)
        if hasattr(original, _original_attribute):
            continue
        # A partial would not bind `self`.
        replacement = _wrap(original, cure)
        setattr(replacement, _original_attribute, original)
        setattr(owner, name, replacement)


def expect(strategy) -> None:
    """Sets the strategy whose scope `fit` wants models to be built in.

    Args:
        strategy: a `tf.distribute.Strategy`, or None to take any model.
    """
    global _expected
    _expected = strategy


def local_values(strategy, value) -> list:
    """Lists what the replicas of this process hold of a distributed value."""
    return list(strategy.experimental_local_results(value))


def _wrap(original, cure):
    @functools.wraps(original)
    def replacement(*args, **kwargs):
        return cure(original, *args, **kwargs)

    return replacement


def _several_replicas():
    """Returns the context of this replica, or None where it is the only one."""
    context = tf.distribute.get_replica_context()
    if context is None or context.strategy.num_replicas_in_sync == 1:
        return None
    return context


def _build(original, model, iterator=None, data_batch=None):
    """Builds from the first local replica's part of a batch."""
    strategy = model._distribute_strategy
    if strategy is None or iterator is None:
        return original(model, iterator, data_batch)

    def local(value):
        value = local_values(strategy, value)[0]
        return None if isinstance(value, tf.experimental.Optional) else value

    for _, _, batches in iterator:
        data_batch = tree.map_structure(local, next(batches))
        break
    with strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def _reduce(original, values, strategy, reduction):
    """Reduces the scalars that workers return; they have no axis 0."""
    if reduction == "concat" or not trainer._collective_all_reduce_multi_worker(
        strategy
    ):
        return original(values, strategy, reduction)
    operation = "SUM" if reduction == "sum" else "MEAN"
    return tree.map_structure(
        lambda value: strategy.reduce(operation, value, axis=None), values
    )


def _moments(original, layer, inputs, mask):
    """Gives mean and variance over the batch of all replicas, float32 `[channels]`."""
    context = _several_replicas()
    if context is None:
        return original(layer, inputs, mask)
    axes = layer._reduction_axes
    if mask is None:
        return keras.ops.moments(inputs, axes=axes, synchronized=True)
    weights = tf.broadcast_to(tf.cast(mask, inputs.dtype)[..., None], tf.shape(inputs))
    inputs = tf.where(weights > 0, inputs, 0)
    sums = [tf.reduce_sum(x, axes) for x in (weights, inputs, inputs * inputs)]
    count, total, squares = context.all_reduce("SUM", sums)
    count += keras.config.epsilon()
    mean = total / count
    return mean, tf.maximum(squares / count - mean * mean, 0)


def _sum(context, gradients):
    """Sums gradients over the replicas; None stays None."""
    known = [gradient for gradient in gradients if gradient is not None]
    sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, known) if known else [])
    return [None if gradient is None else next(sums) for gradient in gradients]


def _scaled_apply(original, optimizer, gradients, trainable_variables=None):
    """Lets loss scaling see the sum: an overflow anywhere is one everywhere."""
    context = _several_replicas()
    if context is not None:
        gradients = _sum(context, list(gradients))
        inner = optimizer.inner_optimizer
        for one in (inner, *getattr(inner, "optimizers", ())):
            one.gradients_are_summed = True
    return original(optimizer, gradients, trainable_variables)


def _apply(original, optimizer, gradients, variables):
    """Sums the gradients, then updates or accumulates as one device would."""
    context = _several_replicas()
    if context is None:
        return original(optimizer, gradients, variables)
    if not getattr(optimizer, "gradients_are_summed", False):
        gradients = _sum(context, gradients)
    if optimizer.gradient_accumulation_steps:
        # A branch may hold a merge_call only if it is chosen across the replicas.
        context.merge_call(
            functools.partial(_accumulate, optimizer, variables), args=(gradients,)
        )
    else:
        _update(optimizer, variables, gradients)
    if optimizer.use_ema:
        optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
        if optimizer.ema_overwrite_frequency:
            context.merge_call(functools.partial(_overwrite, optimizer))


def _update(optimizer, variables, gradients):
    """Clips, decays and updates with gradients that are equal on all replicas."""
    gradients = optimizer._clip_gradients(gradients)
    optimizer._apply_weight_decay(variables)
    tf.__internal__.distribute.interim.maybe_merge_call(
        optimizer._distributed_tf_update_step,
        optimizer._distribution_strategy,
        [(g, v.value) for g, v in zip(gradients, variables, strict=True)],
        optimizer.learning_rate,
    )


def _accumulate(optimizer, variables, strategy, gradients):
    """Adds to the accumulators, or updates with their mean at every n-th step."""
    steps = optimizer.gradient_accumulation_steps
    sums = [
        optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]
        for variable in variables
    ]

    def add(gradients):
        for gradient, total in zip(gradients, sums, strict=True):
            total.assign(total + gradient)

    def update(gradients):
        means = [(g + s) / steps for g, s in zip(gradients, sums, strict=True)]
        _update(optimizer, variables, means)
        for total in sums:
            total.assign(tf.zeros(total.shape, total.dtype))

    def on_each(function):
        strategy.extended.call_for_each_replica(function, args=(gradients,))

    tf.cond(
        (optimizer._iterations.value + 1) % steps == 0,
        lambda: on_each(update),
        lambda: on_each(add),
    )


def _overwrite(optimizer, strategy):
    """Puts the moving average into the model at every n-th step."""
    del strategy
    tf.cond(
        (optimizer.iterations + 1) % optimizer.ema_overwrite_frequency == 0,
        lambda: optimizer._overwrite_model_variables_with_average_value(
            optimizer._trainable_variables
        ),
        lambda: None,
    )


def _make_function(original, model, step_function):
    """Takes the steps of an execution one by one, as long as there are batches."""
    function, steps = original(model, step_function), model.steps_per_execution
    if model.distribute_strategy.num_replicas_in_sync == 1 or steps == 1:
        return function

    def execution(iterator):
        def batches():
            # A batch beyond the end would be an empty one, and a step.
            for _ in range(steps):
                batch = iterator.get_next_as_optional()
                if not batch.has_value():
                    return
                yield batch.get_value()

        found = batches()
        first = next(found, None)
        if first is None:
            raise StopIteration
        return function(itertools.chain([first], found))

    return execution


def _check_data(original, iterator, *args, **kwargs):
    """Refuses data and settings that Keras cannot run on several replicas."""
    original(iterator, *args, **kwargs)
    strategy = iterator._distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return
    if not iterator.steps_per_epoch and iterator.data_adapter.num_batches is None:
        raise InputError(
            "several devices need data of a known length, by steps_per_epoch (steps, "
            "validation_steps) or dataset.apply(tf.data.experimental."
            "assert_cardinality(n)); received data of unknown length"
        )
    if workers(strategy) > 1 and isinstance(iterator.data_adapter, TFDatasetAdapter):
        options = iterator.data_adapter.get_tf_dataset()
        options = options.options() if hasattr(options, "options") else None
        policy = options and options.experimental_distribute.auto_shard_policy
        if policy == tf.data.experimental.AutoShardPolicy.OFF:
            raise InputError(
                "with several workers a tf.data.Dataset is shared out by its auto "
                "shard policy AUTO, DATA or FILE (or comes from "
                "strategy.distribute_datasets_from_function); received OFF, with "
                "which every worker trains on the same data"
            )


def _fit(original, model, *args, **kwargs):
    """Refuses a model from outside the scope and says when a peer is lost."""
    strategy = model._distribute_strategy
    if strategy is None and _expected is not None:
        raise InputError(
            "a model is built inside `with strategy.scope()`; received "
            f"{model.name}, built outside, which would train on one device alone"
        )
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return original(model, *args, **kwargs)
    _check_scope(model, strategy)
    try:
        return original(model, *args, **kwargs)
    except LOST as error:
        if workers(strategy) == 1:
            raise
        end_soon()
        raise InputError(
            "all workers stay until the end; one of them went away (TensorFlow's "
            f"{type(error).__name__})", LOST_EXIT_CODE
        ) from None


def _check_scope(model, strategy):
    """Refuses variables that were made outside the scope of the strategy."""
    parts = [("layer weight", model.variables)]
    if model.compiled:
        parts.append(("metric", model.metrics_variables))
    if getattr(model, "optimizer", None) is not None:
        parts.append(("optimizer", model.optimizer.variables))
    for part, variables in parts:
        for variable in variables:
            if not strategy.extended.variable_created_in_scope(variable.value):
                raise InputError(
                    "layers, optimizer and metrics are made, and the model compiled, "
                    f"inside `with strategy.scope()`; received the {part} "
                    f"{variable.path} from outside"
                )


CURES = (
    (trainer.TensorFlowTrainer, "_maybe_symbolic_build", _build),
    (trainer, "reduce_per_replica", _reduce),
    (keras.layers.BatchNormalization, "_moments", _moments),
    (keras.optimizers.LossScaleOptimizer, "_tf_apply", _scaled_apply),
    (tensorflow_optimizer.TFOptimizer, "_backend_apply_gradients", _apply),
    (trainer.TensorFlowTrainer, "_make_function", _make_function),
    (trainer.TFEpochIterator, "__init__", _check_data),
    (trainer.TensorFlowTrainer, "fit", _fit),
)
