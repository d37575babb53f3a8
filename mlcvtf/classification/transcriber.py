"""The transcriber: reads a line of symbols off a picture, symbol by symbol.

An encoder-decoder Transformer (Vaswani et al., 2017, "Attention Is All You Need",
arXiv:1706.03762) whose encoder is any backbone, convolutional or ViT. Its map, with
sinusoidal positions of rows and columns, is the sequence that the decoder attends to;
no places of symbols are needed. Faithful: masked self-attention, training of all
places at once with the shifted target. Differs: pre-norm, the map in place of the
encoder's stack, and an output of its own beside the embedding.
"""

import keras
from keras import ops

from mlcvtf.layers.positions import SinusoidalPositions
from mlcvtf.layers.transformer_stacks import TransformerDecoder
from mlcvtf.ops.generation import beam_search, greedy, shift_targets


@keras.saving.register_keras_serializable(package="mlcvtf")
class Transcriber(keras.Model):
    """Transcribes pictures into sequences of symbols.

    Args:
        backbone: model from float32 `[batch, height, width, 3]` in 0..255 to a dict of
            maps; the coarsest is attended to.
        decoder: `TransformerDecoder`.
        symbols: number of symbols; start and end tokens are added.
        length: the most symbols that a picture has.
        width: channels of the decoder, a multiple of 4 that its heads divide.
        label_smoothing: share of a target that is spread over all tokens, 0 to below
            1.

    `call({"images": float32 [batch, height, width, 3] in 0..255, "labels": int
    [batch, length], -1 pads})` gives {"logits": float32
    `[batch, length + 1, symbols + 1]`}: of the symbol at every place, given those
    before it; the last logit is the end's. Targets are the same labels, the loss is
    the mean cross-entropy of all symbols and ends, and metrics are "accuracy", the
    share of right ones, and "whole", that of sequences in which all are right.

    Raises:
        ValueError: a number is out of its range, or the backbone gives no dict.
    """

    def __init__(
        self,
        backbone: keras.Model,
        decoder: TransformerDecoder,
        symbols: int,
        length: int,
        width: int = 128,
        label_smoothing: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        maps = getattr(backbone, "output", None)
        if not isinstance(maps, dict):
            raise ValueError(f"a backbone gives a dict of maps, received {maps}")
        if symbols < 2 or length < 1:
            raise ValueError(
                "symbols is at least 2 and length at least 1, received "
                f"{symbols} and {length}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing is 0 to below 1, received {label_smoothing}"
            )
        self.backbone, self.decoder = backbone, decoder
        self.symbols, self.length, self.width = symbols, length, width
        self.label_smoothing = label_smoothing
        self.end, self.start = symbols, symbols + 1
        names = [name for name in maps if name.startswith("P")]
        self.level = max(names, key=lambda name: int(name[1:]))
        policy = self.dtype_policy
        self.project = keras.layers.Dense(width, dtype=policy, name="project")
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, dtype=policy, name="context_norm"
        )
        self.places = SinusoidalPositions(dtype=policy, name="places")
        self.embedding = keras.layers.Embedding(
            symbols + 2, width, dtype=policy, name="embedding"
        )
        self.positions = SinusoidalPositions(dtype=policy, name="positions")
        self.head = keras.layers.Dense(symbols + 1, dtype="float32", name="logits")
        self.accuracy = keras.metrics.Mean("accuracy")
        self.whole = keras.metrics.Mean("whole")
        self._build_parts(maps[self.level].shape[-1])

    def _build_parts(self, channels):
        """Builds everything, so that a loaded model has its variables."""
        row = (None, None, self.width)
        self.project.build((None, None, None, channels))
        self.norm.build((None, None, None, self.width))
        self.embedding.build((None, None))
        if not self.decoder.built:
            self.decoder.build(row, row)
        self.head.build(row)
        self.built = True

    def call(self, inputs, training=None):
        tokens, _, _ = shift_targets(inputs["labels"], self.start, self.end)
        context = self.context(inputs["images"], training=training)
        x = self.positions(self._embed(tokens))
        return {"logits": self.head(self.decoder(x, context, training=training))}

    def context(self, images, training=None):
        """Encodes pictures as sequences.

        Args:
            images: float32 `[batch, height, width, 3]` in 0..255.
            training: whether the backbone trains.

        Returns:
            Float `[batch, places, width]`.
        """
        maps = self.backbone(images, training=training)[self.level]
        maps = self.places(self.norm(self.project(maps)))
        shape = ops.shape(maps)
        return ops.reshape(maps, (-1, shape[1] * shape[2], self.width))

    def _embed(self, tokens):
        # As large as the positions, which are added (section 3.4 of the paper).
        x = self.embedding(tokens)
        return x * ops.cast(self.width**0.5, x.dtype)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        _, wanted, weights = shift_targets(y, self.start, self.end)
        logits, share = ops.cast(y_pred["logits"], "float32"), self.label_smoothing
        targets = ops.one_hot(wanted, self.symbols + 1, dtype="float32")
        targets = targets * (1 - share) + share / (self.symbols + 1)
        errors = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, "float32")[:, None]
        return ops.sum(errors * weights) / ops.maximum(ops.sum(weights), 1e-7)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Adds the batch to the metrics; Keras calls it after every step."""
        _, wanted, weights = shift_targets(y, self.start, self.end)
        found = ops.cast(ops.argmax(y_pred["logits"], axis=-1), "int32")
        right = ops.cast(found == wanted, "float32")
        all_right = ops.min(ops.maximum(right, 1 - weights), axis=-1)
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, "float32")[:, None]
        self.accuracy.update_state(right, weights)
        self.whole.update_state(all_right, sample_weight)
        return self.get_metrics_result()

    def transcribe(self, images, beams: int = 1) -> dict:
        """Reads the symbols of pictures.

        Args:
            images: float32 `[batch, height, width, 3]` in 0..255.
            beams: beginnings that are followed side by side; 1: the best symbol at
                every place.

        Returns:
            {"labels": int32 `[batch, length]`, -1 behind the last symbol, "scores":
            float32 `[batch]` in 0..1, the probability of the sequence}.

        Raises:
            ValueError: `beams` is below 1.
        """
        context = self.context(images, training=False)
        batch, count = ops.shape(context)[0], self.length + 1
        cache = self.decoder.start(context, count)
        settings = (self._step, cache, batch, count, self.start, self.end)
        if beams == 1:
            tokens, scores = greedy(*settings)
        else:
            tokens, scores = beam_search(*settings, beams=beams)
            tokens, scores = tokens[:, 0], scores[:, 0]
        # Place `length` is for an end alone: more symbols are cut.
        labels = ops.where(tokens == self.end, -1, tokens)[:, : self.length]
        return {"labels": labels, "scores": ops.exp(scores)}

    def _step(self, tokens, place, cache):
        """Gives the logits of the next tokens, see `mlcvtf.ops.generation`."""
        x = self.positions(self._embed(tokens[:, None]), start=place)
        x, cache = self.decoder.step(x, cache, place)
        return self.head(x)[:, 0], cache

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "backbone": serialize(self.backbone),
            "decoder": serialize(self.decoder),
            "symbols": self.symbols,
            "length": self.length,
            "width": self.width,
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config):
        restore = keras.saving.deserialize_keras_object
        parts = {part: restore(config[part]) for part in ("backbone", "decoder")}
        return cls(**dict(config, **parts))
