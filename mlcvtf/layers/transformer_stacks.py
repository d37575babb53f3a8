"""Stacks of the Transformer's encoder and decoder blocks.

Vaswani et al., 2017, "Attention Is All You Need", arXiv:1706.03762, figure 1.
"""

import keras

from mlcvtf.layers.transformer import (
    TransformerDecoderBlock,
    TransformerEncoderBlock,
    layer_normalisation,
)


class _Stack(keras.layers.Layer):
    """What both stacks share: settings, and a last norm behind pre-norm blocks."""

    block = None

    def __init__(
        self,
        depth: int,
        heads: int,
        hidden: int,
        norm: str = "pre",
        activation: str = "relu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if depth < 1:
            raise ValueError(f"depth is at least 1, received {depth}")
        self.depth, self.heads, self.hidden, self.norm = depth, heads, hidden, norm
        self.activation, self.dropout = activation, dropout
        self.attention_dropout, self.epsilon = attention_dropout, epsilon
        self.blocks = [
            self.block(
                heads,
                hidden,
                norm,
                activation,
                dropout,
                attention_dropout,
                epsilon,
                dtype=self.dtype_policy,
                name=f"block{index}",
            )
            for index in range(depth)
        ]
        self.last_norm = None
        if norm == "pre":
            # Post-norm blocks end with a norm of their own.
            self.last_norm = layer_normalisation(epsilon, self.dtype_policy, "norm")

    def _build(self, *shapes):
        for block in self.blocks:
            block.build(*shapes)
        if self.last_norm is not None:
            self.last_norm.build(shapes[0])

    def _end(self, x):
        return x if self.last_norm is None else self.last_norm(x)

    def get_config(self):
        return super().get_config() | {
            "depth": self.depth,
            "heads": self.heads,
            "hidden": self.hidden,
            "norm": self.norm,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="mlcvtf")
class TransformerEncoder(_Stack):
    """Raises a sequence of tokens level by level, all of them at once.

    Args:
        depth: number of blocks.
        heads: number of attention heads of each.
        hidden: units of the feed-forward networks' hidden layers.
        norm: "post" as in the paper, or "pre", which ends with one more norm.
        activation: of the feed-forward networks.
        dropout: share of what is added that training drops.
        attention_dropout: share of the attention weights that training drops.
        epsilon: of layer normalisation.

    Input: float `[batch, n, d]`; `attention_mask` bool, see `MultiHeadAttention`.
    Output: float `[batch, n, d]`.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.1.
    """

    block = TransformerEncoderBlock

    def build(self, input_shape):
        self._build(input_shape)

    def call(self, inputs, attention_mask=None, training=None):
        x = inputs
        for block in self.blocks:
            x = block(x, attention_mask=attention_mask, training=training)
        return self._end(x)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="mlcvtf")
class TransformerDecoder(_Stack):
    """Raises tokens that see a context and those before them.

    All tokens at once in training; one by one, with a cache of keys and values, where
    a sequence is generated. Both are equal.

    Args:
        depth: number of blocks.
        heads: number of attention heads of each.
        hidden: units of the feed-forward networks' hidden layers.
        norm: "post" as in the paper, or "pre", which ends with one more norm.
        activation: of the feed-forward networks.
        dropout: share of what is added that training drops.
        attention_dropout: share of the attention weights that training drops.
        epsilon: of layer normalisation.

    Input: tokens float `[batch, n, d]`; context float `[batch, m, c]`; `context_mask`
    bool that broadcasts to `[batch, heads, n, m]`.
    Output: float `[batch, n, d]`.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.1.
    """

    block = TransformerDecoderBlock

    def build(self, inputs_shape, context_shape):
        self._build(inputs_shape, context_shape)

    def call(self, inputs, context, context_mask=None, training=None):
        x = inputs
        for block in self.blocks:
            x = block(x, context, context_mask=context_mask, training=training)
        return self._end(x)

    def compute_output_shape(self, inputs_shape, context_shape):
        return inputs_shape

    def start(self, context, length: int) -> list[dict]:
        """Makes the cache of sequences that are to be generated.

        Args:
            context: float `[batch, m, c]`.
            length: the most tokens that will come.

        Returns:
            One dict per block, see `TransformerDecoderBlock.start`.
        """
        return [block.start(context, length) for block in self.blocks]

    def step(self, inputs, cache: list, place, context_mask=None) -> tuple:
        """Computes the output of one more token.

        Args:
            inputs: float `[batch, 1, d]`, the token.
            cache: of `start` or of the step before.
            place: int scalar, how many tokens came before.
            context_mask: as in the call.

        Returns:
            Float `[batch, 1, d]`, what a call on all tokens gives for the last, and
            the cache with the token.
        """
        x, kept = inputs, []
        for block, part in zip(self.blocks, cache, strict=True):
            x, part = block.step(x, part, place, context_mask)
            kept.append(part)
        return self._end(x), kept
