"""CenterNet: objects as the peaks of a heat map.

Zhou, Wang, Kraehenbuehl, 2019, "Objects as Points", arXiv:1904.07850.

Faithful: output stride 4; heads of a 3x3 convolution, ReLU and a 1x1 convolution for
heat map, offset and size; Gaussian targets with object-adaptive sigma; focal loss with
gamma 2 and beta 4; L1 for offset (weight 1) and size (weight 0.1), at centres alone;
local maxima in place of NMS. The course's text says Huber for the boxes; the paper
trains with L1, the default here, and `regression="huber"` is the other.

Different: the decoder is a top-down pyramid (1x1 lateral, upsampling by 2, 3x3) rather
than deformable convolutions; an optional head gives landmarks (the paper's pose head
without its extra heat map); with `scale_free=True` sizes are predicted as logarithms
and landmarks in box sides, their errors being relative too, so that a face of 20 pixels
weighs as much as one of 400; and with `neighbours=1` the cells around a centre learn
offset, size and landmarks as well, weighted by the object's Gaussian, since one cell
per object is a sparse teacher (Liu et al., 2020, "Training-Time-Friendly Network for
Real-Time Object Detection", arXiv:1909.00700; 0, the default, is the paper's). With
`refine=True` one more head has the way from a cell to each landmark nearby, which is
looked up where the centre says that the landmark is (Papandreou et al., 2018,
"PersonLab", arXiv:1803.08225, section 3.1.2; CenterNet moves such points to the peaks
of heat maps). The two answers see different places of the picture, so that their errors
are nearly independent: a landmark is their mean.
"""

import math

import keras
from keras import ops

from mlcvtf.layers.decoder import pyramid_decoder
from mlcvtf.losses.heatmap import HeatmapFocalLoss
from mlcvtf.ops import heatmaps
from mlcvtf.ops.replicas import sum_over_replicas

STRIDE = 4
# The share of centres among all cells at the start (focal loss, section 4.1).
PRIOR = 0.01
# Where the refinement of a landmark is learned, on each axis, in box sides from it.
REACH = (-0.1, 0.0, 0.1)


