"""Cascades in OpenCV's XML, read and written.

Both of OpenCV's formats are read, that of `opencv_traincascade` ("new", Haar features
alone) and that of `opencv_haartraining` ("old"); the new one is written. A file may
come from strangers: its size is bounded, document types and entities are refused, every
number is parsed as one, and every index is checked before a cascade exists.
"""

import os
import pathlib
import tempfile
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from mlcvtf.detection.viola_jones.cascade import Cascade
from mlcvtf.errors import InputError

# OpenCV's largest cascade has 1.3 MB.
LARGEST_FILE = 32 << 20
LARGEST_WINDOW = 1024
OLD = "opencv-haar-classifier"


def load_cascade(path) -> Cascade:
    """Reads a cascade from a file of OpenCV's.

    Args:
        path: of the XML file.

    Returns:
        The cascade.

    Raises:
        InputError: there is no such file, or it is no cascade of Haar features.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"expected a cascade at {path}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"a cascade has at most {LARGEST_FILE >> 20} MiB, {path} more")
    try:
        return _read(_parse(data))
    except (ValueError, expat.ExpatError, OverflowError) as error:
        raise InputError(f"{path} must be a cascade of OpenCV: {error}") from None


def _parse(data):
    """Parses XML without document types, so that nothing can be expanded."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_):
        raise ValueError("a document type is not allowed in it")

    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return builder.close()


def _read(root):
    if root.tag != "opencv_storage" or not len(root):
        raise ValueError(f"its root must be opencv_storage with content, is {root.tag}")
    node = root[0]
    if node.get("type_id") == OLD:
        return _read_old(node)
    kind = _text(node, "featureType")
    if kind != "HAAR":
        raise ValueError(f"its features must be HAAR, they are {kind[:40]!r}")
    if _text(node, "stageType") != "BOOST":
        raise ValueError(f"its stages must be BOOST, they are {node.tag[:40]!r}")
    features = [_feature(item) for item in _child(node, "features")]
    stages = []
    for stage in _child(node, "stages"):
        trees = []
        for tree in _child(stage, "weakClassifiers"):
            values = _numbers(_text(tree, "internalNodes"))
            if not len(values) or len(values) % 4:
                raise ValueError("a node has 4 numbers, a tree at least one node")
            trees.append((values.reshape(-1, 4), _numbers(_text(tree, "leafValues"))))
        stages.append((_number(_text(stage, "stageThreshold")), trees))
    window = [_whole(_number(_text(node, side))) for side in ("width", "height")]
    return _assemble(window, features, stages)


def _read_old(node):
    size = _numbers(_text(node, "size"))
    if len(size) != 2:
        raise ValueError(f"its size must be two numbers, received {len(size)}")
    features, stages = [], []
    for number, stage in enumerate(_child(node, "stages")):
        parent = stage.find("parent")
        if parent is not None and _number(parent.text or "") != number - 1:
            raise ValueError("its stages must follow each other, they form a tree")
        trees = []
        for tree in _child(stage, "trees"):
            nodes, leaves = [], []
            for item in tree:
                row = []
                for side in ("left", "right"):
                    if item.find(f"{side}_node") is not None:
                        row.append(_number(_text(item, f"{side}_node")))
                    else:
                        row.append(-len(leaves))
                        leaves.append(_number(_text(item, f"{side}_val")))
                row += [len(features), _number(_text(item, "threshold"))]
                nodes.append(row)
                features.append(_feature(_child(item, "feature")))
            trees.append((np.array(nodes, float).reshape(-1, 4), np.array(leaves)))
        stages.append((_number(_text(stage, "stage_threshold")), trees))
    return _assemble([_whole(side) for side in size], features, stages)


def _assemble(window, features, stages):
    if max(window) > LARGEST_WINDOW:
        raise ValueError(f"its window must have sides up to {LARGEST_WINDOW}")
    trees = [tree for _, part in stages for tree in part]
    if not trees or not features:
        raise ValueError("it must have stages, trees and features")
    for nodes, leaves in trees:
        if len(leaves) != len(nodes) + 1:
            raise ValueError("a tree has one leaf more than nodes")
    nodes = np.concatenate([nodes for nodes, _ in trees])
    if (
        not (nodes[:, :3] == np.rint(nodes[:, :3])).all()
        or (np.abs(nodes[:, :3]) > 1e6).any()
    ):
        raise ValueError("children and features must be numbered by whole numbers")
    columns = zip(*features, strict=True)
    rectangles, weights, tilted = (np.array(column) for column in columns)
    return Cascade(
        tuple(window),
        rectangles.astype(np.int32),
        weights.astype(np.float32),
        tilted.astype(bool),
        np.array([len(part) for _, part in stages], np.int32),
        np.array([threshold for threshold, _ in stages], np.float32),
        np.array([len(part) for part, _ in trees], np.int32),
        nodes[:, 2].astype(np.int32),
        nodes[:, 3].astype(np.float32),
        nodes[:, :2].astype(np.int32),
        np.concatenate([leaves for _, leaves in trees]).astype(np.float32),
    )


