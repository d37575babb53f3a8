"""Average precision of object detectors, by the rules of PASCAL VOC and of COCO.

References:
- Everingham, Van Gool, Williams, Winn, Zisserman, 2010, "The PASCAL Visual Object
  Classes (VOC) Challenge": one overlap, area under the whole curve (the "all-point"
  rule in use since 2010).
- Lin et al., 2014, "Microsoft COCO: Common Objects in Context", arXiv:1405.0312, and
  its evaluation program pycocotools: ten overlaps, 101 points of recall, three ranges
  of area, at most 100 detections of a class in a picture. Equal to it to 1e-6.

NumPy only; `mean_average_precision` wraps this as a Keras metric. A picture's
detections and truths are one dict each:

- detections: `boxes` `[n, 4]` xyxy in pixels, `scores` `[n]`, `labels` int `[n]`;
- truths: `boxes` `[m, 4]`, `labels` `[m]`, and where they are known `crowd` bool `[m]`
  (a region: detections lying in it are neither right nor wrong), `difficult` bool
  `[m]` (VOC: finding it is neither right nor wrong) and `area` `[m]` (COCO: that of
  the object's mask, in square pixels; of the box by default).

Rows with a negative label are padding and are left out.
"""

import numpy as np

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
# All, small, medium and large objects, in square pixels.
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
# COCO counts recall for the best 1, 10 and 100 detections of a class in a picture.
LIMITS = (1, 10, 100)


def precision_recall(detections, truths, overlap: float = 0.5) -> dict:
    """Returns precision and recall of each class at every score, by VOC's rules.

    A detection belongs to the truth that it overlaps most. It is right where that
    overlap (intersection over union) reaches `overlap` and no better scored one has
    the same truth. A wrong one is left out of the count where its truth is difficult
    or where `overlap` of its own area lies in a crowd region.

    Args:
        detections: a list with one dict per picture, see the module's docstring.
        truths: the same for the truth, in the same order.
        overlap: the smallest intersection over union of a right detection.

    Returns:
        Label to float64 arrays (precision, recall, score) of equal length, by falling
        score; only labels with a truth that counts.

    Raises:
        ValueError: the lists differ in length, or arrays do not fit together.
    """
    found, true = _tables(detections, truths)
    found = _take(found, np.argsort(-found["score"], kind="stable"))
    right, counted = _voc_match(found, true, overlap)
    plain = ~(true["crowd"] | true["difficult"])
    curves = {}
    for label in np.unique(true["label"][plain]).tolist():
        positives = np.sum(plain & (true["label"] == label))
        rows = np.flatnonzero((found["label"] == label) & counted)
        hits = np.cumsum(right[rows])
        curves[label] = (hits / np.arange(1, len(rows) + 1), hits / positives,
                         found["score"][rows])
    return curves


def average_precision(detections, truths, overlap: float = 0.5) -> dict[int, float]:
    """Returns the area under each class's precision-recall curve (VOC, all-point).

    AP = sum_i (r_i - r_{i-1}) max_{j >= i} p_j.

    Args:
        detections: a list with one dict per picture, see the module's docstring.
        truths: the same for the truth, in the same order.
        overlap: the smallest intersection over union of a right detection.

    Returns:
        Label to average precision in 0..1; only labels with a truth that counts.

    Raises:
        ValueError: the lists differ in length, or arrays do not fit together.

    >>> truths = [{"boxes": [[0, 0, 10, 10], [20, 0, 30, 10]], "labels": [0, 0]}]
    >>> found = [{"boxes": [[0, 0, 10, 9]], "scores": [0.7], "labels": [0]}]
    >>> average_precision(found, truths)
    {0: 0.5}
    """
    result = {}
    curves = precision_recall(detections, truths, overlap)
    for label, (precision, recall, _) in curves.items():
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        result[label] = float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    return result


def coco_average_precision(detections, truths) -> dict[str, float]:
    """Returns COCO's twelve numbers for boxes, equal to pycocotools'.

    Args:
        detections: a list with one dict per picture, see the module's docstring.
        truths: the same for the truth, in the same order; `difficult` is not used.

    Returns:
        `AP` (mean over overlaps 0.50:0.05:0.95 and classes), `AP50`, `AP75`, `APs`,
        `APm`, `APl` (areas up to 32^2, up to 96^2 and above), `AR1`, `AR10`, `AR100`
        (recall with that many detections a picture and class), `ARs`, `ARm`, `ARl`;
        each in 0..1, or -1 where there is no truth to measure it.

    Raises:
        ValueError: the lists differ in length, or arrays do not fit together.
    """
    found, true = _tables(detections, truths)
    found = _best_of_groups(found)
    ignored = _outside(true["area"]) | true["crowd"][:, None]
    in_range = ~_outside(_area(found["box"]))
    rows, right, counted = _coco_match(found, true, ignored, in_range)
    precisions, recalls = [], []
    for label in np.unique(true["label"]).tolist():
        positives = np.sum(~ignored[true["label"] == label], axis=0)
        positives = np.where(positives, positives, np.nan)
        first, last = np.searchsorted(found["label"], [label, label + 1])
        some = slice(*np.searchsorted(rows, [first, last]))
        precisions.append(_mean_precision(rows[some] - first, right[some],
                                          counted[some], in_range[first:last],
                                          positives))
        rank = found["rank"][rows[some]]
        recalls.append([np.sum(right[some][rank < limit], axis=0) / positives
                        for limit in LIMITS])
    return _twelve(precisions, recalls)