def _head(outputs, channels, name, bias=0.0):
    return keras.Sequential(
        [
            keras.layers.Conv2D(channels, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(
                outputs,
                1,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                bias_initializer=keras.initializers.Constant(bias),
                dtype="float32",
            ),
        ],
        name=name,
    )


@keras.saving.register_keras_serializable(package="mlcvtf")
class CenterNet(keras.Model):
    """Detects objects as points, with sizes and optionally landmarks.

    Args:
        backbone: model from float32 `[batch, height, width, 3]` in 0..255 to a dict
            of maps with at least "P2".
        classes: number of classes.
        landmarks: number of landmarks per object, 0 for none.
        width: channels of the decoder.
        head_channels: channels of the 3x3 convolution of each head.
        regression: "l1" (the paper) or "huber" (beta 1).
        scale_free: see the file's docstring.
        neighbours: cells on each side of a centre that learn its regressions too.
        refine: whether a head refines landmarks; it needs `scale_free`.
        offset_weight: weight of the offset loss.
        size_weight: weight of the size loss; 0.1 is the paper's for sizes in cells.
        landmark_weight: weight of the landmark loss, and of the refinement's.

    `call(images)`: float32 `[batch, height, width, 3]`, sides multiples of 32, gives
    a dict of float32 maps `[batch, height / 4, width / 4, ...]`: "heatmap" (classes,
    0..1), "logits" (before the sigmoid), "offset" (2, cells), "size" (width and
    height, pixels), "landmarks" (2 per point, x first, pixels from the centre) and, to
    refine, "features" (`width`), what the heads see.
    Targets are {"boxes": `[batch, n, 4]` xyxy pixels, "labels": `[batch, n]`, -1 pads}
    and with landmarks {"landmarks": `[batch, n, k, 2]` pixels, NaN where unknown}.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        backbone: keras.Model,
        classes: int,
        landmarks: int = 0,
        width: int = 32,
        head_channels: int = 32,
        regression: str = "l1",
        scale_free: bool = False,
        neighbours: int = 0,
        refine: bool = False,
        offset_weight: float = 1.0,
        size_weight: float = 0.1,
        landmark_weight: float = 0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if classes < 1 or landmarks < 0:
            raise ValueError(
                "classes is at least 1 and landmarks at least 0, received "
                f"{classes} and {landmarks}"
            )
        if neighbours < 0:
            raise ValueError(f"neighbours is at least 0, received {neighbours}")
        if refine and not (landmarks and scale_free):
            raise ValueError(
                f"refine is for landmarks and scale_free, received {landmarks} "
                f"landmarks and scale_free={scale_free}"
            )
        if regression not in ("l1", "huber"):
            raise ValueError(f"regression is 'l1' or 'huber', received {regression!r}")
        self.backbone = backbone
        self.classes, self.landmarks = classes, landmarks
        self.width, self.head_channels = width, head_channels
        self.regression, self.scale_free = regression, scale_free
        self.neighbours, self.refine = neighbours, refine
        self.offset_weight, self.size_weight = offset_weight, size_weight
        self.landmark_weight = landmark_weight
        levels = {
            level: maps.shape[-1]
            for level, maps in backbone.output.items()
            if level >= "P2"
        }
        self.decoder = pyramid_decoder(levels, width)
        prior = math.log(PRIOR / (1 - PRIOR))
        # A first size of 12 cells, the geometric middle of 20 to 640 pixels or so.
        first_size = math.log(12.0) if scale_free else 12.0
        self.heads = {
            "heatmap": _head(classes, head_channels, "heatmap", prior),
            "offset": _head(2, head_channels, "offset", 0.5),
            "size": _head(2, head_channels, "size", first_size),
        }
        if landmarks:
            self.heads["landmarks"] = _head(2 * landmarks, head_channels, "landmarks")
        if refine:
            self.heads["refinement"] = _head(2 * landmarks, head_channels, "refinement")
        for head in self.heads.values():
            head.build((None, None, None, width))
        self.loss_function = HeatmapFocalLoss()
        self.built = True

    def call(self, images, training=None):
        pyramid = self.backbone(images, training=training)
        features = self.decoder(
            {level: pyramid[level] for level in self.decoder.input}, training=training
        )
        raw = {
            name: head(features)
            for name, head in self.heads.items()
            if name != "refinement"
        }
        size = raw["size"]
        # The clip keeps a wild logarithm of an untrained net finite in float16.
        size = ops.exp(ops.clip(size, -2.0, 6.0)) if self.scale_free else size
        outputs = {
            "heatmap": ops.sigmoid(raw["heatmap"]),
            "logits": raw["heatmap"],
            "offset": raw["offset"],
            "size": size * STRIDE,
        }
        if self.landmarks:
            points = raw["landmarks"]
            if self.scale_free:
                points = points * ops.tile(size, (1, 1, 1, self.landmarks))
            outputs["landmarks"] = points * STRIDE
        if self.refine:
            outputs["features"] = features
        return outputs

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        boxes = ops.cast(y["boxes"], "float32")
        labels = ops.cast(y["labels"], "int32")
        height, width = ops.shape(y_pred["logits"])[1:3]
        target = heatmaps.gaussian_targets(
            boxes, labels, height, width, self.classes, STRIDE
        )
        loss = self.loss_function(target, y_pred["logits"])
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
        cells, weight = self._cells(centre, size, labels >= 0, height, width)
        place = ops.cast(cells, "int32")
        index = ops.reshape(
            place[..., 1] * width + place[..., 0], (ops.shape(boxes)[0], -1)
        )

        def at_cells(name):
            """Gives `[batch, n, cells, channels]`."""
            found = heatmaps.gather_cells(y_pred[name], index)
            return ops.reshape(found, (*ops.shape(weight), y_pred[name].shape[-1]))

        error = at_cells("offset") - (centre[:, :, None] / STRIDE - cells)
        loss = loss + self.offset_weight * self._regression(error, weight)
        found = at_cells("size")
        if self.scale_free:
            error = ops.log(ops.maximum(found, 1e-3)) - ops.log(size[:, :, None])
        else:
            error = (found - size[:, :, None]) / STRIDE
        loss = loss + self.size_weight * self._regression(error, weight)
        if self.landmarks:
            error, known = self._landmark_error(
                at_cells("landmarks"), y["landmarks"], centre, size
            )
            loss = loss + self.landmark_weight * self._regression(error, weight * known)
        if self.refine:
            valid = ops.cast(labels >= 0, "float32")[..., None] * known
            field = self.heads["refinement"](y_pred["features"])
            error = self._refinement_error(field, y["landmarks"], size)
            loss = loss + self.landmark_weight * self._regression(error, valid)
        return loss

    def _landmark_error(self, found, points, centre, size):
        """Compares landmarks with what `[batch, n, cells, 2 k]` predict.

        Returns:
            The error, and `[batch, n, 1]`: 1 where all landmarks are known, else 0.
        """
        points = ops.cast(points, "float32")
        known = ops.cast(ops.all(ops.isfinite(points), axis=(2, 3)), "float32")
        points = ops.where(ops.isfinite(points), points, 0.0) - centre[:, :, None]
        points = ops.reshape(points, (*ops.shape(size)[:2], 1, 2 * self.landmarks))
        unit = size if self.scale_free else ops.full_like(size, STRIDE)
        unit = ops.tile(unit, (1, 1, self.landmarks))[:, :, None]
        return (found - points) / unit, known[..., None]

    def _refinement_error(self, field, points, size):
        """Compares the ways from cells near each landmark with where they should lead.

        Returns:
            Float `[batch, n, 1, 2 k]`, mean errors in box sides.
        """
        points = ops.cast(points, "float32")
        points = ops.where(ops.isfinite(points), points, 0.0)
        steps = ops.convert_to_tensor([[x, y] for y in REACH for x in REACH], "float32")
        near = points[:, :, :, None] + steps * size[:, :, None, None]
        limit = ops.cast(ops.stack(ops.shape(field)[2:0:-1]), "float32") - 1
        cell = ops.clip(ops.floor(near / STRIDE), 0.0, limit)
        target = points[:, :, :, None] - (cell + 0.5) * STRIDE
        place = ops.cast(cell, "int32")
        index = place[..., 1] * ops.shape(field)[2] + place[..., 0]
        found = heatmaps.gather_cells(
            field, ops.reshape(index, (ops.shape(index)[0], -1))
        )
        found = ops.reshape(found, (*ops.shape(index), self.landmarks, 2))
        # Of the vectors of all points that a cell has, that of the point it is near.
        own = ops.eye(self.landmarks)[:, None, :, None]
        error = ops.abs(ops.sum(found * own, axis=4) - target / size[:, :, None, None])
        error = ops.mean(error, axis=3)
        return ops.reshape(error, (*ops.shape(size)[:2], 1, 2 * self.landmarks))

    def _cells(self, centre, size, valid, height, width):
        """Picks where an object's regressions are learned, and how much each counts.

        Returns:
            Cells float `[batch, n, k, 2]` (x, y), the centre's own first where k is 1,
            and weights `[batch, n, k]` that add up to 1 for a valid object, else to 0.
        """
        limit = ops.cast(ops.stack([width - 1, height - 1]), "float32")
        cell = ops.clip(ops.floor(centre / STRIDE), 0.0, limit)
        steps = range(-self.neighbours, self.neighbours + 1)
        steps = ops.convert_to_tensor([[x, y] for y in steps for x in steps], "float32")
        cells = cell[:, :, None] + steps
        inside = ops.all((cells >= 0) & (cells <= limit), axis=-1)
        sigma = heatmaps.gaussian_sigma(size / STRIDE)[..., None]
        distance = ops.sum(ops.square(steps), axis=-1)
        weight = ops.exp(-distance / (2 * ops.square(sigma)))
        weight = weight * ops.cast(inside, "float32")
        weight = weight / ops.sum(weight, axis=-1, keepdims=True)
        weight = weight * ops.cast(valid, "float32")[..., None]
        return ops.clip(cells, 0.0, limit), weight

    def _regression(self, error, weight):
        """Sums over coordinates and weighted cells, divided by the number of objects.

        Args:
            error: `[batch, n, cells, coordinates]`.
            weight: `[batch, n, cells]`.
        """
        error = ops.abs(error)
        if self.regression == "huber":
            error = ops.where(error < 1, 0.5 * ops.square(error), error - 0.5)
        total = ops.sum(error * weight[..., None])
        return total / ops.maximum(sum_over_replicas(ops.sum(weight)), 1.0)

    def detect(self, images, max_detections: int = 100):
        """Finds objects.

        Args:
            images: float32 `[batch, height, width, 3]` in 0..255, sides multiples
                of 32.
            max_detections: per image.

        Returns:
            What `ops.heatmaps.decode_peaks` gives; boxes in pixels of `images`.
        """
        outputs = self(images, training=False)
        look = self.look if self.refine else None
        return heatmaps.decode_peaks(outputs, STRIDE, max_detections, look)

    def look(self, patches):
        """Refines at four neighbouring cells; see `ops.heatmaps.refine_points`.

        Args:
            patches: float `[m, 4, 4, width]` of "features".

        Returns:
            float32 `[m, 2, 2, 2 k]`, what the head gives at the inner cells.
        """
        first, second = self.heads["refinement"].layers
        hidden = ops.conv(patches, first.kernel, padding="valid") + first.bias
        return second(ops.relu(hidden))

    def get_config(self):
        names = (
            "classes",
            "landmarks",
            "width",
            "head_channels",
            "regression",
            "scale_free",
            "neighbours",
            "refine",
            "offset_weight",
            "size_weight",
            "landmark_weight",
        )
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
        } | {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**dict(config, backbone=backbone))
