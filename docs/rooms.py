"""The rooms of src/rsvlm by floor, and the picture of what imports what.

    make rooms         # draws docs/rooms.svg and writes docs/rooms.json, from the imports

`FLOORS` is the plan of the house: a room imports rooms on lower floors alone, none on its own, and
a new room is added here first. tests/test_walls.py holds the files against it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "rsvlm"
JSON, SVG = ROOT / "docs" / "rooms.json", ROOT / "docs" / "rooms.svg"

#: From the ground up.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "files"),
    ("config", "clients", "data", "nn", "checkpoints"),
    ("encoders", "losses", "metrics", "retrieval", "synthetic"),
    ("models", "report"),
    ("evaluation", "inference", "export"),
    ("lit", "geo", "serve", "curate"),
    ("app",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
#: The package's own door, `import rsvlm` and `python -m rsvlm`, which opens on every floor.
DOOR = ("__init__", "__main__")


def room_of(path: Path) -> str:
    """The room of a file of the package: its first folder, or its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> tuple[tuple[str, int], ...]:
    """(module, line) of each import of a file, those in functions and for types alone too."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    package = ("rsvlm", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` names a file of the same folder, `from .. import x` the one above.
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *(node.module or "").split("."))).rstrip(".")
            if module == "rsvlm":
                yield from ((f"rsvlm.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def arrows() -> dict[str, list[str]]:
    """Each room and the other rooms that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path)
        if room in DOOR:
            continue
        others = {name.split(".")[1] for name, _ in imported(path) if name.startswith("rsvlm.")}
        found.setdefault(room, set()).update((others & FLOOR.keys()) - {room})
    return {room: sorted(others) for room, others in sorted(found.items())}


def direct(found: dict[str, list[str]]) -> list[tuple[str, str]]:
    """The arrows that follow from no others: where a → b → c are drawn, a → c is not."""

    def reach(room: str) -> set[str]:
        return {room}.union(*(reach(other) for other in found.get(room, ())))

    return [
        (room, other)
        for room, others in found.items()
        for other in others
        if not any(other in reach(step) for step in others if step != other)
    ]


def picture() -> dict[str, Any]:
    """What the picture shows, for docs/rooms.json and the test that holds it."""
    found = arrows()
    floors = [[room for room in rooms if room in found] for rooms in FLOORS]
    return {"floors": floors, "imports": found}


def draw(table: dict[str, Any]) -> None:
    """Writes docs/rooms.svg."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    # The same file for the same table.
    matplotlib.rcParams["svg.hashsalt"] = "rsvlm"
    figure = Figure(figsize=(8.4, 7.4), facecolor="white")
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0.4, len(table["floors"]) + 0.6))
    axes.set_axis_off()
    places: dict[str, tuple[float, float]] = {}
    for y, rooms in enumerate(table["floors"], 1):
        axes.axhspan(y - 0.5, y + 0.5, color="#f3f4f6" if y % 2 else "#ffffff", lw=0)
        axes.text(0.25, y, str(y), color="#6b7280", va="center", ha="center", fontsize=9)
        for i, room in enumerate(rooms):
            # Every second floor stands half a room aside, so that arrows pass between boxes.
            shift = (0.18 if y % 2 else -0.18) if len(rooms) > 1 else 0
            places[room] = (0.5 + 9.2 * (i + 0.5) / len(rooms) + shift, y)
    for room, other in direct(table["imports"]):
        (x, y), (u, v) = places[room], places[other]
        bend = 0.0 if y - v == 1 else 0.12 if x <= u else -0.12
        axes.add_patch(
            FancyArrowPatch(
                (x, y - 0.2),
                (u, v + 0.2),
                arrowstyle="-|>",
                mutation_scale=9,
                connectionstyle=f"arc3,rad={bend}",
                color="#64748b",
                lw=0.9,
            )
        )
    for room, (x, y) in places.items():
        wide = 0.14 * len(room) + 0.3
        axes.add_patch(
            FancyBboxPatch(
                (x - wide / 2, y - 0.17),
                wide,
                0.34,
                boxstyle="round,pad=0.03",
                facecolor="#dbeafe",
                edgecolor="#1e40af",
                lw=1,
                zorder=3,
            )
        )
        axes.text(x, y, room, ha="center", va="center", fontsize=10, color="#111827", zorder=4)
    figure.savefig(SVG, metadata={"Date": None})
    # matplotlib leaves blanks at line ends.
    lines = SVG.read_text(encoding="utf-8").splitlines()
    SVG.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def main() -> None:
    """Writes the table and the picture."""
    table = picture()
    JSON.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    draw(table)
    print(f"{SVG} and {JSON}: {sum(map(len, table['imports'].values()))} arrows")


if __name__ == "__main__":
    main()
