"""Options that every recipe can have, under the same keys.

`RUN` is added to every recipe's config by `recipe.configure`; a recipe that reads
pictures of the user's has those of `PICTURES`. One that wants the others has them in
its config and asks for the optimizer:

    def get_config():
        return options.OPTIMIZER | {"learning_rate": 2e-3, "epochs": 20, ...}

    def build(config):
        with options.precision(config.policy):
            model = ...
        model.compile(options.optimizer(config, config.epochs * len(data(config))))
"""

import contextlib
import math

import keras

from mlcvtf.errors import InputError

RUN = {
    # A checkpoint after so many minutes (0: every step), and after every so many
    # steps (0: not by steps); besides, after every epoch.
    "checkpoint_minutes": 5.0,
    "checkpoint_steps": 0,
    # The metric to stop by, such as "val_loss"; "": train all epochs.
    "early_stopping": "",
    "early_stopping_mode": "min",
    "patience": 10,
}
# Of recipes that read pictures of the user's.
PICTURES = {
    # At a picture that cannot be used: "fail", or "skip" for the next one of the order
    # in its place, so that an epoch keeps its length.
    "on_bad_image": "fail",
    # A folder in which decoded pictures stay; "": none.
    "cache": "",
}
# Keys that change nothing of what is trained; on_bad_image changes whether it is.
FREE = ("checkpoint_minutes", "checkpoint_steps", *PICTURES)
OPTIMIZER = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    # Of sgd.
    "momentum": 0.9,
    "schedule": "cosine",
    # Updates in which the rate rises to `learning_rate`.
    "warmup_steps": 0,
    # At the end, as a share of `learning_rate`; of cosine and polynomial.
    "final_rate": 0.0,
    # Of polynomial.
    "power": 1.0,
    # Of step: the rate is multiplied by `factor` at these shares of the training.
    "boundaries": (0.6, 0.85),
    "factor": 0.1,
    "policy": "float32",
    # Batches per update.
    "accumulate": 1,
    # Largest norm of the gradient of all weights together; 0: any.
    "clip_norm": 0.0,
    # Momentum per update of the moving average of the weights; 0: none.
    "average": 0.0,
}
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("constant", "cosine", "polynomial", "step")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
# Scales, shifts and biases are not decayed.
UNDECAYED = ("bias", "gamma", "beta", "alpha")


@keras.saving.register_keras_serializable("mlcvtf")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that warms up and then falls.

    With u updates done of n, w of them to warm up, and p = (u - w) / (n - w):

        warm-up     rate (u + 1) / w
        constant    rate
        cosine      rate (f + (1 - f) (1 + cos(pi p)) / 2)
        polynomial  rate (f + (1 - f) (1 - p)^power)
        step        rate factor^(number of boundaries b with u >= b n)

    Args:
        kind: one of `SCHEDULES`.
        rate: the highest.
        updates: n; from then on the rate stays.
        warmup: w.
        final: f.
        power: of polynomial.
        boundaries: of step, in 0..1.
        factor: of step.
        every: batches per update; Keras counts batches.

    References:
        Loshchilov and Hutter, 2017, "SGDR", arXiv:1608.03983 (cosine); Goyal et al.,
        2017, arXiv:1706.02677 (warm-up).
    """

    def __init__(
        self,
        kind: str,
        rate: float,
        updates: int,
        warmup: int = 0,
        final: float = 0.0,
        power: float = 1.0,
        boundaries: tuple = (),
        factor: float = 0.1,
        every: int = 1,
    ):
        super().__init__()
        self.kind, self.rate, self.updates, self.warmup = kind, rate, updates, warmup
        self.final, self.power = final, power
        self.boundaries, self.factor, self.every = tuple(boundaries), factor, every

    def __call__(self, step):
        ops = keras.ops
        done = ops.cast(ops.floor_divide(step, self.every), "float32")
        share = (done - self.warmup) / max(self.updates - self.warmup, 1)
        share = ops.clip(share, 0.0, 1.0)
        if self.kind == "step":
            passed = [done >= b * self.updates for b in self.boundaries]
            passed = sum(ops.cast(p, "float32") for p in passed)
            factor = ops.power(self.factor, passed)
        else:
            falling = {
                "constant": ops.ones_like(share),
                "cosine": (1.0 + ops.cos(math.pi * share)) / 2.0,
                "polynomial": ops.power(1.0 - share, self.power),
            }[self.kind]
            factor = self.final + (1.0 - self.final) * falling
        rising = (done + 1.0) / max(self.warmup, 1)
        return self.rate * ops.where(done < self.warmup, rising, factor)

    def get_config(self):
        return {
            "kind": self.kind,
            "rate": self.rate,
            "updates": self.updates,
            "warmup": self.warmup,
            "final": self.final,
            "power": self.power,
            "boundaries": self.boundaries,
            "factor": self.factor,
            "every": self.every,
        }


@contextlib.contextmanager
def precision(policy: str):
    """Builds what is built inside in a precision.

    Args:
        policy: one of `POLICIES`; for `mixed_float16` see `scale_loss`.

    Raises:
        InputError: another policy.
    """
    one_of("policy", policy, POLICIES)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def schedule(config, steps: int) -> Schedule:
    """Makes the schedule of the learning rate.

    Args:
        config: with the keys of `OPTIMIZER`.
        steps: batches of the whole training.

    Raises:
        InputError: a key does not fit.
    """
    one_of("schedule", config.schedule, SCHEDULES)
    _check_numbers(config, steps)
    return Schedule(
        config.schedule,
        config.learning_rate,
        steps // config.accumulate,
        config.warmup_steps,
        config.final_rate,
        config.power,
        config.boundaries,
        config.factor,
        config.accumulate,
    )


def optimizer(config, steps: int) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a training.

    With accumulation a schedule counts updates. Keras averages weights after every
    batch; the momentum is the n-th root there, so that the average forgets as fast.

    Args:
        config: with the keys of `OPTIMIZER`.
        steps: batches of the whole training.

    Returns:
        A Keras optimizer; in `mixed_float16` one that scales the loss.

    Raises:
        InputError: a key does not fit.
    """
    one_of("optimizer", config.optimizer, OPTIMIZERS)
    one_of("policy", config.policy, POLICIES)
    settings = {
        "learning_rate": schedule(config, steps),
        "weight_decay": config.weight_decay or None,
        "global_clipnorm": config.clip_norm or None,
        "use_ema": config.average > 0,
        "ema_momentum": config.average ** (1 / config.accumulate),
        "gradient_accumulation_steps": (
            config.accumulate if config.accumulate > 1 else None
        ),
    }
    if config.optimizer == "sgd":
        made = keras.optimizers.SGD(momentum=config.momentum, **settings)
    else:
        settings["weight_decay"] = config.weight_decay
        made = keras.optimizers.AdamW(**settings)
    made.exclude_from_weight_decay(var_names=list(UNDECAYED))
    return scale_loss(made, config.policy)