def _feature(node):
    """Returns rectangles `[3, 4]`, weights `[3]`, and whether they are tilted."""
    rows = [_numbers(item.text or "") for item in _child(node, "rects")]
    if not 2 <= len(rows) <= 3 or any(len(row) != 5 for row in rows):
        raise ValueError("a feature has 2 or 3 rectangles of 5 numbers each")
    rows = np.array(rows + [np.zeros(5)] * (3 - len(rows)))
    if (np.abs(rows[:, :4]) > LARGEST_WINDOW).any() or (
        rows[:, :4] != np.rint(rows[:, :4])
    ).any():
        raise ValueError("a rectangle's place and size are whole numbers in a window")
    tilted = node.find("tilted")
    return rows[:, :4], rows[:, 4], tilted is not None and bool(_number(tilted.text))


def _child(node, name):
    child = node.find(name)
    if child is None:
        raise ValueError(f"{node.tag[:40]} must hold {name}, it does not")
    return child


def _text(node, name):
    return (_child(node, name).text or "").strip()


def _numbers(text):
    values = np.array([float(word) for word in text.split()])
    if not np.isfinite(values).all():
        raise ValueError("numbers must be finite")
    return values


def _number(text):
    values = _numbers(text or "")
    if len(values) != 1:
        raise ValueError(f"one number is expected, received {len(values)}")
    return float(values[0])


def _whole(value):
    if value != int(value):
        raise ValueError(f"a whole number is expected, received {value}")
    return int(value)


def save_opencv_xml(cascade: Cascade, path) -> None:
    """Writes a cascade as OpenCV 4's `CascadeClassifier` reads it.

    Args:
        cascade: the cascade.
        path: of the file; it is replaced in one step, or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = pathlib.Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        try:
            with open(handle, "w", encoding="ascii") as file:
                file.write("\n".join(_lines(cascade)) + "\n")
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _lines(c):
    """Yields the lines of the new format."""
    width, height = c.window
    yield '<?xml version="1.0"?>'
    yield "<opencv_storage>"
    yield '<cascade type_id="opencv-cascade-classifier">'
    yield "<stageType>BOOST</stageType><featureType>HAAR</featureType>"
    yield f"<height>{height}</height><width>{width}</width>"
    most = c.stage_trees.max()
    yield f"<stageParams><maxWeakCount>{most}</maxWeakCount></stageParams>"
    yield "<featureParams><maxCatCount>0</maxCatCount></featureParams>"
    yield f"<stageNum>{len(c.stage_trees)}</stageNum>"
    yield "<stages>"
    tree = node = 0
    for count, threshold in zip(c.stage_trees, c.stage_thresholds, strict=True):
        yield f"<_><maxWeakCount>{count}</maxWeakCount>"
        yield f"<stageThreshold>{_float(threshold)}</stageThreshold><weakClassifiers>"
        for _ in range(count):
            size = c.tree_nodes[tree]
            nodes = range(node, node + size)
            leaves = c.leaves[node + tree : node + tree + size + 1]
            children = c.children[node : node + size]
            if size == 1:
                # OpenCV takes a stump's leaves in this order, whatever the node says.
                leaves, children = leaves[-children[0]], [(0, -1)]
            yield (
                "<_><internalNodes>"
                + " ".join(
                    f"{left} {right} {c.features[n]} {_float(c.thresholds[n])}"
                    for n, (left, right) in zip(nodes, children, strict=True)
                )
                + "</internalNodes>"
            )
            yield f"<leafValues>{' '.join(map(_float, leaves))}</leafValues></_>"
            tree, node = tree + 1, node + size
        yield "</weakClassifiers></_>"
    yield "</stages>"
    yield "<features>"
    for rectangles, weights, tilted in zip(
        c.rectangles, c.weights, c.tilted, strict=True
    ):
        yield (
            "<_><rects>"
            + "".join(
                f"<_>{' '.join(map(str, rectangle))} {_float(weight)}</_>"
                for rectangle, weight in zip(rectangles, weights, strict=True)
                if weight != 0
            )
            + f"</rects><tilted>{int(tilted)}</tilted></_>"
        )
    yield "</features>"
    yield "</cascade>"
    yield "</opencv_storage>"


def _float(value):
    # Nine digits give the same float32 again.
    return f"{value:.9g}"
