"""Pictures of what optimizers do on surfaces: contours, ways, losses."""

import io
import os
import pathlib
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from PIL import Image

from mlcvtf.errors import InputError
from mlcvtf.optimizers.landscapes import (
    EXAMPLES,
    MOMENTUM,
    OPTIMIZERS,
    SURFACES,
    trajectories,
)
from mlcvtf.video.paths import printable

SMALL_BATCH, BATCH = 2, 32
COLOURS = dict(
    zip(
        OPTIMIZERS,
        # Of Wong, 2011, "Points of view: Color blindness", and three that differ.
        (
            "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #000000 #7f7f7f #8c1a1a #5d3fd3"
        ).split(),
        strict=True,
    )
)
# Those whose ways lie on others' are dashed, so that both are seen.
DASHED = {"Nesterov", "AdamW", "truncated Newton"}
STAR = "#ffd500"
INCHES, DOTS = 4.6, 100
# Milliseconds of a frame, of the last one, and the colours of a moving picture.
PAUSE, REST, PALETTE = 80, 2500, 128


class Panel(NamedTuple):
    """One plot of a figure.

    Attributes:
        surface: name of a surface.
        names: of the optimizers that walk on it.
        batch_size: examples per mini-batch; all of them: no noise.
        kind: "ways" over the contours, "losses" by step, or "gradients".
    """

    surface: str
    names: tuple[str, ...] = ()
    batch_size: int = BATCH
    kind: str = "ways"


FIRST_ORDER = ("SGD", "AdaGrad", "RMSProp", "Adam")
# The course's figures; 1.2 is drawn by `nesterov_figure`.
FIGURES = {
    "figure_1_1": (
        Panel("sphere", ("SGD", "momentum")),
        Panel("canyon", ("SGD", "momentum")),
    ),
    "figure_1_3": (
        Panel("canyon", ("SGD", "momentum", "Nesterov")),
        Panel("canyon", ("SGD", "momentum", "Nesterov"), kind="losses"),
    ),
    "figure_1_4": (Panel("canyon", kind="gradients"),),
    "figure_1_5": (Panel("beale", FIRST_ORDER[:2]), Panel("canyon", FIRST_ORDER[:2])),
    "figure_1_6": (Panel("beale", FIRST_ORDER[:3]), Panel("canyon", FIRST_ORDER[:3])),
    "figure_1_7": (Panel("beale", FIRST_ORDER), Panel("canyon", FIRST_ORDER)),
    "figure_1_8": (
        Panel("beale", FIRST_ORDER, SMALL_BATCH),
        Panel("canyon", FIRST_ORDER, SMALL_BATCH),
    ),
}


def overview(surface: str, batch_size: int) -> tuple[Panel, ...]:
    """Gives the panels that show all optimizers on one surface."""
    names = tuple(OPTIMIZERS)
    return (
        Panel(surface, names, batch_size),
        Panel(surface, names, batch_size, "losses"),
    )


