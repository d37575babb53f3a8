"""Neural architecture search: a controller that learns which cells classify well.

Zoph, Le, 2017, "Neural Architecture Search with Reinforcement Learning",
arXiv:1611.01578: a recurrent network draws an architecture decision by decision, the
architecture is trained, and its accuracy on held-out pictures is the reward of
REINFORCE (Williams, 1992) with a moving average as baseline. The space is that of
`cell_network`.

What differs: the controller has one LSTM, and takes a larger step after every child,
since there are 150 of them and not 12,800; the reward is the accuracy after the last
epoch, not the cube of the best one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from mlcvtf.classification.cell_network import BLOCKS, DECISIONS, canonical, options
from mlcvtf.classification.trials import TrialLog


@keras.saving.register_keras_serializable(package="mlcvtf")
class Controller(keras.Model):
    """Draws cells decision by decision, and learns from rewards by REINFORCE.

    An embedding of the decision before goes through an LSTM; what an input is and what
    an operation is are two linear layers that all blocks share.

    Args:
        blocks: of a cell.
        units: of the embedding and the LSTM.
        entropy_weight: of the entropy of the decisions, which keeps them open.

    Input: int `[batch, 4 blocks]`: 0, then the decisions but for the last, plus 1.
    Output: {"logits": float32 `[batch, 4 blocks, options]`}, of which those that a
    decision does not have are -1e9. Targets are {"cell": int `[batch, 4 blocks]`,
    "advantage": float `[batch]`, the reward less the baseline}; the loss is the mean of
    -advantage log p(cell) - entropy_weight entropy, whose gradient is REINFORCE's.

    Raises:
        ValueError: a number is out of its range.

    References:
        Zoph, Le, 2017, arXiv:1611.01578, section 3.2; Williams, 1992, "Simple
        Statistical Gradient-Following Algorithms for Connectionist Reinforcement
        Learning".
    """

    def __init__(
        self,
        blocks: int = BLOCKS,
        units: int = 64,
        entropy_weight: float = 1e-3,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if blocks < 1 or units < 1 or entropy_weight < 0:
            raise ValueError(
                "blocks and units are at least 1 and entropy_weight at least 0, "
                f"received {blocks}, {units} and {entropy_weight}"
            )
        self.blocks, self.units = blocks, units
        self.entropy_weight = entropy_weight
        counts = np.array(options(blocks))
        width = counts.max()
        self.closed = np.arange(width) >= counts[:, None]
        self.inputs_turn = np.arange(len(counts)) % DECISIONS < 2
        start = keras.initializers.RandomUniform(-0.08, 0.08)
        kwargs = {"dtype": self.dtype_policy, "name": "embedding"}
        self.embedding = keras.layers.Embedding(int(width) + 1, units, start, **kwargs)
        self.memory = keras.layers.LSTM(
            units, return_sequences=True, dtype=self.dtype_policy, name="memory"
        )
        heads = [
            keras.layers.Dense(
                int(width), kernel_initializer=start, dtype="float32", name=name
            )
            for name in ("input", "operation")
        ]
        self.input_head, self.operation_head = heads
        self.embedding.build((None, len(counts)))
        self.memory.build((None, len(counts), units))
        for head in heads:
            head.build((None, len(counts), units))
        self.built = True

    def call(self, tokens, training=None):
        x = self.memory(self.embedding(tokens), training=training)
        turn = ops.convert_to_tensor(self.inputs_turn)[:, None]
        logits = ops.where(turn, self.input_head(x), self.operation_head(x))
        return {"logits": ops.where(ops.convert_to_tensor(self.closed), -1e9, logits)}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        logs = ops.log_softmax(ops.cast(y_pred["logits"], "float32"), axis=-1)
        chosen = ops.one_hot(ops.cast(y["cell"], "int32"), logs.shape[-1])
        likelihood = ops.sum(chosen * logs, axis=(1, 2))
        entropy = -ops.sum(ops.exp(logs) * logs, axis=(1, 2))
        advantage = ops.cast(y["advantage"], "float32")
        losses = -advantage * likelihood - self.entropy_weight * entropy
        if sample_weight is None:
            return ops.mean(losses)
        weights = ops.cast(sample_weight, losses.dtype)
        return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1e-7)

    def probabilities(self, cell: Sequence[int]) -> np.ndarray:
        """Gives the probabilities of every option, given the decisions before it.

        Args:
            cell: decisions; those at and after a place do not change it.

        Returns:
            float `[4 blocks, options]`, rows sum to 1.
        """
        # Not a call: op by op, an LSTM takes a hundred times longer.
        logits = self.predict_on_batch(tokens([cell]))["logits"][0]
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)

    def sample(self, generator: np.random.Generator) -> tuple[int, ...]:
        """Draws a cell.

        Args:
            generator: source of all randomness.
        """
        cell = [0] * (DECISIONS * self.blocks)
        for place in range(len(cell)):
            row = self.probabilities(cell)[place].astype(np.float64)
            cell[place] = int(generator.choice(len(row), p=row / row.sum()))
        return tuple(cell)

    def get_config(self):
        return {
            "name": self.name,
            "blocks": self.blocks,
            "units": self.units,
            "entropy_weight": self.entropy_weight,
        }


def tokens(cells: Sequence) -> np.ndarray:
    """Makes the controller's input of cells: int32 `[batch, decisions]`."""
    cells = np.asarray(cells, np.int32) + 1
    return np.concatenate([np.zeros_like(cells[:, :1]), cells[:, :-1]], axis=1)