def _voc_match(found, true, overlap):
    """Says of each detection, best first, whether it is right and whether it counts."""
    right = np.zeros(len(found["label"]), bool)
    counted = np.ones(len(found["label"]), bool)
    row, truth, value = _pairs(found, true, overlap)
    crowd = true["crowd"][truth]
    counted[row[crowd]] = False
    row, truth, value = row[~crowd], truth[~crowd], value[~crowd]
    order = np.lexsort((truth, -value, row))
    row, first = np.unique(row[order], return_index=True)
    truth = truth[order][first]
    difficult = true["difficult"][truth]
    counted[row[difficult]] = False
    _, best = np.unique(truth[~difficult], return_index=True)
    right[row[~difficult][best]] = True
    return right, counted | right


def _coco_match(found, true, ignored, in_range):
    """Gives truths to detections, best first, for every overlap and range of area.

    A detection takes the free truth that it overlaps most, an ignored one only where
    no other is left; a crowd is never used up. Only detections with some overlap of
    0.5 take part, and the k-th ones of all pictures and classes go in one step.

    Returns:
        rows: `[c]` rising indices of the detections that take part; right: bool
        `[c, 10, 4]`; counted: bool `[c, 10, 4]`, False where it is ignored.
    """
    row, truth, value = _pairs(found, true, OVERLAPS[0])
    rows, row = np.unique(row, return_inverse=True)
    turn = np.zeros(len(rows), np.int64)
    by_group = np.lexsort((found["rank"][rows], found["group"][rows]))
    turn[by_group] = _count_within(found["group"][rows][by_group])
    # Equal overlaps stay in the order of the file.
    order = np.lexsort((value, row, turn[row]))
    row, truth, value = row[order], truth[order], value[order]
    # The place of a pair orders the truths of one detection: the larger the better,
    # equal overlaps by their order in the file, those that count above the ignored.
    place = _count_within(row).astype(np.int32)
    above = place.max(initial=0) + 1
    small = np.int8 if above < 64 else np.int32
    place, above = place.astype(small), small(above)
    shape = (len(OVERLAPS), len(AREAS))
    taken = np.zeros((len(true["label"]), *shape), bool)
    best = np.full((len(rows), *shape), -1, small)
    limits = np.minimum(OVERLAPS, 1 - 1e-10)
    steps = np.searchsorted(turn[row], np.arange(turn.max(initial=-1) + 2))
    for begin, end in zip(steps[:-1], steps[1:], strict=True):
        some, candidate = row[begin:end], truth[begin:end]
        free = ~taken[candidate] | true["crowd"][candidate, None, None]
        free &= (value[begin:end, None] >= limits)[..., None]
        key = place[begin:end, None] + above * ~ignored[candidate]
        key = np.where(free, key[:, None, :], small(-1))
        first = np.flatnonzero(place[begin:end] == 0)
        chosen = np.maximum.reduceat(key, first, axis=0)
        best[some[first]] = chosen
        which, level, area = np.nonzero(chosen >= 0)
        chosen = first[which] + chosen[which, level, area] % above
        taken[candidate[chosen], level, area] = True
    right = best >= above
    return rows, right, right | ((best < 0) & in_range[rows][:, None, :])


def _mean_precision(rows, right, counted, in_range, positives):
    """Averages one class's precision over 101 recalls.

    Args:
        rows: `[c]` which of the class's detections, best first, overlap a truth.
        right: bool `[c, 10, 4]` of those.
        counted: bool `[c, 10, 4]` of those.
        in_range: bool `[n, 4]` of all detections: those that overlap no truth are
            counted in their range of area.
        positives: `[4]` number of truths that count, NaN for none.

    Returns:
        `[10, 4]`, NaN where no truth counts.
    """
    alone = in_range.copy()
    alone[rows] = False
    alone = np.cumsum(alone, axis=0, dtype=np.int32)[rows]
    # Contiguous along the detections, which all sums run along.
    together = np.cumsum(counted.transpose(1, 2, 0), axis=-1, dtype=np.int32)
    right = np.ascontiguousarray(right.transpose(1, 2, 0))
    result = np.full((len(OVERLAPS), len(AREAS)), np.nan)
    for area in np.flatnonzero(~np.isnan(positives)):
        total = int(positives[area])
        needed = np.searchsorted(np.arange(1, total + 1) / total, RECALLS)
        for level in range(len(OVERLAPS)):
            # Precision only falls between right detections: they make the envelope.
            hits = np.flatnonzero(right[level, area])
            position = alone[hits, area] + together[level, area, hits]
            precision = np.arange(1, len(hits) + 1) / position
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            reached = needed[needed < len(hits)]
            result[level, area] = np.sum(envelope[reached]) / len(RECALLS)
    return result


