"""The Transformer's feed-forward network, and encoder and decoder blocks.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, 2017, "Attention
Is All You Need", arXiv:1706.03762, section 3. `norm="post"` is the paper's form,
`norm="pre"` that of Xiong et al., 2020, arXiv:2002.04745, which trains without a long
warm-up and is what vision uses. Differs: any activation, dropout within the network.
"""

import keras

from mlcvtf.layers.attention import MultiHeadAttention
from mlcvtf.ops.attention import causal_mask

NORMS = ("pre", "post")


@keras.saving.register_keras_serializable(package="mlcvtf")
class FeedForward(keras.layers.Layer):
    """Applies a network with one hidden layer to each token by itself.

    `activation(x W_1 + b_1) W_2 + b_2`, as two dense layers or, equally, as two
    convolutions of size 1.

    Args:
        hidden: units of the hidden layer.
        activation: name of a Keras activation.
        dropout: share of both layers' outputs that training drops, 0 to below 1.
        convolutions: computes with `Conv1D` in place of `Dense`.

    Input: float `[batch, n, d]`.
    Output: float `[batch, n, d]`.

    Raises:
        ValueError: a number is out of its range.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.3.
    """

    def __init__(
        self,
        hidden: int,
        activation: str = "relu",
        dropout: float = 0.0,
        convolutions: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if hidden < 1:
            raise ValueError(f"hidden is at least 1, received {hidden}")
        self.hidden, self.activation = hidden, activation
        self.dropout, self.convolutions = dropout, convolutions
        self.drop = dropout_layer(dropout, self.dtype_policy)

    def build(self, input_shape):
        expanded = (*input_shape[:-1], self.hidden)
        self.expand = self._layer(self.hidden, self.activation, "expand")
        self.expand.build(input_shape)
        self.reduce = self._layer(input_shape[-1], None, "reduce")
        self.reduce.build(expanded)

    def _layer(self, units, activation, name):
        settings = {"activation": activation, "dtype": self.dtype_policy, "name": name}
        if self.convolutions:
            return keras.layers.Conv1D(units, 1, **settings)
        return keras.layers.Dense(units, **settings)

    def call(self, inputs, training=None):
        x = self.expand(inputs)
        x = x if self.drop is None else self.drop(x, training=training)
        x = self.reduce(x)
        return x if self.drop is None else self.drop(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return super().get_config() | {
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": self.dropout,
            "convolutions": self.convolutions,
        }


class _Block(keras.layers.Layer):
    """What encoder and decoder blocks share: settings and residual connections."""

    def __init__(
        self,
        heads: int,
        hidden: int,
        norm: str = "pre",
        activation: str = "relu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-6,
        key_dimension: int | None = None,
        value_dimension: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in NORMS:
            raise ValueError(f"norm is pre or post, received {norm}")
        self.heads, self.hidden, self.norm = heads, hidden, norm
        self.activation, self.dropout = activation, dropout
        self.attention_dropout, self.epsilon = attention_dropout, epsilon
        self.key_dimension, self.value_dimension = key_dimension, value_dimension
        self.drop = dropout_layer(dropout, self.dtype_policy)

    def _attention(self, name, *shapes):
        layer = MultiHeadAttention(
            self.heads,
            self.key_dimension,
            self.value_dimension,
            dropout=self.attention_dropout,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build(*shapes)
        return layer

    def _feed_forward(self, shape):
        layer = FeedForward(
            self.hidden,
            self.activation,
            self.dropout,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        layer.build(shape)
        return layer

    def _normalisation(self, name, shape):
        layer = layer_normalisation(self.epsilon, self.dtype_policy, name)
        layer.build(shape)
        return layer

    def _around(self, part, normalisation, inputs, drop=None, training=None):
        """Adds what a part does to its input, with the norm inside or behind."""
        pre = self.norm == "pre"
        x = part(normalisation(inputs) if pre else inputs)
        x = x if drop is None else drop(x, training=training)
        return inputs + x if pre else normalisation(inputs + x)

    def get_config(self):
        return super().get_config() | {
            "heads": self.heads,
            "hidden": self.hidden,
            "norm": self.norm,
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "epsilon": self.epsilon,
            "key_dimension": self.key_dimension,
            "value_dimension": self.value_dimension,
        }


@keras.saving.register_keras_serializable(package="mlcvtf")
class TransformerEncoderBlock(_Block):
    """Lets tokens attend to each other, then transforms each by itself.

    Pre-norm: `h' = h + MHSA(LN(h))`, `h + FFN(LN(h'))` added to h'. Post-norm:
    `h' = LN(h + MHSA(h))`, `LN(h' + FFN(h'))`.

    Args:
        heads: number of attention heads.
        hidden: units of the feed-forward network's hidden layer.
        norm: "pre" or "post".
        activation: of the feed-forward network.
        dropout: share of what is added that training drops.
        attention_dropout: share of the attention weights that training drops.
        epsilon: of layer normalisation.
        key_dimension: d_k of a head; None: channels over heads.
        value_dimension: d_v of a head; None: d_k.

    Input: float `[batch, n, d]`; `attention_mask` bool, see `MultiHeadAttention`.
    Output: float `[batch, n, d]`.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.1; Xiong et al., 2020, "On
        Layer Normalization in the Transformer Architecture", arXiv:2002.04745.
    """

    def build(self, input_shape):
        self.attention_norm = self._normalisation("attention_norm", input_shape)
        self.attention = self._attention("attention", input_shape)
        self.feed_forward_norm = self._normalisation("feed_forward_norm", input_shape)
        self.feed_forward = self._feed_forward(input_shape)

    def call(self, inputs, attention_mask=None, training=None):
        def attend(x):
            return self.attention(x, attention_mask=attention_mask, training=training)

        def transform(x):
            return self.feed_forward(x, training=training)

        x = self._around(attend, self.attention_norm, inputs, self.drop, training)
        return self._around(transform, self.feed_forward_norm, x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def attention_weights(self, inputs, attention_mask=None):
        """Returns how much tokens attend to each other in this block.

        Args:
            inputs: float `[batch, n, d]`, what the block is called on.
            attention_mask: as in the call.

        Returns:
            Float `[batch, heads, n, n]`; rows sum to 1.
        """
        if self.norm == "pre":
            inputs = self.attention_norm(inputs)
        return self.attention.attention_weights(inputs, attention_mask=attention_mask)


@keras.saving.register_keras_serializable(package="mlcvtf")
class TransformerDecoderBlock(_Block):
    """Lets tokens attend to earlier ones, then to a context, then transforms each.

    Args:
        heads: as of `TransformerEncoderBlock`, and so are the others.
        hidden: units of the feed-forward network's hidden layer.
        norm: "pre" or "post".
        activation: of the feed-forward network.
        dropout: share of what is added that training drops.
        attention_dropout: share of the attention weights that training drops.
        epsilon: of layer normalisation.
        key_dimension: d_k of a head; None: channels over heads.
        value_dimension: d_v of a head; None: d_k.

    Input: tokens float `[batch, n, d]`; context float `[batch, m, c]`, the encoder's
    output; `context_mask` bool that broadcasts to `[batch, heads, n, m]`. Tokens see
    themselves and those before them.
    Output: float `[batch, n, d]`.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Vaswani et al., 2017, arXiv:1706.03762, section 3.1.
    """

    def build(self, inputs_shape, context_shape):
        self.attention_norm = self._normalisation("attention_norm", inputs_shape)
        self.attention = self._attention("attention", inputs_shape)
        self.cross_norm = self._normalisation("cross_norm", inputs_shape)
        self.cross = self._attention("cross", inputs_shape, context_shape)
        self.feed_forward_norm = self._normalisation("feed_forward_norm", inputs_shape)
        self.feed_forward = self._feed_forward(inputs_shape)

    def call(self, inputs, context, context_mask=None, training=None):
        count = keras.ops.shape(inputs)[1]

        def attend(x):
            mask = causal_mask(count)
            return self.attention(x, attention_mask=mask, training=training)

        cross = self.cross.keys_and_values(context)
        return self._rest(inputs, attend, cross, context_mask, training)

    def _rest(self, inputs, attend, cross, context_mask, training=None):
        """Does all three parts; `attend` is the first, which a cache changes."""

        def look(x):
            return self.cross.attend(x, *cross, context_mask, training)

        def transform(x):
            return self.feed_forward(x, training=training)

        x = self._around(attend, self.attention_norm, inputs, self.drop, training)
        x = self._around(look, self.cross_norm, x, self.drop, training)
        return self._around(transform, self.feed_forward_norm, x)

    def compute_output_shape(self, inputs_shape, context_shape):
        return inputs_shape

    def start(self, context, length: int) -> dict:
        """Makes the cache of a sequence that is to be generated.

        Args:
            context: float `[batch, m, c]`.
            length: the most tokens that will come.

        Returns:
            {"keys", "values": zeros `[batch, length, heads, d_k or d_v]`,
            "context_keys", "context_values": `[batch, m, heads, d_k or d_v]`}.
        """
        keys, values = self.cross.keys_and_values(context)
        batch, heads = keras.ops.shape(keys)[0], self.heads
        zeros = (
            keras.ops.zeros((batch, length, heads, x.shape[-1]), dtype=x.dtype)
            for x in (keys, values)
        )
        return dict(
            zip(("keys", "values"), zeros, strict=True),
            context_keys=keys,
            context_values=values,
        )

    def step(self, inputs, cache: dict, place, context_mask=None) -> tuple:
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
        ops = keras.ops
        length = cache["keys"].shape[1]
        here = (ops.arange(length, dtype="int32") == place)[None, :, None, None]
        kept = {}

        def attend(x):
            keys, values = self.attention.keys_and_values(x)
            # Not slice_update, which LiteRT has no builtin operation for.
            kept["keys"] = ops.where(here, keys, cache["keys"])
            kept["values"] = ops.where(here, values, cache["values"])
            mask = causal_mask(1, length, place)
            return self.attention.attend(x, kept["keys"], kept["values"], mask)

        cross = cache["context_keys"], cache["context_values"]
        outputs = self._rest(inputs, attend, cross, context_mask)
        return outputs, cache | kept


def dropout_layer(rate: float, dtype) -> keras.layers.Dropout | None:
    """Makes dropout, or None for a rate of 0: a layer would carry a seed along.

    Args:
        rate: 0 to below 1.
        dtype: policy of the layer.

    Raises:
        ValueError: `rate` is out of its range.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is 0 to below 1, received {rate}")
    return keras.layers.Dropout(rate, dtype=dtype) if rate else None


def layer_normalisation(epsilon: float, dtype, name: str):
    """Makes layer normalisation over the channels of each token.

    Ba, Kiros, Hinton, 2016, "Layer Normalization", arXiv:1607.06450.

    Args:
        epsilon: added to the variance.
        dtype: policy of the layer.
        name: of the layer.
    """
    return keras.layers.LayerNormalization(epsilon=epsilon, dtype=dtype, name=name)
