"""Centre heat maps: Gaussian targets and local maxima."""

from keras import ops


def gaussian_radius(width, height, min_overlap: float = 0.7):
    """Returns how far a box's corners may move while IoU stays at `min_overlap`.

    The smallest of three cases: both corners move inwards, both outwards, or one
    each way; each is a quadratic equation in the radius. Law and Deng, 2018,
    "CornerNet", arXiv:1808.01244, section 3.1; the released code divides by 2 where
    the formula has 2a, here the formula stands.

    Args:
        width: float tensor of box widths, in cells of the heat map.
        height: float tensor of the same shape.
        min_overlap: IoU in (0, 1).

    Returns:
        Float tensor of the same shape, in cells.
    """
    total, area, t = height + width, width * height, min_overlap

    def smaller_root(a, b, c):
        return (b - ops.sqrt(ops.maximum(b * b - 4 * a * c, 0.0))) / (2 * a)

    one_each_way = smaller_root(1.0, total, area * (1 - t) / (1 + t))
    inwards = smaller_root(4.0, 2 * total, (1 - t) * area)
    b = 2 * t * total
    outwards = (-b + ops.sqrt(b * b + 16 * t * (1 - t) * area)) / (8 * t)
    return ops.minimum(ops.minimum(one_each_way, inwards), outwards)


def gaussian_sigma(size):
    """Returns the standard deviation of the Gaussians that stand for boxes.

    A sixth of the diameter, as in CenterNet (section 3) after CornerNet.

    Args:
        size: float `[..., 2]` width and height, in cells of the heat map.

    Returns:
        Float `[...]`, in cells.
    """
    radius = gaussian_radius(size[..., 0], size[..., 1])
    return (2 * ops.maximum(radius, 0.0) + 1) / 6


def gaussian_targets(boxes, labels, height: int, width: int, classes: int, stride: int):
    """Draws one Gaussian per box around its centre cell.

    Args:
        boxes: float `[batch, n, 4]` xyxy in pixels.
        labels: int `[batch, n]`; -1 pads.
        height: rows of the heat map.
        width: columns of the heat map.
        classes: number of classes.
        stride: pixels per cell.

    Returns:
        float `[batch, height, width, classes]` in 0..1: exactly 1 in the cell of each
        centre, the largest value where Gaussians of one class overlap.
    """
    boxes = ops.cast(boxes, "float32") / stride
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    centre = ops.floor((boxes[..., :2] + boxes[..., 2:]) / 2)
    sigma = gaussian_sigma(size)
    columns = ops.arange(width, dtype="float32")
    rows = ops.arange(height, dtype="float32")
    factor = -1 / (2 * ops.square(sigma))[..., None]
    along_x = ops.exp(ops.square(columns - centre[..., 0:1]) * factor)
    along_y = ops.exp(ops.square(rows - centre[..., 1:2]) * factor)
    gaussians = along_y[..., :, None] * along_x[..., None, :]
    maps = []
    for label in range(classes):
        mine = ops.cast(labels == label, "float32")[..., None, None]
        maps.append(ops.max(gaussians * mine, axis=1, initial=0.0))
    return ops.stack(maps, axis=-1)


def local_maxima(heatmap):
    """Keeps values that are the largest of their 3x3 neighbourhood, else 0.

    Args:
        heatmap: float `[batch, height, width, classes]`, not negative.

    Returns:
        Float of the same shape.
    """
    largest = ops.max_pool(heatmap, 3, strides=1, padding="same")
    return ops.where(heatmap >= largest, heatmap, ops.zeros_like(heatmap))


def gather_cells(maps, cells):
    """Picks vectors of a map by flat cell index.

    Args:
        maps: `[batch, height, width, channels]`.
        cells: int `[batch, n]`, row * width + column.

    Returns:
        `[batch, n, channels]`.
    """
    channels = maps.shape[-1]
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1, channels))
    return ops.take_along_axis(flat, cells[..., None], axis=1)


def gather_patches(maps, columns, rows):
    """Cuts 4x4 cells out of maps, one to the left of and above a cell, then on.

    Args:
        maps: float `[batch, height, width, channels]`; zeros lie around them.
        columns: int `[batch, n]`, of a cell.
        rows: int `[batch, n]`.

    Returns:
        `[batch * n, 4, 4, channels]`.
    """
    batch, height, width = ops.shape(maps)[:3]
    channels = maps.shape[-1]
    padded = ops.pad(maps, [[0, 0], [1, 2], [1, 2], [0, 0]])
    height, width = height + 3, width + 3
    first = rows * width + columns
    first = first + ops.arange(batch, dtype="int32")[:, None] * (height * width)
    steps = ops.arange(4, dtype="int32")
    steps = ops.reshape(steps[:, None] * width + steps, (-1,))
    index = ops.reshape(first, (-1, 1)) + steps
    found = ops.take(ops.reshape(padded, (-1, channels)), index, axis=0)
    return ops.reshape(found, (-1, 4, 4, channels))


