"""What an answer rests on: maps of a model of two dates, drawn over its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.report.figures import Theme, heading, wrapped, write_figure


@dataclass(frozen=True)
class Rested:
    """An answer, both dates, and maps of what it rests on.

    Attributes:
        images: before and after.
        maps: name -> [G, G], not negative; drawn over the first date where the name says "before".
        text: the answer.
    """

    images: Sequence[Image.Image]
    maps: Mapping[str, np.ndarray]
    text: str


def map_sheet(rows: Sequence[Rested], path: Path, *, title: str = "") -> Path:
    """One row per answer: both dates, then one overlay per map, then the answer.

    Brightness means the same in all rows of a column: 0 to the largest value of the map there.

    Args:
        rows: the answers, all with the same maps.
        path: the picture, ending in `.png`.
        title: above the sheet.
    """
    names = list(rows[0].maps)
    tops = {name: max(float(row.maps[name].max()) for row in rows) or 1.0 for name in names}
    cell, text = 1.35, 3.4
    columns = ["before", "after", *(name.replace("_", " ") for name in names)]
    width, height = cell * len(columns) + text + 0.3, 0.75 + (cell + 0.12) * len(rows)

    def draw(figure: Any, theme: Theme) -> None:
        heading(figure, theme, title, height)
        for place, name in enumerate(columns):
            left, top = (0.1 + cell * place) / width, (height - 0.62) / height
            figure.text(left, top, name, fontsize=7.5, color=theme.quiet)
        for number, row in enumerate(rows):
            low = height - 0.75 - (cell + 0.12) * number - cell + 0.06
            for place, name in enumerate(columns):
                size = (cell - 0.06) / width, (cell - 0.06) / height
                axes = figure.add_axes(((0.1 + cell * place) / width, low / height, *size))
                axes.set_axis_off()
                if place < 2:
                    axes.imshow(row.images[place])
                    continue
                under = row.images[0 if "before" in name else 1]
                wide, high = under.size
                axes.imshow(np.asarray(under.convert("L")), cmap="gray", vmin=0, vmax=255)
                axes.imshow(
                    row.maps[names[place - 2]],
                    cmap="inferno",
                    vmin=0,
                    vmax=tops[names[place - 2]],
                    alpha=0.6,
                    interpolation="bilinear",
                    extent=(-0.5, wide - 0.5, high - 0.5, -0.5),
                )
            said = "\n".join(wrapped(row.text or "(empty)", 48, 6))
            left = (0.25 + cell * len(columns)) / width
            high_up = (low + cell - 0.15) / height
            figure.text(left, high_up, said, va="top", fontsize=8.5, color=theme.first)

    return write_figure(path, (width, height), draw)
