"""PASCAL VOC XML: one file of objects per picture.

Convention: `bndbox` holds the first and last pixel of the object, counted from 1, so
(xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax). Files of tools that
count from 0 then reach out by one pixel, which every check here lets pass.

XML is hostile input: a document type, and with it every entity, is refused.
"""

import math
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from xml.parsers import expat

from mlcvtf.data.places import Root
from mlcvtf.data.records import RecordSet, dense_labels, with_boxes
from mlcvtf.errors import InputError
from mlcvtf.video.paths import printable
from mlcvtf.video.pictures import SUFFIXES

MAX_BYTES = 10_000_000
MAX_DEPTH = 32
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(root: str | os.PathLike, split: str | None = None,
             names: Sequence[str] | None = None) -> RecordSet:
    """Reads a folder in the form of PASCAL VOC.

    Args:
        root: has `Annotations/*.xml` and `JPEGImages/`, or both kinds of files side by
            side.
        split: name of a list in `ImageSets/Main/`, or None for all.
        names: all classes in order; the ones that occur, sorted, by default.

    Returns:
        Records with boxes, sorted by name.

    Raises:
        InputError: no such folder or list, or a file that is not of this form.
    """
    root = pathlib.Path(root)
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = {path.stem: path for path in sorted(folder.glob("*.xml"))}
    if not files:
        raise InputError("a VOC set has XML files in its folder or in Annotations/, "
                         f"{printable(root)} has none")
    if split is not None:
        files = _listed(root, split, files)
    place_of = Root(root / "JPEGImages" if (root / "JPEGImages").is_dir() else root)
    parsed = [(path, parse_objects(path)) for path in files.values()]
    found = [name for _, (_, _, objects) in parsed for name, *_ in objects]
    names, number = dense_labels(found, names, printable(root))
    records = []
    for path, (file_name, size, objects) in parsed:
        classes, boxes, difficult = (zip(*objects, strict=True) if objects
                                     else ((), (), ()))
        image = place_of.place(_picture(place_of, path.stem, file_name))
        labels = [number[name] for name in classes]
        records.append(with_boxes(image, size, boxes, labels, (), difficult))
    return RecordSet(records, names, "boxes")


def parse_objects(path: pathlib.Path):
    """Reads one XML file.

    Returns:
        The picture's file name or None; its width and height or None; a list of
        (class name, xyxy, whether difficult).

    Raises:
        InputError: the file is no XML, hostile, or not of this form.
    """
    top, shown = parse_xml(path), printable(path)
    try:
        size = None
        if top.find("size/width") is not None:
            size = tuple(int(float(top.findtext(f"size/{side}")))
                         for side in ("width", "height"))
            # Some tools write zeros where they do not know.
            size = size if min(size) > 0 else None
        objects = [_object(element) for element in top.findall("object")]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            "an object has a name and a bndbox of four numbers and a size is two "
            f"numbers, {shown}: {' '.join(str(error).split())[:200]}") from None
    return top.findtext("filename"), size, objects


def parse_xml(path: pathlib.Path) -> ElementTree.Element:
    """Parses XML without document type, entities and deep nesting.

    Raises:
        InputError: the file cannot be read, is too large, or is not such XML.
    """
    shown = printable(path)
    builder, depth = ElementTree.TreeBuilder(), 0
    parser = expat.ParserCreate()

    def start(tag, attributes):
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(f"annotations nest at most {MAX_DEPTH} deep, {shown} does "
                             "more")
        builder.start(tag, attributes)

    def end(tag):
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_):
        raise InputError("annotations have no document type and no entities, "
                         f"{shown} declares some")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"annotations have at most {MAX_BYTES} bytes, {shown} has "
                             "more")
        parser.Parse(data, True)
        return builder.close()
    except OSError as error:
        raise InputError(f"annotations come from a readable file, {shown}: "
                         f"{error.strerror}") from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        # LookupError: an encoding that nobody knows.
        raise InputError(f"annotations must be whole XML, {shown} is not: "
                         f"{' '.join(str(error).split())}") from None


def _object(element):
    name = element.findtext("name", "").strip()
    if not name:
        raise ValueError("an object without a name")
    # Only its own box: a person's parts have boxes, too.
    corners = [float(element.findtext(f"bndbox/{key}")) for key in CORNERS]
    if not all(map(math.isfinite, corners)):
        raise ValueError(f"bndbox {corners}")
    x1, y1, x2, y2 = corners
    return (name, (x1 - 1, y1 - 1, x2, y2),
            bool(int(float(element.findtext("difficult", "0") or 0))))


def _picture(root, stem, file_name):
    """Returns the name of a picture: the annotation's, or what is called alike.

    Files that were renamed or converted keep stale names inside.
    """
    candidates = [file_name] if file_name else []
    candidates += [stem + suffix for suffix in (".jpg", ".png", *sorted(SUFFIXES))]
    for name in candidates:
        try:
            if os.path.isfile(root.place(name).path):
                return name
        except InputError:
            continue
    return f"{stem}.jpg"


def _listed(root, split, files):
    """Returns the files that a list of `ImageSets/Main/` names."""
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"a split is a list {printable(path)}: "
                         f"{getattr(error, 'strerror', None) or error}") from None
    stems = [line.split()[0] for line in lines if line.strip()]
    missing = [stem for stem in stems if stem not in files]
    if missing:
        raise InputError(f"every name of {printable(path)} has an XML file, "
                         f"{printable(missing[0])} has none")
    return {stem: files[stem] for stem in stems}