def draw(
    panels: tuple[Panel, ...],
    walks: dict,
    frames: int,
) -> tuple[bytes, bytes | None]:
    """Draws a figure.

    Args:
        panels: side by side.
        walks: points `[steps + 1, 2]` by name of optimizer, by (surface, batch size).
        frames: of the moving picture; 0: none.

    Returns:
        A PNG, and an animated GIF; None for no frames or where nothing moves.
    """
    figure = Figure((INCHES * len(panels), INCHES + 0.9), DOTS, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    moving = []
    for axes, panel in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        walked = walks.get((panel.surface, panel.batch_size), {})
        moving += _panel(axes, panel, {name: walked[name] for name in panel.names})
    names = list(dict.fromkeys(name for panel in panels for name in panel.names))
    if names:
        handles = {line.get_label(): line for line, _, _ in moving}
        figure.legend(
            [handles[name] for name in names],
            names,
            loc="outside lower center",
            ncols=min(5, len(names)),
            frameon=False,
        )
    canvas.draw()
    # A second layout would shift the axes under the lines of the frames.
    figure.set_layout_engine("none")
    still = io.BytesIO()
    figure.savefig(still, format="png")
    if not frames or not moving:
        return still.getvalue(), None
    return still.getvalue(), _animate(canvas, moving, frames)


def walk(panels, steps: int | None, seed: int, walks: dict) -> None:
    """Lets the optimizers of panels walk, where they have not yet.

    Args:
        panels: of all figures.
        steps: of a trajectory; None: the surface's own.
        seed: of the mini-batches.
        walks: as of `draw`; receives what is missing.
    """
    wanted = {}
    for panel in panels:
        if panel.names:
            names = wanted.setdefault((panel.surface, panel.batch_size), {})
            names |= dict.fromkeys(panel.names)
    for (surface, batch_size), names in wanted.items():
        if (surface, batch_size) not in walks:
            walks[surface, batch_size] = trajectories(
                SURFACES[surface], tuple(names), batch_size, steps, seed
            )


def _panel(axes, panel, walked):
    """Draws what does not move; returns (line, x, y) of each line that does."""
    surface = SURFACES[panel.surface]
    if panel.kind != "losses":
        _contours(axes, surface)
    if panel.kind == "gradients":
        _gradients(axes, surface)
        axes.set_title(f"{panel.surface}: minus the gradient")
        return []
    noise = (
        "no noise" if panel.batch_size == EXAMPLES else f"batches of {panel.batch_size}"
    )
    loss = ": loss" if panel.kind == "losses" else ""
    axes.set_title(f"{panel.surface}{loss}, {noise}")
    if panel.kind == "losses":
        return _losses(axes, surface, walked)
    axes.plot(*surface.start, "o", color="white", mec="black", ms=7, zorder=6)
    return [
        (_line(axes, name, points[:, 0], points[:, 1]), points[:, 0], points[:, 1])
        for name, points in walked.items()
    ]


def _line(axes, name, x, y):
    style = {"ls": (0, (4, 2)) if name in DASHED else "-", "color": COLOURS[name]}
    # Noise makes Newton's ways long: they lie below the others.
    if "Newton" in name:
        style |= {"lw": 1.0, "zorder": 2}
    else:
        style |= {"lw": 1.6, "zorder": 3}
    return axes.plot(x, y, label=name, **style)[0]


def _contours(axes, surface):
    """Draws the levels of a surface, closer to each other near its lowest value."""
    left, right, low, high = surface.window
    x, y = np.meshgrid(np.linspace(left, right, 300), np.linspace(low, high, 300))
    lowest = min(surface.value(*point) for point in surface.minima)
    height = surface.value(x, y) - lowest
    levels = height.max() * np.geomspace(1e-5, 1, 21)
    height = np.maximum(height, levels[0] / 2)
    # The scale begins below the levels: black lines are lost on dark blue.
    scale = LogNorm(levels[0] / 30, levels[-1])
    filled = [levels[0] / 2, *levels]
    axes.contourf(x, y, height, filled, cmap="Blues_r", norm=scale, alpha=0.75)
    axes.contour(x, y, height, levels, colors="white", linewidths=0.6)
    for point in surface.minima:
        axes.plot(*point, "*", color=STAR, mec="black", ms=13, zorder=6)
    axes.set(xlabel="w1", ylabel="w2", xlim=(left, right), ylim=(low, high))


def _losses(axes, surface, walked):
    """Draws the surface's own loss, without the noise, against the step."""
    lowest = min(surface.value(*point) for point in surface.minima)
    moving = []
    for name, points in walked.items():
        height = surface.value(*points.T.astype(np.float64)) - lowest
        height = np.maximum(height, 1e-8)
        steps = np.arange(len(points))
        moving.append((_line(axes, name, steps, height), steps, height))
    axes.set(xlabel="step", ylabel="loss above the minimum", yscale="log")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, 1e-8), top)
    axes.grid(alpha=0.3)
    return moving


def _gradients(axes, surface):
    """Draws the way downhill at some points, as long as it is steep."""
    left, right, low, high = surface.window
    x, y = np.meshgrid(
        np.linspace(left, right, 12)[1:-1], np.linspace(low, high, 12)[1:-1]
    )
    near = 1e-4
    slopes = [
        (surface.value(x + dx, y + dy) - surface.value(x - dx, y - dy)) / (2 * near)
        for dx, dy in ((near, 0), (0, near))
    ]
    axes.quiver(x, y, -slopes[0], -slopes[1], angles="xy", color="#a02000", width=0.005)


