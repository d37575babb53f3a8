"""The report of a training: `report.md` and its curves, `curves.png`."""

import json
import math
import pathlib

import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.ticker

VALIDATION = "val_"
# Pictures that a report names.
MOST_REPLACED = 100


def read_log(path: pathlib.Path) -> list[dict]:
    """Reads a log of JSON lines; none is as an empty one."""
    if not path.is_file():
        return []
    return [json.loads(s) for s in path.read_text(encoding="utf-8").splitlines()]


def write(
    workdir: pathlib.Path,
    name: str,
    config: dict,
    figures: dict,
    environment: dict,
    command: str = "",
    note: str = "",
    replaced: dict | None = None,
) -> None:
    """Writes the report of a finished training.

    Args:
        workdir: the folder with `log.jsonl`; receives `report.md` and `curves.png`.
        name: of the recipe.
        config: its keys.
        figures: what the recipe's `finish` measured.
        environment: from `environment.describe`, with what else is to be said.
        command: that ran it; "" for none.
        note: one more sentence about the training; "" for none.
        replaced: name of each picture that another stood in for, to the reason.
    """
    log = read_log(workdir / "log.jsonl")
    lines = [f"# {name}", ""]
    if command:
        lines += [f"    {command}", ""]
    if note:
        lines += [note, ""]
    lines += ["## Figures", "", *_table(("figure", "value"), figures.items()), ""]
    if log:
        draw_curves(log, workdir / "curves.png")
        lines += ["## Curves", "", "![curves](curves.png)", "", *_summary(log), ""]
    if replaced:
        lines += ["## Replaced pictures", ""]
        lines += [f"{len(replaced)} could not be used; the next ones stood in.", ""]
        listed = sorted(replaced.items())[:MOST_REPLACED]
        lines += [*_table(("picture", "reason"), listed), ""]
        if len(replaced) > len(listed):
            lines += [f"And {len(replaced) - len(listed)} more in replaced.json.", ""]
    lines += ["## Environment", "", *_table(("", ""), environment.items()), ""]
    flat = sorted(_flat(config).items())
    lines += ["## Config", "", *_table(("key", "value"), flat)]
    (workdir / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_curves(log: list[dict], path: pathlib.Path) -> None:
    """Draws the loss, every metric and the learning rate against finished epochs.

    Training and validation share a panel. A panel is logarithmic where its values are
    above 0 and span more than a factor of 20.

    Args:
        log: a dict per epoch, from `read_log`.
        path: of the PNG.
    """
    names = [k for k in log[0] if k not in ("epoch", "seconds", "learning_rate")]
    panels = dict.fromkeys(name.removeprefix(VALIDATION) for name in names)
    panels = [*panels, *(["learning_rate"] if "learning_rate" in log[0] else [])]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = matplotlib.figure.Figure(
        figsize=(4.5 * columns, 3.2 * rows), layout="constrained"
    )
    matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, panels, strict=False):
        _draw(axis, log, name)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def _draw(axis, log, name):
    """Draws one quantity, for training and validation."""
    values = []
    for key, label in ((name, "training"), (VALIDATION + name, "validation")):
        points = [(line["epoch"] + 1, line[key]) for line in log if key in line]
        values += [value for _, value in points if math.isfinite(value)]
        if points:
            # A curve of one point has no line.
            marker = "o" if len(points) < 20 else None
            axis.plot(*zip(*points, strict=True), marker=marker, ms=3, label=label)
    if len(axis.lines) > 1:
        axis.legend(frameon=False)
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axis.set_yscale("log")
    axis.set_title(name.replace("_", " "))
    axis.set_xlabel("epochs done")
    axis.xaxis.set_major_locator(
        matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1)
    )
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _summary(log):
    """Tables the first, lowest, highest and last value of every metric."""
    rows = []
    for name in log[0]:
        values = [(line[name], line["epoch"] + 1) for line in log if name in line]
        values = [(v, epoch) for v, epoch in values if math.isfinite(v)]
        if name in ("epoch", "seconds", "learning_rate") or not values:
            continue
        low, high = min(values), max(values)
        rows.append(
            (
                name,
                f"{values[0][0]:g}",
                f"{low[0]:g} (epoch {low[1]})",
                f"{high[0]:g} (epoch {high[1]})",
                f"{values[-1][0]:g}",
            )
        )
    return _table(("", "first", "lowest", "highest", "last"), rows)


def _table(head, rows):
    """Gives the lines of a Markdown table."""

    def line(cells):
        cells = (" ".join(str(c).split()).replace("|", "\\|") for c in cells)
        return f"| {' | '.join(cells)} |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]


def _flat(config, prefix=""):
    """Gives the dotted names and the values of a config."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
