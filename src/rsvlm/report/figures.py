"""The pictures of a report.

Each function writes `<name>.png` for a light page and `<name>.dark.png` for a dark one. Matplotlib
is imported where it draws, and only its Agg canvas, so that no display or global state is touched.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Theme:
    """Colours of one background."""

    page: str
    ink: str
    quiet: str
    grid: str
    first: str
    second: str
    good: str
    ramp: tuple[str, str]


LIGHT = Theme(
    page="#ffffff",
    ink="#1d2530",
    quiet="#66717f",
    grid="#e3e7ec",
    first="#1f6fb2",
    second="#c25a12",
    good="#15803d",
    ramp=("#f6f9fc", "#12518a"),
)
DARK = Theme(
    page="#161b22",
    ink="#e4e8ee",
    quiet="#93a0af",
    grid="#2c343e",
    first="#64aef2",
    second="#f0a05a",
    good="#4ac27e",
    ramp=("#1b222b", "#8cc8ff"),
)
#: The variants of each picture, and what its name ends in.
THEMES = ((LIGHT, ".png"), (DARK, ".dark.png"))


@dataclass(frozen=True)
class Answered:
    """A retrieval query and its best answers.

    Attributes:
        query: a text, or a picture.
        answers: pictures for a text, texts for a picture; best first.
        hits: whether each answer is a right one.
        scores: of the answers.
        rank: place of the best right answer, from 1.
    """

    query: str | Image.Image
    answers: Sequence[str | Image.Image]
    hits: Sequence[bool]
    scores: Sequence[float]
    rank: int


@dataclass(frozen=True)
class Prediction:
    """A classified picture.

    Attributes:
        image: the picture.
        truth: its class.
        told: (class, probability) of the best ones, best first.
    """

    image: Image.Image
    truth: str
    told: Sequence[tuple[str, float]]


def retrieval_sheet(rows: Sequence[Answered], path: Path, *, title: str = "") -> Path:
    """One row per query: text and its five best pictures, or a picture and its five best texts.

    Right answers have a green frame and a tick.

    Args:
        rows: queries of one kind.
        path: the picture, ending in `.png`.
        title: above the sheet.
    """
    if isinstance(rows[0].query, str):
        return _picture_answers(rows, path, title)
    return _text_answers(rows, path, title)


def _picture_answers(rows: Sequence[Answered], path: Path, title: str) -> Path:
    count = max(len(row.answers) for row in rows)
    cell, text = 1.35, 3.3
    width, height = text + cell * count + 0.15, 0.45 + (cell + 0.32) * len(rows)

    def draw(figure: Any, theme: Theme) -> None:
        heading(figure, theme, title, height)
        for number, row in enumerate(rows):
            top = height - 0.45 - (cell + 0.32) * number
            figure.text(
                0.12 / width,
                (top - 0.1) / height,
                "\n".join(wrapped(str(row.query), 40, 5)),
                va="top",
                fontsize=9,
                color=theme.ink,
                linespacing=1.35,
            )
            figure.text(
                0.12 / width,
                (top - cell + 0.12) / height,
                _where(row.rank),
                va="bottom",
                fontsize=8,
                color=theme.good if row.rank <= count else theme.quiet,
            )
            for place, (image, hit, score) in enumerate(
                zip(row.answers, row.hits, row.scores, strict=True)
            ):
                box = ((text + cell * place) / width, (top - cell + 0.08) / height)
                size = ((cell - 0.12) / width, (cell - 0.12) / height)
                axes = figure.add_axes((*box, *size))
                _picture(axes, image, theme, hit)
                label = f"✓ {score:.3f}" if hit else f"{score:.3f}"
                axes.set_xlabel(
                    label, fontsize=8, labelpad=3, color=theme.good if hit else theme.quiet
                )

    return write_figure(path, (width, height), draw)


def _text_answers(rows: Sequence[Answered], path: Path, title: str) -> Path:
    cell, width = 1.75, 9.6
    height = 0.45 + (cell + 0.15) * len(rows)

    def draw(figure: Any, theme: Theme) -> None:
        heading(figure, theme, title, height)
        for number, row in enumerate(rows):
            top = height - 0.45 - (cell + 0.15) * number
            size = ((cell - 0.15) / width, (cell - 0.15) / height)
            axes = figure.add_axes((0.12 / width, (top - cell + 0.1) / height, *size))
            _picture(axes, row.query, theme, None)
            for place, (text, hit, score) in enumerate(
                zip(row.answers, row.hits, row.scores, strict=True)
            ):
                y = (top - 0.14 - 0.29 * place) / height
                colour = theme.good if hit else theme.ink
                figure.text(
                    (cell + 0.12) / width,
                    y,
                    f"{'✓' if hit else ' '}",
                    fontsize=9,
                    color=colour,
                    va="center",
                    weight="bold",
                )
                figure.text(
                    (cell + 0.3) / width,
                    y,
                    f"{score:.3f}",
                    fontsize=8,
                    color=theme.good if hit else theme.quiet,
                    va="center",
                )
                line = wrapped(str(text), 92, 1)[0]
                figure.text((cell + 0.78) / width, y, line, fontsize=9, color=colour, va="center")
            figure.text(
                (cell + 0.3) / width,
                (top - cell + 0.13) / height,
                _where(row.rank),
                fontsize=8,
                va="bottom",
                color=theme.good if row.rank <= len(row.answers) else theme.quiet,
            )

    return write_figure(path, (width, height), draw)


def confusion_matrix(
    matrix: np.ndarray, classes: Sequence[str], path: Path, *, title: str = ""
) -> Path:
    """Shares of each true class (row) predicted as each class (column), in per cent.

    Args:
        matrix: [classes, classes] counts.
        classes: names.
        path: the picture, ending in `.png`.
        title: above the matrix.
    """
    matrix = np.asarray(matrix, np.float64)
    count = len(classes)
    totals = matrix.sum(1)
    shares = np.divide(
        matrix * 100, totals[:, None], out=np.zeros_like(matrix), where=totals[:, None] > 0
    )
    side = max(3.2, 0.27 * count)
    names = [_short(name, 24) for name in classes]
    margin = 0.35 + 0.058 * max(map(len, names))

    def draw(figure: Any, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.add_axes(
            (
                margin / (side + margin + 0.7),
                margin / (side + margin + 0.5),
                side / (side + margin + 0.7),
                side / (side + margin + 0.5),
            )
        )
        ramp = LinearSegmentedColormap.from_list("ramp", theme.ramp)
        axes.imshow(shares, cmap=ramp, vmin=0, vmax=100, aspect="auto")
        small = 7 if count <= 32 else 5
        axes.set_xticks(range(count), names, rotation=90, fontsize=small, color=theme.quiet)
        axes.set_yticks(range(count), names, fontsize=small, color=theme.quiet)
        axes.tick_params(length=0)
        for edge in axes.spines.values():
            edge.set_visible(False)
        axes.set_xticks(np.arange(-0.5, count), minor=True)
        axes.set_yticks(np.arange(-0.5, count), minor=True)
        axes.grid(which="minor", color=theme.page, linewidth=0.8)
        axes.tick_params(which="minor", length=0)
        if count <= 32:
            for y, x in zip(*np.nonzero(shares >= 0.5), strict=True):
                strong = shares[y, x] > 50
                axes.text(
                    x,
                    y,
                    f"{shares[y, x]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=theme.page if strong else theme.ink,
                )
        for y in range(count):
            axes.text(
                count - 0.3,
                y,
                f"n={totals[y]:.0f}",
                va="center",
                fontsize=small - 0.5,
                color=theme.quiet,
            )
        axes.set_title(_literal(title), loc="left", fontsize=10, color=theme.ink, pad=10)
        axes.set_xlabel("predicted", fontsize=8, color=theme.quiet)
        axes.set_ylabel("true", fontsize=8, color=theme.quiet)

    return write_figure(path, (side + margin + 0.7, side + margin + 0.5), draw)


def predictions(rows: Sequence[Prediction], path: Path, *, title: str = "") -> Path:
    """Pictures with the classes they were given; right ones have a green frame and a tick.

    Args:
        rows: the pictures.
        path: the picture, ending in `.png`.
        title: above them.
    """
    columns = min(6, len(rows))
    lines = math.ceil(len(rows) / columns)
    cell, below = 1.6, 0.66
    width, height = cell * columns + 0.2, 0.45 + (cell + below) * lines

    def draw(figure: Any, theme: Theme) -> None:
        heading(figure, theme, title, height)
        for number, row in enumerate(rows):
            y, x = divmod(number, columns)
            left = 0.12 + cell * x
            top = height - 0.45 - (cell + below) * y
            size = ((cell - 0.15) / width, (cell - 0.15) / height)
            axes = figure.add_axes((left / width, (top - cell + 0.15) / height, *size))
            right = row.told[0][0] == row.truth
            _picture(axes, row.image, theme, right)
            truth = f"✓ {row.truth}" if right else f"is {row.truth}"
            figure.text(
                left / width,
                (top - cell + 0.06) / height,
                _short(truth, 26),
                fontsize=8,
                va="top",
                weight="bold",
                color=theme.good if right else theme.ink,
            )
            told = [f"{100 * p:.0f} %  {_short(c, 20)}" for c, p in row.told[:2]]
            figure.text(
                left / width,
                (top - cell - 0.12) / height,
                "\n".join(told),
                fontsize=7.5,
                va="top",
                color=theme.quiet,
                linespacing=1.3,
            )

    return write_figure(path, (width, height), draw)


def write_figure(path: Path, size: tuple[float, float], draw: Callable[[Any, Theme], None]) -> Path:
    """Both variants of a picture; returns the light one's path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    for theme, end in THEMES:
        figure = Figure(figsize=size, dpi=150, facecolor=theme.page)
        FigureCanvasAgg(figure)
        draw(figure, theme)
        if len(figure.axes) > 0 and figure.axes[0].get_subplotspec() is not None:
            figure.tight_layout(pad=1.0, h_pad=1.6, w_pad=1.6)
        figure.savefig(path.with_suffix(end), facecolor=theme.page)
    return path


def _picture(axes: Any, image: Any, theme: Theme, hit: bool | None) -> None:
    """An image with a frame: green for a hit, thin otherwise."""
    axes.imshow(np.asarray(image.convert("RGB").resize((192, 192), Image.Resampling.BICUBIC)))
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_color(theme.good if hit else theme.grid)
        edge.set_linewidth(3.5 if hit else 1.0)


def heading(figure: Any, theme: Theme, title: str, height: float) -> None:
    """A title in the upper left corner of a figure of that height in inches."""
    left = 0.12 / figure.get_figwidth()
    text = _literal(title)
    figure.text(left, 1 - 0.12 / height, text, va="top", fontsize=10, color=theme.ink)


def _where(rank: int) -> str:
    return f"first right answer: place {rank:,}"


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """At most so many lines; the last one ends in an ellipsis where text is left over."""
    found = textwrap.wrap(" ".join(text.split()), width, max_lines=lines, placeholder=" …")
    return [_literal(line) for line in found] or [""]


def _short(text: str, width: int) -> str:
    return _literal(textwrap.shorten(text, width, placeholder="…"))


def _literal(text: str) -> str:
    """Text whose dollars do not start a formula."""
    return text.replace("$", r"\$")