class RandomSearch:
    """Draws every decision evenly: what a search has to be better than.

    Args:
        seed: of all randomness.
        blocks: of a cell.
    """

    def __init__(self, seed: int, blocks: int = BLOCKS):
        self.seed, self.blocks = seed, blocks

    def propose(self, child: int) -> tuple[int, ...]:
        """Draws the cell of a child; the same one for the same number."""
        generator = np.random.default_rng((self.seed, child))
        return tuple(int(generator.integers(n)) for n in options(self.blocks))

    def learn(self, cell: Sequence[int], reward: float) -> None:
        """Learns nothing."""


class Reinforce:
    """Draws cells with a `Controller` and trains it with what they reach.

    Args:
        seed: of all randomness.
        blocks: of a cell.
        learning_rate: of Adam.
        forgetting: share of the newest reward in the baseline, 0 to 1.
        **kwargs: of `Controller`.
    """

    def __init__(
        self,
        seed: int,
        blocks: int = BLOCKS,
        learning_rate: float = 0.01,
        forgetting: float = 0.1,
        **kwargs,
    ):
        keras.utils.set_random_seed(seed)
        self.seed, self.forgetting, self.baseline = seed, forgetting, None
        self.controller = Controller(blocks, **kwargs)
        self.controller.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)

    def propose(self, child: int) -> tuple[int, ...]:
        """Draws the cell of a child from what was learned so far."""
        return self.controller.sample(np.random.default_rng((self.seed, child)))

    def learn(self, cell: Sequence[int], reward: float) -> None:
        """Takes one step that makes a cell better than the baseline more likely.

        Args:
            cell: that was proposed.
            reward: its accuracy on held-out pictures, 0 to 1.
        """
        # The first reward is its own baseline: there is nothing to compare it with.
        before = reward if self.baseline is None else self.baseline
        targets = {
            "cell": np.array([cell], np.int32),
            "advantage": np.array([reward - before], np.float32),
        }
        self.controller.train_on_batch(tokens([cell]), targets)
        self.baseline = before + self.forgetting * (reward - before)


METHODS = {"REINFORCE": Reinforce, "random": RandomSearch}


def search(
    searcher, evaluate: Callable, children: int, log: TrialLog, cache: dict
) -> list[dict]:
    """Evaluates cells until so many are logged; goes on after those that are.

    Args:
        searcher: a `RandomSearch` or `Reinforce` that has seen nothing yet.
        evaluate: maps a cell in its canonical form to a dict with "accuracy".
        children: cells in all.
        log: of this search alone.
        cache: {canonical cell: what `evaluate` gave}, which is added to. A cell that
            is drawn again is a child as any other, and is not trained again.

    Returns:
        The log's trials, at most `children`: what `evaluate` gave, "child", "cell" as
        it was proposed, and "cached", whether it was not trained for this child.
    """
    for trial in log.trials[:children]:
        searcher.learn(trial["cell"], trial["accuracy"])
    while len(log.trials) < children:
        child = len(log.trials)
        cell = searcher.propose(child)
        key = canonical(cell)
        known = key in cache
        if not known:
            cache[key] = evaluate(key)
        log.add({"child": child, "cell": list(cell), **cache[key], "cached": known})
        searcher.learn(cell, cache[key]["accuracy"])
    return log.trials[:children]


class Bands(NamedTuple):
    """Best-so-far over several seeds, each `[children]`.

    Attributes:
        mean: over the seeds.
        low: the smallest.
        high: the largest.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def best_so_far(accuracies: Sequence[Sequence[float]]) -> Bands:
    """Gives the best accuracy of the children up to each.

    Args:
        accuracies: `[seeds, children]`.
    """
    best = np.maximum.accumulate(np.asarray(accuracies, np.float64), axis=1)
    return Bands(best.mean(0), best.min(0), best.max(0))
