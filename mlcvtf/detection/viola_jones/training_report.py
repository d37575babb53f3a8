"""Reports a training: a table, the curve of every stage, and the features chosen."""

import json
import os
import pathlib
import tempfile

import cv2
import numpy as np

from mlcvtf.detection.viola_jones.features import Features
from mlcvtf.errors import InputError

# Pixels of a drawn window, and features of a stage that are drawn.
TILE, MOST = 96, 10
COLUMNS = {
    "stage": "stage",
    "trees": "trees",
    "faces": "positives",
    "negatives": "negatives",
    "scanned": "windows scanned",
    "share": "share that reaches the stage",
    "detection": "detection",
    "false_alarm": "false alarm",
    "total": "detection so far",
    "seconds": "seconds",
}


def write(folder: str | os.PathLike, cascade, history, faces, settings) -> None:
    """Writes `report.md`, `report.json`, `roc.png` and `features.png`.

    Args:
        folder: is made where it is not there.
        cascade: what was trained.
        history: a dict for each stage, as `training.Training` keeps it.
        faces: uint8 `[n, height, width]`, over whose mean features are drawn.
        settings: a `training.Settings`.

    Raises:
        InputError: the folder cannot be written.
    """
    content = {"settings": settings._asdict(), "stages": history}
    files = {
        "report.md": "\n".join(lines(history, settings)).encode() + b"\n",
        "report.json": json.dumps(content, indent=1).encode() + b"\n",
        "roc.png": _png(draw_curves(history)),
        "features.png": _png(draw_features(cascade, faces)),
    }
    try:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _replace(pathlib.Path(folder) / name, data)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None


def lines(history, settings) -> list[str]:
    """Writes the stages as a table in Markdown."""
    rows, total = [list(COLUMNS.values())], 1.0
    for number, entry in enumerate(history, 1):
        total *= entry["detection"]
        more = {
            "stage": number,
            "share": f"{entry['passed'] / max(entry['scanned'], 1):.3g}",
            "total": f"{total:.4f}",
            "detection": f"{entry['detection']:.4f}",
            "false_alarm": f"{entry['false_alarm']:.4f}",
        }
        rows.append([str((entry | more)[key]) for key in COLUMNS])
    width, height = settings.window
    trees = sum(entry["trees"] for entry in history)
    return [
        f"# A cascade of {len(history)} stages, {trees} trees",
        "",
        f"Window {width}x{height}; features: {settings.kind}; {settings.method}, depth "
        f"{settings.depth}; each stage is to let pass {settings.detection:g} of the "
        f"validation faces and {settings.false_alarm:g} of other windows.",
        "Detection and false alarm are measured on validation faces and on other "
        "windows that get to the stage and that it did not learn from.",
        "",
        *_table(rows),
        "",
        "![Curves](roc.png)",
        "",
        "The first features of each stage over the mean face (white counts more, black "
        "less):",
        "",
        "![Features](features.png)",
    ]


def _table(rows):
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def draw_curves(history) -> np.ndarray:
    """Draws detection against false alarm of every stage.

    Returns:
        uint8 `[height, width, 3]` RGB.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="false alarm", ylabel="detection", title="Stages on validation windows"
    )
    for number, entry in enumerate(history):
        color = colormaps["viridis"](number / max(len(history) - 1, 1))
        axes.plot(*np.array(entry["roc"]).T, color=color, label=f"{number + 1}")
        axes.plot(entry["false_alarm"], entry["detection"], "o", color=color)
    axes.legend(title="stage", ncols=2, fontsize="small")
    axes.grid(alpha=0.3)
    axes.set_xlim(0, 1)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def draw_features(cascade, faces, most: int = MOST) -> np.ndarray:
    """Draws a stage's first features over the mean face, one stage per row.

    Args:
        cascade: whose features.
        faces: uint8 `[n, height, width]`.
        most: of a stage.

    Returns:
        uint8 `[height, width, 3]`.
    """
    mean = np.asarray(faces).mean(axis=0)
    scale = max(1, round(TILE / max(mean.shape)))
    tile = cv2.resize(
        mean, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    ).astype(np.uint8)
    every = Features(cascade.rectangles, cascade.weights, cascade.tilted)
    ends = np.cumsum(cascade.tree_nodes)[np.cumsum(cascade.stage_trees) - 1]
    most = min(most, int(np.diff(ends, prepend=0).max()))
    rows, begin = [], 0
    for end in ends:
        row = [
            draw_feature(tile, every, cascade.features[node], scale)
            for node in range(begin, min(end, begin + most))
        ]
        row += [np.full_like(row[0], 255)] * (most - len(row))
        rows.append(np.concatenate(row, axis=1))
        begin = end
    return np.concatenate(rows)


def draw_feature(tile, features, number, scale) -> np.ndarray:
    """Draws one feature.

    Args:
        tile: uint8 `[height, width]`, a window enlarged.
        features: all features.
        number: which one.
        scale: by which the window was enlarged.

    Returns:
        uint8 `[height, width, 3]` with a margin of a pixel.
    """
    drawn = tile.copy()
    rectangles, weights, tilted = (part[number] for part in features)
    for (x, y, w, h), weight in zip(rectangles, weights, strict=True):
        if tilted:
            corners = [(x, y), (x + w, y + w), (x + w - h, y + w + h), (x - h, y + h)]
        else:
            corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        if weight:
            points = (np.array(corners) * scale).astype(np.int32)
            cv2.fillPoly(drawn, [points], 255 if weight > 0 else 0)
    mixed = cv2.addWeighted(tile, 0.4, drawn, 0.6, 0)
    mixed = cv2.copyMakeBorder(mixed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    return np.repeat(mixed[..., None], 3, axis=-1)


def _png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _replace(path, data):
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