def refine_points(points, size, features, look, stride: int):
    """Moves points by the vectors of a field that lie where they are.

    The field is that of a head of 3x3 cells, which is computed where it is read alone:
    over all cells it would take a fifth of a small detector's time.

    Args:
        points: float `[batch, n, k, 2]`, pixels.
        size: float `[batch, n, 2]`, what the field's vectors are in units of, pixels.
        features: float `[batch, height, width, channels]`, what the head sees.
        look: the head: from `[m, 4, 4, channels]` to `[m, 2, 2, 2 k]`, a vector per
            point at the middles of the four inner cells.
        stride: pixels per cell.

    Returns:
        Float `[batch, n, k, 2]`; the field is interpolated bilinearly.
    """
    batch = ops.shape(points)[0]
    count, points_each = points.shape[1:3]
    corners, shares = [], []
    for axis in (0, 1):
        last = ops.cast(ops.shape(features)[2 - axis] - 1, points.dtype)
        place = ops.clip(points[..., axis] / stride - 0.5, 0.0, last)
        low = ops.floor(place)
        corners.append(ops.reshape(ops.cast(low, "int32"), (batch, -1)))
        # At the last cell the share of the one after it is 0.
        share = ops.reshape(place - low, (-1, 1))
        shares.append(ops.concatenate([1 - share, share], axis=-1))
    field = look(gather_patches(features, *corners))
    weights = shares[1][:, :, None, None] * shares[0][:, None, :, None]
    way = ops.sum(field * weights, axis=(1, 2))
    # Of the vectors of all points a place needs its own.
    way = ops.reshape(way, (-1, points_each, points_each, 2))
    way = ops.sum(way * ops.eye(points_each)[..., None], axis=2)
    way = ops.reshape(way, (-1, count, points_each, 2))
    return points + way * size[:, :, None]


def decode_peaks(outputs, stride: int = 4, max_detections: int = 100, look=None):
    """Turns CenterNet's maps into boxes: the highest local maxima.

    Args:
        outputs: dict with "heatmap" `[batch, h, w, classes]` in 0..1, "offset"
            `[batch, h, w, 2]` in cells, "size" `[batch, h, w, 2]` in pixels and,
            optionally, "landmarks" `[batch, h, w, 2 k]` in pixels from the centre and
            "features" for `look`.
        stride: pixels per cell.
        max_detections: n, detections per picture; where a picture has fewer peaks
            the rest has score 0 and label -1.
        look: the head of `refine_points`, or None; landmarks are the mean of both
            answers.

    Returns:
        dict: "boxes" float `[batch, n, 4]` xyxy pixels, "scores" float `[batch, n]`
        descending, "labels" int `[batch, n]` and, if given, "landmarks" float
        `[batch, n, k, 2]`.
    """
    heatmap = outputs["heatmap"]
    _, height, width, classes = ops.shape(heatmap)
    peaks = ops.reshape(local_maxima(heatmap), (-1, height * width * classes))
    # Where sizes are dynamic nobody knows whether there are enough cells to choose
    # from: zeros are added, and what they give is padding.
    peaks = ops.pad(peaks, [[0, 0], [0, max_detections]])
    scores, index = ops.top_k(peaks, max_detections)
    index = ops.minimum(index, height * width * classes - 1)
    cells, labels = index // classes, index % classes
    place = ops.stack([cells % width, cells // width], axis=-1)
    centre = ops.cast(place, scores.dtype) + gather_cells(outputs["offset"], cells)
    centre = centre * stride
    half = gather_cells(outputs["size"], cells) / 2
    result = {
        "boxes": ops.concatenate([centre - half, centre + half], axis=-1),
        "scores": scores,
        "labels": ops.where(scores > 0, ops.cast(labels, "int32"), -1),
    }
    if "landmarks" in outputs:
        points = gather_cells(outputs["landmarks"], cells)
        points = ops.reshape(points, (*ops.shape(points)[:2], -1, 2))
        points = points + centre[:, :, None]
        if look is not None:
            other = refine_points(points, 2 * half, outputs["features"], look, stride)
            points = (points + other) / 2
        result["landmarks"] = points
    return result
