"""Every public layer, model, loss and metric once, with a tiny instance.

The suites beside this file walk these lists; `coverage_test.py` fails when something
public is not listed. Only keras and NumPy, so that JAX can run it too.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from mlcvtf.backbones.darknet import darknet
from mlcvtf.backbones.efficientnet import Scaling, efficientnet
from mlcvtf.backbones.inception import inception_v1
from mlcvtf.backbones.inception_resnet import inception_resnet
from mlcvtf.backbones.mobilenet_v2 import mobilenet_v2
from mlcvtf.backbones.regnet import Design, regnet
from mlcvtf.backbones.resnet import resnet
from mlcvtf.backbones.small_resnet import small_resnet, wide_resnet
from mlcvtf.backbones.vit import Variant, vit
from mlcvtf.classification.architecture_search import Controller, tokens
from mlcvtf.classification.cell_network import cell_network
from mlcvtf.classification.classifier import ImageClassifier
from mlcvtf.classification.convolutionalize import convolutionalize
from mlcvtf.classification.design_spaces import anynet
from mlcvtf.classification.inception_classifier import (
    BottleneckClassifier,
    InceptionClassifier,
)
from mlcvtf.classification.transcriber import Transcriber
from mlcvtf.detection.centernet import CenterNet
from mlcvtf.embedding.arcface import FaceEmbedder, face_backbone
from mlcvtf.embedding.landmarks import SoftArgmax, landmark_network
from mlcvtf.layers.aggregated_transformations import AggregatedTransformations
from mlcvtf.layers.attention import MultiHeadAttention
from mlcvtf.layers.auxiliary_head import AuxiliaryHead, GridPooling
from mlcvtf.layers.convolution_unit import ConvolutionUnit
from mlcvtf.layers.decoder import pyramid_decoder
from mlcvtf.layers.grouped_convolution import GroupedConv2D
from mlcvtf.layers.inception import InceptionModule, InceptionResidual
from mlcvtf.layers.inverted_residual import InvertedResidual
from mlcvtf.layers.local_response_normalisation import LocalResponseNormalisation
from mlcvtf.layers.margins import AdditiveAngularMargin
from mlcvtf.layers.mbconv import MBConv
from mlcvtf.layers.normalisation import ImageNormalisation, named_normalisation
from mlcvtf.layers.patches import ClassToken, PatchEmbedding, TokensToMap, VisionTokens
from mlcvtf.layers.positions import (
    LearnedPositions,
    LearnedPositions2D,
    SinusoidalPositions,
)
from mlcvtf.layers.regnet_block import RegNetBlock
from mlcvtf.layers.residual import BasicBlock, BottleneckBlock, PreActivationBlock
from mlcvtf.layers.squeeze_excite import SqueezeExcite
from mlcvtf.layers.transformer import (
    FeedForward,
    TransformerDecoderBlock,
    TransformerEncoderBlock,
)
from mlcvtf.layers.transformer_stacks import TransformerDecoder, TransformerEncoder
from mlcvtf.losses.heatmap import HeatmapFocalLoss
from mlcvtf.metrics.mean_average_precision import MeanAveragePrecision

BATCH = 2


class Model(NamedTuple):
    """A layer or model.

    Attributes:
        covers: the public class or function that this is an instance of.
        build: makes a tiny instance.
        inputs: makes what it is called on: an array, or a list or dict of arrays.
        targets: makes what its own `compute_loss` needs; None: outputs are fitted to
            zero by mean squares.
        spread: a list of inputs is spread over the arguments of the call.
    """

    covers: Any
    build: Callable
    inputs: Callable
    targets: Callable | None = None
    spread: bool = False


class Function(NamedTuple):
    """A loss or metric.

    Attributes:
        covers: the public class.
        build: makes an instance.
        truth: makes `y_true`.
        prediction: makes `y_pred`.
    """

    covers: Any
    build: Callable
    truth: Callable
    prediction: Callable


def noise(*shape, low=0.0, high=1.0, seed=0):
    """Returns a maker of fixed uniform float32 noise."""
    def make():
        values = np.random.default_rng(seed).uniform(low, high, shape)
        return values.astype("float32")
    return make


def pictures(height, width=None):
    return noise(BATCH, height, width or height, 3, high=255.0)


def pyramid():
    """Builds the smallest backbone: one strided convolution per level."""
    x = images = keras.Input((64, 64, 3))
    outputs = {}
    for level in range(1, 5):
        x = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu")(x)
        outputs[f"P{level}"] = x
    return keras.Model(images, {k: v for k, v in outputs.items() if k > "P1"})


def objects():
    """Returns targets of CenterNet: one box and one padding per picture."""
    boxes = [[[8, 8, 40, 48], [0, 0, 0, 0]], [[20, 4, 60, 60], [0, 0, 0, 0]]]
    landmarks = np.full((BATCH, 2, 5, 2), 24.0)
    landmarks[1] = np.nan
    return {"boxes": np.array(boxes, "float32"), "labels": np.array([[0, -1], [0, -1]]),
            "landmarks": landmarks.astype("float32")}


def identities():
    return {"identity": np.array([2, -1]), "teacher": noise(BATCH, 8, seed=2)()}


def inception_classifier():
    """Builds the classifier with auxiliary heads on the first levels of a pyramid."""
    x = images = keras.Input((64, 64, 3))
    outputs = {}
    for level in range(1, 4):
        x = keras.layers.Conv2D(4, 3, 2, padding="same", activation="relu",
                                name=f"stage{level}")(x)
        outputs[f"P{level}"] = x
    heads = {f"stage{level}": AuxiliaryHead(3, 2, 4, 0.1, name=f"auxiliary{level}",
                                            batch_normalisation=level == 2)
             for level in (1, 2)}
    return InceptionClassifier(keras.Model(images, outputs), 3, 0.1, heads=heads)


def face_embedder():
    return FaceEmbedder(
        face_backbone("tiny", features=8, size=32),
        AdditiveAngularMargin(5, scale=16.0),
        centre=[0.1] * 8,
        teacher_weight=10.0,
    )


def tokens_and_context():
    return [noise(BATCH, 5, 8, low=-1.0)(), noise(BATCH, 4, 6, low=-1.0, seed=1)()]


def small_vit(**settings):
    return vit(Variant(2, 16, 24, 2, 8), (32, 32, 3), 16, **settings)


def written():
    return np.array([[2, 0, -1], [1, -1, -1]], "int32")


MODELS = {
    "multi_head_attention": Model(
        MultiHeadAttention, lambda: MultiHeadAttention(2), noise(BATCH, 5, 8, low=-1.0)
    ),
    "multi_head_attention_cross": Model(
        MultiHeadAttention,
        lambda: MultiHeadAttention(2, 3, 5, 7, use_bias=False),
        tokens_and_context,
        spread=True,
    ),
    "sinusoidal_positions": Model(
        SinusoidalPositions, SinusoidalPositions, noise(BATCH, 5, 8)
    ),
    "sinusoidal_positions_2d": Model(
        SinusoidalPositions, SinusoidalPositions, noise(BATCH, 3, 5, 8)
    ),
    "learned_positions": Model(
        LearnedPositions, lambda: LearnedPositions(6), noise(BATCH, 5, 8)
    ),
    "learned_positions_stretched": Model(
        LearnedPositions, lambda: LearnedPositions(3, True), noise(BATCH, 5, 8)
    ),
    "learned_positions_2d": Model(
        LearnedPositions2D, lambda: LearnedPositions2D((2, 3)), noise(BATCH, 4, 5, 8)
    ),
    "feed_forward": Model(
        FeedForward, lambda: FeedForward(12, "gelu"), noise(BATCH, 5, 8, low=-1.0)
    ),
    "feed_forward_convolutions": Model(
        FeedForward, lambda: FeedForward(12, convolutions=True), noise(BATCH, 5, 8)
    ),
    "transformer_encoder_block": Model(
        TransformerEncoderBlock,
        lambda: TransformerEncoderBlock(2, 12, "post", "gelu", 0.1, 0.1),
        noise(BATCH, 5, 8, low=-1.0),
    ),
    "transformer_decoder_block": Model(
        TransformerDecoderBlock,
        lambda: TransformerDecoderBlock(2, 12, key_dimension=3, value_dimension=5),
        tokens_and_context,
        spread=True,
    ),
    "transformer_encoder": Model(
        TransformerEncoder,
        lambda: TransformerEncoder(2, 2, 12),
        noise(BATCH, 5, 8, low=-1.0),
    ),
    "transformer_decoder": Model(
        TransformerDecoder,
        lambda: TransformerDecoder(2, 2, 12, "post"),
        tokens_and_context,
        spread=True,
    ),
    "patch_embedding": Model(
        PatchEmbedding, lambda: PatchEmbedding(6, 4), noise(BATCH, 9, 8, 3)
    ),
    "vision_tokens": Model(
        VisionTokens, lambda: VisionTokens((2, 3)), noise(BATCH, 4, 5, 8)
    ),
    "tokens_to_map": Model(
        TokensToMap,
        TokensToMap,
        lambda: [noise(BATCH, 7, 8)(), noise(BATCH, 2, 3, 4)()],
        spread=True,
    ),
    "class_token": Model(ClassToken, ClassToken, noise(BATCH, 5, 8)),
    "vit": Model(vit, small_vit, pictures(32)),
    "vit_classifier": Model(
        ImageClassifier,
        lambda: ImageClassifier(small_vit(), 3),
        pictures(32),
        lambda: np.array([2, 0], "int32"),
    ),
    "transcriber": Model(
        Transcriber,
        lambda: Transcriber(
            small_vit(class_token=False), TransformerDecoder(1, 2, 12), 4, 3, 8, 0.1
        ),
        lambda: {"images": pictures(32)(), "labels": written()},
        written,
    ),
    "inverted_residual": Model(
        InvertedResidual, lambda: InvertedResidual(4, 2), noise(BATCH, 7, 9, 4)
    ),
    "inverted_residual_strided": Model(
        InvertedResidual, lambda: InvertedResidual(6, 1, 2), noise(BATCH, 7, 9, 4)
    ),
    "grouped_conv": Model(
        GroupedConv2D,
        lambda: GroupedConv2D(8, 3, 2, 2, "symmetric", use_bias=True),
        noise(BATCH, 7, 9, 4),
    ),
    "grouped_conv_depthwise": Model(
        GroupedConv2D, lambda: GroupedConv2D(8, 3, 4), noise(BATCH, 7, 9, 4)
    ),
    "image_normalisation": Model(
        ImageNormalisation,
        lambda: ImageNormalisation([120, 115, 100], [60, 55, 50], bgr=True),
        pictures(8),
    ),
    "named_normalisation": Model(
        named_normalisation, lambda: named_normalisation("mean_std"), pictures(8)
    ),
    "squeeze_excite": Model(
        SqueezeExcite, lambda: SqueezeExcite(8), noise(BATCH, 7, 9, 4)
    ),
    "residual_basic": Model(
        BasicBlock, lambda: BasicBlock(6, 2, shortcut="padding"), noise(BATCH, 7, 9, 4)
    ),
    "residual_bottleneck": Model(
        BottleneckBlock,
        lambda: BottleneckBlock(8, 4, 2, 1, 2, "conv1", 4, use_bias=True),
        noise(BATCH, 7, 9, 4),
    ),
    "residual_pre_activation": Model(
        PreActivationBlock, lambda: PreActivationBlock(6, 2, 0.1), noise(BATCH, 7, 9, 4)
    ),
    "residual_aggregated": Model(
        AggregatedTransformations,
        lambda: AggregatedTransformations(4, 2, 2, "summed", 2),
        noise(BATCH, 7, 9, 4),
    ),
    "inverted_residual_symmetric": Model(
        InvertedResidual,
        lambda: InvertedResidual(6, 2, 2, padding="symmetric", epsilon=1e-5),
        noise(BATCH, 7, 8, 4),
    ),
    "mbconv": Model(
        # A rate at which the few steps of a test drop nothing.
        MBConv, lambda: MBConv(8, 5, 2, drop_rate=1e-4), noise(BATCH, 7, 9, 8)
    ),
    "mbconv_strided": Model(
        MBConv, lambda: MBConv(6, 5, 1, 2, padding="symmetric"), noise(BATCH, 8, 9, 4)
    ),
    "regnet_block": Model(
        RegNetBlock, lambda: RegNetBlock(8, 4, 2, 0.25), noise(BATCH, 7, 8, 4)
    ),
    "additive_angular_margin": Model(
        AdditiveAngularMargin,
        lambda: AdditiveAngularMargin(5, scale=8.0),
        lambda: [noise(BATCH, 6, low=-1.0)(), np.array([1, -1], "int32")],
        spread=True,
    ),
    "soft_argmax": Model(
        SoftArgmax, lambda: SoftArgmax(4), noise(BATCH, 5, 7, 3, low=-3.0, high=3.0)
    ),
    "pyramid_decoder": Model(
        pyramid_decoder,
        lambda: pyramid_decoder({"P2": 3, "P3": 4}, width=4),
        lambda: {"P2": noise(BATCH, 8, 12, 3)(), "P3": noise(BATCH, 4, 6, 4)()},
    ),
    "convolution_unit": Model(
        ConvolutionUnit, lambda: ConvolutionUnit(5, 3, 2, "symmetric", slope=0.1),
        noise(BATCH, 7, 8, 4),
    ),
    "inception_module": Model(
        InceptionModule,
        lambda: InceptionModule(
            (((2, 1),), ((3, 1), (4, (1, 3))), ((2, 1), (3, 5)), (("max", 3), (2, 1)))
        ),
        noise(BATCH, 7, 9, 4),
    ),
    "inception_module_strided": Model(
        InceptionModule,
        lambda: InceptionModule((((3, 3, 2),), (("average", 3, 2),)), "valid", True),
        noise(BATCH, 7, 9, 4),
    ),
    "inception_residual": Model(
        InceptionResidual,
        lambda: InceptionResidual((((2, 1),), ((3, 1), (4, (3, 1)))), 0.5),
        noise(BATCH, 7, 9, 4),
    ),
    "local_response_normalisation": Model(
        LocalResponseNormalisation, lambda: LocalResponseNormalisation(3, 0.5),
        noise(BATCH, 3, 4, 5),
    ),
    "grid_pooling": Model(GridPooling, GridPooling, noise(BATCH, 14, 9, 3)),
    "grid_pooling_adaptive": Model(
        GridPooling, lambda: GridPooling(3, "adaptive"), noise(BATCH, 7, 5, 3)
    ),
    "auxiliary_head": Model(
        AuxiliaryHead, lambda: AuxiliaryHead(3, 4, 5, 0.0), noise(BATCH, 4, 4, 3)
    ),
    "inception_v1": Model(
        inception_v1, lambda: inception_v1(width=0.25, input_shape=(64, 64, 3)),
        pictures(64),
    ),
    "inception_resnet": Model(
        inception_resnet,
        lambda: inception_resnet("v1", repeats=(1, 1, 0), width=0.1,
                                 input_shape=(79, 79, 3)),
        pictures(79),
    ),
    "darknet": Model(
        darknet, lambda: darknet("17", width=0.1, input_shape=(64, 64, 3)), pictures(64)
    ),
    "inception_classifier": Model(
        InceptionClassifier,
        inception_classifier,
        pictures(64),
        lambda: np.array([2, 0], "int32"),
    ),
    "bottleneck_classifier": Model(
        BottleneckClassifier,
        lambda: BottleneckClassifier(pyramid(), 3, 4, dropout=0.0),
        pictures(64),
        lambda: np.array([2, 0], "int32"),
    ),
    "mobilenet_v2": Model(
        mobilenet_v2, lambda: mobilenet_v2(0.1, None, (32, 32, 3)), pictures(32)
    ),
    # The smallest of the published ones; its blocks are tried one by one above.
    "resnet": Model(
        resnet,
        lambda: resnet("resnet18", total_stride=8, input_shape=(32, 32, 3)),
        pictures(32),
    ),
    "resnet_small": Model(
        small_resnet, lambda: small_resnet((4, 8, 8), 1, expansion=2, groups=2),
        pictures(16),
    ),
    "resnet_wide": Model(
        wide_resnet, lambda: wide_resnet(10, 1, 0.1), pictures(16)
    ),
    "mobilenet_v2_torch": Model(
        mobilenet_v2,
        lambda: mobilenet_v2(0.1, 16, (32, 32, 3), origin="torch", small_images=True),
        pictures(32),
    ),
    "efficientnet": Model(
        efficientnet,
        lambda: efficientnet(
            Scaling(0.1, 0.1, 64, 0.0), last=False, input_shape=(64, 64, 3)
        ),
        pictures(64),
    ),
    "regnet": Model(
        regnet,
        lambda: regnet(Design(8, 8.0, 1.9, 8, 5, 0.25), (64, 64, 3)),
        pictures(64),
    ),
    "face_backbone": Model(
        face_backbone, lambda: face_backbone("tiny", 8, size=32), pictures(32)
    ),
    "landmark_network": Model(
        landmark_network,
        lambda: landmark_network(face_backbone("tiny", size=32), width=8),
        pictures(32),
    ),
    "convolutionalize": Model(
        convolutionalize,
        lambda: convolutionalize(ImageClassifier(pyramid(), 3)),
        pictures(64, 80),
    ),
    "anynet": Model(
        anynet,
        lambda: anynet([(8, 1, 4), (8, 1, 8), (8, 1, 8), (8, 1, 8)], (32, 32, 3)),
        pictures(32),
    ),
    "cell_network": Model(
        cell_network,
        lambda: cell_network((0, 1, 2, 3, 2, 1, 4, 5), 4, 2, 1, (32, 32, 3)),
        pictures(32),
    ),
    "controller": Model(
        Controller,
        lambda: Controller(1, 4),
        lambda: tokens([(1, 0, 2, 3), (0, 1, 5, 5)]),
        lambda: {"cell": np.array([(1, 0, 2, 3), (0, 1, 5, 5)], "int32"),
                 "advantage": np.array([0.5, 0.25], "float32")},
    ),
    "image_classifier": Model(
        ImageClassifier,
        lambda: ImageClassifier(pyramid(), 3, dropout=0.1, label_smoothing=0.1),
        pictures(64),
        lambda: np.array([2, 0], "int32"),
    ),
    "centernet": Model(
        CenterNet,
        lambda: CenterNet(pyramid(), 2, width=4, head_channels=4),
        pictures(64),
        objects,
    ),
    "centernet_landmarks": Model(
        CenterNet,
        lambda: CenterNet(pyramid(), 1, 5, width=4, head_channels=4, scale_free=True,
                          refine=True, regression="huber"),
        pictures(64),
        objects,
    ),
    "face_embedder": Model(FaceEmbedder, face_embedder, pictures(32), identities),
}

LOSSES = {
    "heatmap_focal": Function(
        HeatmapFocalLoss,
        lambda: HeatmapFocalLoss(gamma=1.5, beta=3.0),
        lambda: np.round(noise(BATCH, 4, 4, 3)(), 1),
        noise(BATCH, 4, 4, 3, low=-4.0, high=4.0, seed=1),
    ),
}

METRICS = {
    "mean_average_precision": Function(
        MeanAveragePrecision,
        lambda: MeanAveragePrecision("AP50"),
        lambda: {"boxes": np.array([[[0.0, 0, 10, 10], [20, 20, 30, 40]]]),
                 "labels": np.array([[0, 0]])},
        lambda: {"boxes": np.array([[[0.0, 0, 10, 9], [50, 50, 60, 60]]]),
                 "scores": np.array([[0.9, 0.8]]), "labels": np.array([[0, 0]])},
    ),
}


def build(name):
    """Builds a descriptor as a model with fixed weights, on its own inputs' shapes."""
    keras.utils.set_random_seed(1)
    descriptor = MODELS[name]
    instance = descriptor.build()
    if isinstance(instance, keras.Model):
        return instance
    symbols = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=str(x.dtype)), descriptor.inputs()
    )
    outputs = instance(*symbols) if descriptor.spread else instance(symbols)
    return keras.Model(symbols, outputs, name=name)