def _twelve(precisions, recalls):
    """Averages `[overlap, area]` precisions and `[limit, overlap, area]` recalls."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs",
             "ARm", "ARl")
    shape = (len(OVERLAPS), len(AREAS))
    precision = np.reshape(precisions, (-1, *shape))
    recall = np.reshape(recalls, (-1, len(LIMITS), *shape))
    parts = (precision[..., 0], precision[:, 0, 0], precision[:, 5, 0],
             *(precision[..., area] for area in (1, 2, 3)),
             *(recall[:, limit, :, 0] for limit in range(len(LIMITS))),
             *(recall[:, -1, :, area] for area in (1, 2, 3)))
    return {name: -1.0 if np.isnan(part).all() else float(np.nanmean(part))
            for name, part in zip(names, parts, strict=True)}


def _pairs(found, true, least):
    """Finds the pairs of one picture and class that overlap by at least `least`.

    Returns:
        found's index (rising), true's index and overlap: intersection over union, for
        a crowd the share of the detection that lies in it.
    """
    order = np.argsort(true["group"], kind="stable")
    groups = true["group"][order]
    first = np.searchsorted(groups, found["group"])
    count = np.searchsorted(groups, found["group"], side="right") - first
    row = np.repeat(np.arange(len(count)), count)
    start = first - (np.cumsum(count) - count)
    truth = order[np.arange(len(row)) + np.repeat(start, count)]
    a, b = found["box"], true["box"]
    width = np.minimum(a[row, 2], b[truth, 2]) - np.maximum(a[row, 0], b[truth, 0])
    near = np.flatnonzero(width > 0)
    row, truth, width = row[near], truth[near], width[near]
    height = np.minimum(a[row, 3], b[truth, 3]) - np.maximum(a[row, 1], b[truth, 1])
    common = width * np.maximum(height, 0)
    own = _area(a)[row]
    union = np.where(true["crowd"][truth], own, own + _area(b)[truth] - common)
    near = np.flatnonzero((common > 0) & (common >= min(least, 1 - 1e-10) * union))
    return row[near], truth[near], common[near] / union[near]


def _best_of_groups(found):
    """Sorts by label and falling score, keeps the 100 best of a picture and class.

    The new column `rank` counts from 0 within picture and class.
    """
    order = np.lexsort((-found["score"], found["label"]))
    group = found["group"][order]
    by_group = np.argsort(group, kind="stable")
    rank = np.empty_like(by_group)
    rank[by_group] = _count_within(group[by_group])
    keep = rank < LIMITS[-1]
    return _take(found, order[keep]) | {"rank": rank[keep]}


def _count_within(group):
    """Numbers the members of each run of equal values from 0."""
    if not len(group):
        return np.zeros(0, np.int64)
    first = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    return np.arange(len(group)) - np.repeat(first, np.diff(first, append=len(group)))


def _area(box):
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def _outside(area):
    """Says which of n areas lie outside each of the four ranges, `[n, 4]`."""
    return (area[:, None] < AREAS[:, 0]) | (area[:, None] > AREAS[:, 1])


def _tables(detections, truths):
    """Joins the pictures' dicts into two tables; a group is a picture and a class."""
    if len(detections) != len(truths):
        raise ValueError("Detections and truths are lists of one dict per picture, "
                         f"received {len(detections)} and {len(truths)} pictures")
    found, true = _joined(detections), _joined(truths)
    found["score"] = _column(detections, "scores", np.float64)
    area = _column(truths, "area", np.float64, np.nan)
    true["area"] = np.where(np.isnan(area), _area(true["box"]), area)
    for key in ("crowd", "difficult"):
        true[key] = _column(truths, key, np.bool_, False)
    classes = 1 + max(found["label"].max(initial=0), true["label"].max(initial=0))
    return [_take(table | {"group": table["image"] * classes + table["label"]},
                  table["label"] >= 0) for table in (found, true)]


def _joined(pictures):
    counts = [len(picture["labels"]) for picture in pictures]
    return {"image": np.repeat(np.arange(len(pictures)), counts),
            "label": _column(pictures, "labels", np.int64),
            "box": _column(pictures, "boxes", np.float64, width=(4,))}


def _column(pictures, key, dtype, default=None, width=()):
    """Joins one array of every picture; where it may lack, the default stands in."""
    if default is not None and not any(key in picture for picture in pictures):
        return np.full(sum(len(picture["labels"]) for picture in pictures), default)
    values = [np.zeros((0, *width), dtype)]
    for number, picture in enumerate(pictures):
        shape = (len(picture["labels"]), *width)
        if default is not None and key not in picture:
            values.append(np.full(shape, default, dtype))
            continue
        value = np.asarray(picture[key], dtype)
        if value.shape != shape and (value.size or shape[0]):
            raise ValueError(f"The {key} of a picture with {shape[0]} labels are "
                             f"{list(shape)}, received {list(value.shape)} in picture "
                             f"{number}")
        values.append(value.reshape(shape))
    return np.concatenate(values)


def _take(table, index):
    return {key: column[index] for key, column in table.items()}