def scale_loss(
    optimizer: keras.optimizers.Optimizer, policy: str
) -> keras.optimizers.Optimizer:
    """Scales the loss against underflow where the policy is `mixed_float16`.

    Keras does so by itself only where the whole model was built in that policy.

    Args:
        optimizer: that is to be wrapped.
        policy: one of `POLICIES`.
    """
    if policy == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def check_run(config) -> None:
    """Checks the keys of `RUN`.

    Raises:
        InputError: one of them does not fit.
    """
    one_of("early_stopping_mode", config.early_stopping_mode, ("min", "max"))
    rules = (
        ("checkpoint_minutes", config.checkpoint_minutes >= 0, "0 or more"),
        ("checkpoint_steps", config.checkpoint_steps >= 0, "0 or more"),
        ("patience", config.patience >= 1, "1 or more"),
    )
    _check(config, rules)


def one_of(key: str, value: str, names) -> None:
    """Checks a setting that has names for values.

    Args:
        key: of the setting.
        value: what was received.
        names: the names, in the order in which the message lists them.

    Raises:
        InputError: the value is none of them.
    """
    if value not in names:
        raise InputError(f"{key} is one of {', '.join(names)}; received {value}")


def _check_numbers(config, steps):
    updates = steps // max(config.accumulate, 1)
    inside = [b for b in config.boundaries if 0 < b < 1]
    rules = (
        ("learning_rate", config.learning_rate > 0, "above 0"),
        ("weight_decay", config.weight_decay >= 0, "0 or more"),
        ("accumulate", 1 <= config.accumulate <= steps, f"1 to {steps} (all batches)"),
        ("clip_norm", config.clip_norm >= 0, "0 or more"),
        ("average", 0 <= config.average < 1, "at least 0 and below 1"),
        ("final_rate", 0 <= config.final_rate <= 1, "a share, 0 to 1"),
        (
            "warmup_steps",
            0 <= config.warmup_steps < max(updates, 1),
            f"at least 0 and below the {updates} updates of the training",
        ),
        (
            "boundaries",
            inside == sorted(config.boundaries) == list(config.boundaries),
            "a tuple of rising shares between 0 and 1",
        ),
    )
    _check(config, rules)


def _check(config, rules):
    for key, right, rule in rules:
        if not right:
            raise InputError(f"{key} is {rule}; received {config[key]}")
