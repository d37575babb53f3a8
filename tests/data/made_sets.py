"""Small pictures and sets that the tests of readers write."""

import io
import json
import zipfile

import numpy as np
from PIL import Image


def encoded(image, suffix="png", **options):
    """Returns an image array as the bytes of a picture's file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, {"jpg": "jpeg"}.get(suffix, suffix), **options)
    return file.getvalue()


def noise(seed, width=40, height=30):
    """Returns a picture that resembles no other, uint8 `[height, width, 3]`."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height)))


def write(path, data):
    """Writes bytes, text or an image array, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, np.ndarray):
        data = encoded(data, path.suffix[1:])
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def write_zip(path, files):
    """Writes a ZIP archive of name to bytes or image array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if isinstance(data, np.ndarray):
                data = encoded(data, name.rsplit(".", 1)[-1])
            archive.writestr(name, data)
    return path


def coco(count=4, width=40, height=30):
    """Returns COCO JSON of `count` pictures, i boxes on the i-th, ids with gaps."""
    images = [{"id": 10 + i, "file_name": f"{i}.png", "width": width, "height": height}
              for i in range(count)]
    annotations = [
        {"id": 100 + 10 * i + j, "image_id": 10 + i, "category_id": (7, 3)[j % 2],
         "bbox": [2.5 * j, 3, 4, 5.5], "iscrowd": int(j == 2)}
        for i in range(count) for j in range(i)
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder, content=None, count=4, name="train"):
    """Writes a COCO set, JSON beside a ZIP archive; returns the JSON's path."""
    pictures = {f"{i}.png": noise(i) for i in range(count)}
    write_zip(folder / f"{name}.zip", pictures)
    return write(folder / f"{name}.json", json.dumps(content or coco(count)))


def voc_xml(objects, width=40, height=30, name="one.png"):
    """Returns VOC XML of (class, xmin, ymin, xmax, ymax, difficult) objects."""
    body = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>" for label, x1, y1, x2, y2, difficult in objects)
    return (f"<annotation><filename>{name}</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size>{body}</annotation>")
