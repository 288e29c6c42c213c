"""Which experts a model asks for which kind of question, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsvlm.metrics.routing import routing_statistics, routing_table
from rsvlm.report.figures import Theme, write_figure


def routing_sheet(
    routed: Sequence[tuple[str, str, float]], experts: Sequence[str], path: Path
) -> Path | None:
    """A table of shares: kinds of question down, experts across.

    Args:
        routed: kind, expert and weight of each asked expert.
        experts: all of them.
        path: the picture, ending in `.png`.

    Returns:
        `path`, or None where nothing was routed.
    """
    table = routing_table(routed)
    if not table:
        return None
    found = routing_statistics(routed, experts)
    kinds = sorted(table)
    shares = [
        [table[kind].get(expert, 0.0) / sum(table[kind].values()) for expert in experts]
        for kind in kinds
    ]
    told = (
        f"most used expert {found['most']:.0%}, evenness {found['entropy']:.2f}\n"
        f"kind and expert share {found['information']:.2f} bits"
    )
    if found["collapsed"]:
        told = f"COLLAPSED to one expert\n{told}"

    def draw(figure: Any, theme: Theme) -> None:
        axes = figure.add_subplot(1, 1, 1)
        axes.set_facecolor(theme.page)
        for row, line in enumerate(shares):
            for column, share in enumerate(line):
                axes.add_patch(_square(column, row, theme.first, share))
                dark = share > 0.5
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=theme.page if dark else theme.ink,
                )
        axes.set_xlim(0, len(experts))
        axes.set_ylim(len(kinds), 0)
        axes.set_xticks([n + 0.5 for n in range(len(experts))], experts)
        axes.set_yticks([n + 0.5 for n in range(len(kinds))], kinds)
        axes.tick_params(colors=theme.quiet, labelsize=8, length=0)
        for edge in axes.spines.values():
            edge.set_visible(False)
        axes.set_title(told, loc="left", fontsize=9, color=theme.ink, pad=8)

    return write_figure(path, (1.6 + 1.5 * len(experts), 1.3 + 0.45 * len(kinds)), draw)


def _square(column: int, row: int, colour: str, share: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (column + 0.03, row + 0.05), 0.94, 0.9, facecolor=colour, alpha=share, linewidth=0
    )
