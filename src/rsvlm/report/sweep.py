"""What a sweep over numbers reached: a line for each value of its second word."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.report.curves import plain_axes
from rsvlm.report.figures import Theme, write_figure

#: Panels of the picture.
MOST = 6
Job = tuple[Mapping[str, str], Mapping[str, float]]


def sweep_curves(jobs: Sequence[Job], path: Path) -> Path | None:
    """Metrics over the swept number, one panel each; further words that differ name the lines.

    Args:
        jobs: what each was given (word -> value as typed), and its metrics by name; jobs without
            metrics are left out.
        path: the picture, ending in `.png`.

    Returns:
        `path`, or None where no number was swept or fewer than two of its values were reached.
    """
    done = [(given, found) for given, found in jobs if found]
    words = list(dict.fromkeys(word for given, _ in done for word in given))
    spread = {word: {given.get(word) for given, _ in done} for word in words}
    words = [word for word in words if len(spread[word]) > 1]
    numbers = [w for w in words if all(_number(value) is not None for value in spread[w])]
    if not numbers:
        return None
    across = max(numbers, key=lambda word: len(spread[word]))
    others = [word for word in words if word != across]
    lines: dict[str, list[tuple[float, Mapping[str, float]]]] = {}
    for given, found in done:
        label = " ".join(f"{word.rpartition('.')[2]}={given.get(word)}" for word in others)
        lines.setdefault(label, []).append((_number(given[across]) or 0.0, found))
    names = chosen([found for _, found in done])
    if not names:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)

    def draw(figure: Any, theme: Theme) -> None:
        colours = (theme.first, theme.second, theme.good, theme.quiet, theme.ink)
        for number, name in enumerate(names):
            axes = figure.add_subplot(rows, columns, number + 1)
            plain_axes(axes, theme)
            axes.set_title(name, loc="left", fontsize=8, color=theme.ink, pad=8)
            held = [
                sorted((x, found[name]) for x, found in points if name in found)
                for points in lines.values()
            ]
            for n, (label, colour) in enumerate(zip(lines, itertools.cycle(colours))):
                _line(axes, held[n], held[n + 1 :], label, colour)
            axes.set_xlabel(across, fontsize=8, color=theme.quiet)
            if number == 0 and len(lines) > 1:
                # In a row of its own above the lines, which may lie anywhere.
                low, high = axes.get_ylim()
                axes.set_ylim(low, high + 0.18 * math.ceil(len(lines) / 3) * (high - low))
                axes.legend(
                    loc="upper left", ncols=3, frameon=False, fontsize=8, labelcolor=theme.ink
                )

    return write_figure(path, (4.0 * columns, 2.7 * rows), draw)


def _line(
    axes: Any,
    points: Sequence[tuple[float, float]],
    later: Sequence[Sequence[tuple[float, float]]],
    label: str,
    colour: str,
) -> None:
    """Draws a line, wider where lines that are drawn later lie on it, so that each is seen."""
    width, more = 1.8, 2.8
    x, y = [x for x, _ in points], [y for _, y in points]
    axes.plot(x, y, label=label or None, color=colour, linewidth=width)
    sizes = [(4 + more * sum(one in other for other in later)) ** 2 for one in points]
    axes.scatter(x, y, s=sizes, color=colour, linewidths=0, zorder=2)
    for one, following in itertools.pairwise(points):
        over = sum({one, following} <= set(other) for other in later)
        if over:
            (x0, y0), (x1, y1) = one, following
            axes.plot(
                [x0, x1],
                [y0, y1],
                color=colour,
                linewidth=width + more * over,
                solid_capstyle="round",
            )


def chosen(results: Sequence[Mapping[str, float]]) -> list[str]:
    """The metrics of the panels: those that differ between jobs, each protocol's in turn."""
    groups: dict[str, list[str]] = {}
    for name in differing(results):
        groups.setdefault(name.rpartition("/")[0], []).append(name)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    picked = [name for name in turns if name][:MOST]
    return [name for group in groups.values() for name in group if name in picked]


def differing(results: Sequence[Mapping[str, float]]) -> list[str]:
    """Names whose values differ as a table shows them; all names where there is one job."""
    names = list(dict.fromkeys(name for found in results for name in found))
    if len(results) < 2:
        return names
    return [name for name in names if len({_shown(found.get(name)) for found in results}) > 1]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