@functools.cache
def reference(name):
    """Returns a model that no test changes, its inputs and its outputs as arrays."""
    model, inputs = build(name), MODELS[name].inputs()
    return model, inputs, arrays(model(inputs, training=False))


def arrays(outputs):
    """Converts nested tensors to float32 or integer arrays."""
    def convert(tensor):
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
            tensor = keras.ops.cast(tensor, "float32")
        return keras.ops.convert_to_numpy(tensor)
    return keras.tree.map_structure(convert, outputs)


def prepare(name, model, eager=False):
    """Compiles a model; returns the inputs and targets of one batch.

    Args:
        name: of the descriptor.
        model: what `build(name)` gave.
        eager: skips the compilation of the step.
    """
    descriptor = MODELS[name]
    inputs = descriptor.inputs()
    loss = None
    if descriptor.targets is not None:
        targets = descriptor.targets()
    else:
        symbols = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, str(x.dtype)), inputs
        )
        outputs = model.compute_output_spec(symbols)
        targets = keras.tree.map_structure(lambda x: np.zeros(x.shape), outputs)
        loss = keras.tree.map_structure(lambda _: "mse", outputs)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, jit_compile=False,
                  run_eagerly=eager)
    return inputs, targets


def fit_step(name, model, eager=False):
    """Fits one batch four times; returns the first loss and the last."""
    inputs, targets = prepare(name, model, eager)
    history = model.fit(inputs, targets, batch_size=BATCH, epochs=4, shuffle=False,
                        verbose=0)
    return history.history["loss"][0], history.history["loss"][-1]
