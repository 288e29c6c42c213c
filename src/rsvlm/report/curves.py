"""Curves of a run's metrics.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsvlm.metrics.metric_definitions import METRICS
from rsvlm.report.figures import Theme, write_figure


def read_log(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of each name in a metrics.csv with the columns step, name, value."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            # The header, and the half row of a run that was killed while writing.
            if len(row) != 3 or not row[0].isdigit():
                continue
            try:
                value = float(row[2])
            except ValueError:
                continue
            if math.isinf(value):
                value = math.nan
            steps, values = found.setdefault(row[1], ([], []))
            steps.append(int(row[0]))
            values.append(value)
    return found


HEADLINES = ("mean_recall", "i2t_mean_recall", "t2i_mean_recall", "top1", "rmi")


def loss_curves(log: Path, path: Path) -> Path | None:
    """Loss, the headline validation metrics, and the other values of the loop.

    Args:
        log: metrics.csv.
        path: the picture, ending in `.png`.

    Returns:
        `path`, or None where the log has no two values of anything to draw.
    """
    panels = _panels(read_log(log))
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)

    def draw(figure: Any, theme: Theme) -> None:
        for number, (title, lines) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            plain_axes(axes, theme)
            axes.set_title(title, loc="left", fontsize=10, color=theme.ink, pad=8)
            colours = (theme.first, theme.second, theme.good, theme.quiet)
            for (name, steps, values, noisy), colour in zip(lines, colours, strict=False):
                label = name if len(lines) > 1 else None
                if noisy and len(values) >= 20:
                    axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
                    values = _smooth(values)
                marks = {"marker": "o", "markersize": 3} if len(values) < 20 else {}
                axes.plot(steps, values, color=colour, linewidth=1.8, label=label, **marks)
                last = max((i for i, v in enumerate(values) if math.isfinite(v)), default=None)
                if last is not None:
                    axes.annotate(
                        f"{values[last]:.4g}",
                        (steps[last], values[last]),
                        xytext=(5, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=8,
                        color=colour,
                    )
            axes.margins(x=0.09)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_xlabel("step", fontsize=8, color=theme.quiet)
            if len(lines) > 1:
                axes.legend(frameon=False, fontsize=8, labelcolor=theme.ink)

    return write_figure(path, (4.6 * columns, 2.7 * rows), draw)


Line = tuple[str, list[int], list[float], bool]


def _panels(log: dict[str, tuple[list[int], list[float]]]) -> list[tuple[str, list[Line]]]:
    """Titles and lines, in the order in which a reader looks at them."""
    long = {name: held for name, held in log.items() if len(held[0]) > 1}

    def line(name: str, label: str, *, noisy: bool = False) -> Line:
        return label, *long[name], noisy

    panels: list[tuple[str, list[Line]]] = []
    losses = [name for name in ("train/loss", "val/loss") if name in long]
    if losses:
        lines = [line(name, name.split("/")[0], noisy=name == "train/loss") for name in losses]
        panels.append(("loss", lines))
    groups: dict[str, list[Line]] = {}
    for name in long:
        parts = name.split("/")
        if len(parts) == 4 and parts[0] == "val" and parts[3] in HEADLINES:
            group = groups.setdefault(f"{parts[1]} {parts[0]}, {parts[2]}", [])
            group.append(line(name, parts[3].replace("_", " ")))
    for title, lines in groups.items():
        word = lines[0][0]
        unit = METRICS[word.replace(" ", "_")].unit
        end = f" ({unit})" if unit else ""
        panels.append((f"{title}: {word if len(lines) == 1 else 'metrics'}{end}", lines))
    for name in sorted(long):
        if name.startswith("train/") and name not in ("train/loss", "train/contrastive"):
            word = name.removeprefix("train/")
            noisy = word not in ("lr", "logit_scale")
            panels.append((word.replace("_", " "), [line(name, word, noisy=noisy)]))
    return panels


def _smooth(values: Sequence[float]) -> list[float]:
    """Centred mean over a twentieth of the line, so that it does not lag; cut at the ends."""
    half = max(len(values) // 40, 1)
    out = []
    for i in range(len(values)):
        near = [v for v in values[max(i - half, 0) : i + half + 1] if math.isfinite(v)]
        out.append(sum(near) / len(near) if near else math.nan)
    return out


def plain_axes(axes: Any, theme: Theme) -> None:
    """Axes with horizontal lines and a base, and no other edges."""
    axes.set_facecolor(theme.page)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, edge in axes.spines.items():
        edge.set_visible(side == "bottom")
        edge.set_color(theme.grid)
    axes.tick_params(colors=theme.quiet, labelsize=8, length=0)
