"""Boxes: areas, overlaps and formats.

A box is x1, y1, x2, y2 in pixels (xyxy) inside the library; the other formats, corner
and size (xywh) and centre and size (cxcywh), exist where data or a paper use them.
All functions work on any backend and any number of leading axes.
"""

from keras import ops


def area(boxes):
    """Returns the areas of boxes.

    Args:
        boxes: float `[..., 4]` xyxy.

    Returns:
        float `[...]`, 0 where a box is inside out.

    >>> float(area(ops.convert_to_tensor([1.0, 2.0, 4.0, 4.0])))
    6.0
    """
    size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def iou(boxes, others):
    """Returns the intersection over union of boxes, one by one.

    Args:
        boxes: float `[..., 4]` xyxy.
        others: float `[..., 4]` xyxy; the leading axes broadcast, so that
            `iou(a[:, None], b[None])` compares all with all.

    Returns:
        float `[...]` in 0..1; 0 where both boxes are empty.

    >>> float(iou(ops.convert_to_tensor([0.0, 0, 2, 2]),
    ...           ops.convert_to_tensor([0.0, 0, 2, 1])))
    0.5
    """
    common, union = _common_and_union(boxes, others)
    return _ratio(common, union)


def giou(boxes, others):
    """Returns the generalised intersection over union of boxes, one by one.

    GIoU = IoU - (hull - union) / hull, where the hull is the smallest box around both:
    it tells how far apart boxes are that do not touch.

    Args:
        boxes: float `[..., 4]` xyxy.
        others: float `[..., 4]` xyxy; the leading axes broadcast.

    Returns:
        float `[...]` in -1..1; 0 where the hull is empty.

    References:
    - Rezatofighi et al., 2019, "Generalized Intersection over Union",
      arXiv:1902.09630.

    >>> float(giou(ops.convert_to_tensor([0.0, 0, 1, 1]),
    ...            ops.convert_to_tensor([3.0, 0, 4, 1])))
    -0.5
    """
    common, union = _common_and_union(boxes, others)
    low = ops.minimum(boxes[..., :2], others[..., :2])
    high = ops.maximum(boxes[..., 2:], others[..., 2:])
    hull = area(ops.concatenate([low, high], axis=-1))
    return _ratio(common, union) - _ratio(hull - union, hull)


def clip(boxes, height, width):
    """Cuts boxes at the border of a picture.

    Args:
        boxes: float `[..., 4]` xyxy.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        float `[..., 4]` with x in 0..width and y in 0..height.
    """
    x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
    x1, x2 = ops.clip(x1, 0, width), ops.clip(x2, 0, width)
    y1, y2 = ops.clip(y1, 0, height), ops.clip(y2, 0, height)
    return ops.stack([x1, y1, x2, y2], axis=-1)


def xywh_to_xyxy(boxes):
    """Turns corner and size into two corners; `[..., 4]`."""
    return ops.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes):
    """Turns two corners into corner and size; `[..., 4]`."""
    return ops.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def cxcywh_to_xyxy(boxes):
    """Turns centre and size into two corners; `[..., 4]`."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def xyxy_to_cxcywh(boxes):
    """Turns two corners into centre and size; `[..., 4]`."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return ops.concatenate([(low + high) / 2, high - low], axis=-1)


def _common_and_union(boxes, others):
    low = ops.maximum(boxes[..., :2], others[..., :2])
    high = ops.minimum(boxes[..., 2:], others[..., 2:])
    common = area(ops.concatenate([low, high], axis=-1))
    return common, area(boxes) + area(others) - common


def _ratio(part, whole):
    """Divides; where the whole is 0 the ratio and its gradient are 0."""
    some = whole > 0
    return ops.where(some, part / ops.where(some, whole, 1), 0)