def nesterov_figure() -> bytes:
    """Draws figure 1.2, a step of momentum beside one of Nesterov, as PNG."""
    value = SURFACES["sphere"].value
    start, velocity, rate = np.array([-2.0, -0.9]), np.array([1.1, 0.9]), 0.3
    figure = Figure((2 * INCHES, INCHES + 0.3), DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    x, y = np.meshgrid(np.linspace(-2.6, 0.8, 200), np.linspace(-1.7, 1.3, 200))
    for axes, ahead in zip(figure.subplots(1, 2), (False, True), strict=True):
        axes.contour(x, y, value(x, y), 12, colors="#9ab8d6", linewidths=0.8)
        middle = start + MOMENTUM * velocity
        # The gradient of the sphere is 2 w.
        slope = -rate * 2 * (middle if ahead else start)
        arrows = (
            (
                start,
                MOMENTUM * velocity,
                "#0072b2",
                "momentum, \N{GREEK SMALL LETTER MU} v",
            ),
            (middle, slope, "#d55e00", "gradient step, -lr \N{NABLA}L"),
            (start, MOMENTUM * velocity + slope, "#000000", "new velocity"),
        )
        for origin, arrow, colour, label in arrows:
            axes.quiver(
                *origin,
                *arrow,
                color=colour,
                label=label,
                angles="xy",
                scale_units="xy",
                scale=1,
                width=0.009,
            )
        if not ahead:
            axes.quiver(
                *start,
                *slope,
                color="#d55e00",
                angles="xy",
                scale_units="xy",
                scale=1,
                width=0.009,
                alpha=0.35,
            )
        axes.plot(*start, "o", color="black")
        axes.plot(*(middle if ahead else start), "o", mfc="none", mec="#d55e00", ms=11)
        axes.plot(0, 0, "*", color=STAR, mec="black", ms=13)
        axes.set_title(
            "Nesterov: gradient after the momentum"
            if ahead
            else "momentum: gradient at the start"
        )
        axes.set(xlabel="w1", ylabel="w2", xlim=(-2.6, 0.8), ylim=(-1.7, 1.3))
        axes.legend(loc="lower right")
    still = io.BytesIO()
    figure.savefig(still, format="png")
    return still.getvalue()


def _animate(canvas, moving, frames):
    """Draws the lines as they grow over a picture of what stays."""
    last = max(len(x) for _, x, _ in moving) - 1
    heads = [
        line.axes.plot([], [], "o", ms=5, color=line.get_color(), zorder=7)[0]
        for line, _, _ in moving
    ]
    artists = [*heads, *(line for line, _, _ in moving)]
    for artist in artists:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(canvas.figure.bbox)
    pictures = []
    # Steps get longer: what happens, happens early.
    shares = np.linspace(0, 1, frames) ** 1.5
    for step in np.unique(np.round(last * shares).astype(int)):
        canvas.restore_region(background)
        for (line, x, y), head in zip(moving, heads, strict=True):
            line.set_data(x[: step + 1], y[: step + 1])
            head.set_data(x[step : step + 1], y[step : step + 1])
            line.axes.draw_artist(line)
            line.axes.draw_artist(head)
        pictures.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    palette = _palette(pictures[0], [line.get_color() for line, _, _ in moving])
    pictures = [
        picture.quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    ]
    file = io.BytesIO()
    pictures[0].save(
        file,
        "gif",
        save_all=True,
        append_images=pictures[1:],
        duration=[PAUSE] * (len(pictures) - 1) + [REST],
        loop=0,
    )
    return file.getvalue()


def _palette(picture, colours):
    """Makes one palette for all frames: that of the first, and the lines' colours."""
    rest = [STAR, *dict.fromkeys(colours)]
    count = PALETTE - len(rest)
    colours = picture.quantize(count).getpalette()[: 3 * count]
    for colour in rest:
        colours += [round(255 * share) for share in to_rgb(colour)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette


def write(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    partial = f"{os.fspath(path)}.{os.getpid()}.partial"
    try:
        pathlib.Path(partial).write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise InputError(
            f"a picture must be writable, {printable(path)}: {error.strerror}"
        ) from None
