"""Questions and answers from a mask of change, by rule; the rules and their thresholds are ours.

ChangeChat's authors made such instructions from LEVIR-MCI's masks and did not publish how. Here a
region is an 8-connected component of more than `LEAST` pixels; smaller ones are specks and count
for nothing. A pair has changed if it has a region. A cell of the 3 x 3 grid is named if more than
`LEAST` pixels of regions lie in it. Questions and the forms of the answers are ChangeChat's, so
that its metrics read them. A mask does not tell what a region was before: `building` calls each
"new", which holds for most of LEVIR-CD and not for all; `region` says no more than the mask does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rsvlm.data.datasets.changechat import PROMPTS, REGIONS
from rsvlm.data.sample import Turn
from rsvlm.errors import UserError, near

#: A component of so many pixels or fewer is a speck.
LEAST = 5
CELLS = tuple(
    f"{row}-{column}"
    for row in ("top", "center", "bottom")
    for column in ("left", "center", "right")
)


def regions(mask: np.ndarray, least: int = LEAST) -> np.ndarray:
    """Number of the region of each pixel, [H, W] int32; 0 where there is none.

    Args:
        mask: [H, W], not 0 where something changed.
        least: components of so many pixels or fewer are left out.

    Returns:
        Regions are numbered from 1 in the order in which a row-wise scan meets them.
    """
    edges = np.diff(np.pad((mask != 0).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    # A run of changed pixels in a row: row, first column, first column behind it.
    rows, starts = (found.tolist() for found in np.nonzero(edges == 1))
    ends = np.nonzero(edges == -1)[1].tolist()
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    above = 0
    for here in range(len(rows)):
        while rows[above] < rows[here] - 1 or (
            rows[above] == rows[here] - 1 and ends[above] < starts[here]
        ):
            above += 1
        other = above
        # Runs that touch at a corner are one component.
        while other < here and rows[other] == rows[here] - 1 and starts[other] <= ends[here]:
            first, second = sorted((root(other), root(here)))
            parent[second] = first
            other += 1
    sizes: dict[int, int] = {}
    for run in range(len(rows)):
        sizes[root(run)] = sizes.get(root(run), 0) + ends[run] - starts[run]
    kept = [run for run, size in sizes.items() if size > least]
    numbers = {run: number for number, run in enumerate(kept, start=1)}
    out = np.zeros(mask.shape, np.int32)
    for run in range(len(rows)):
        out[rows[run], starts[run] : ends[run]] = numbers.get(root(run), 0)
    return out


def cells(found: np.ndarray, least: int = LEAST) -> list[str]:
    """The cells of a 3 x 3 grid in which regions lie, from the top left row by row.

    Args:
        found: what `regions` gives.
        least: so many pixels or fewer do not make a cell.
    """
    down, across = (
        [round(side * k / 3) for k in range(4)] for side in (found.shape[0], found.shape[1])
    )
    out = []
    for k, cell in enumerate(CELLS):
        row, column = divmod(k, 3)
        part = found[down[row] : down[row + 1], across[column] : across[column + 1]]
        if np.count_nonzero(part) > least:
            out.append(cell)
    return out


def of_buildings(number: int, places: list[str]) -> tuple[str, str]:
    """Answers on number and places in ChangeChat's form."""
    noun = f"{number} new building{'' if number == 1 else 's'}"
    return f"There are no new roads and {noun}.", f"Roads: [] Buildings: {places}"


def of_regions(number: int, places: list[str]) -> tuple[str, str]:
    """Answers that say nothing of what has changed."""
    if number == 1:
        return "There is 1 changed region.", f"Regions: {places}"
    return f"There are {number} changed regions.", f"Regions: {places}"


#: What a mask is taken to show: the answers' form, and the questions.
THINGS: dict[str, tuple[Callable[[int, list[str]], tuple[str, str]], dict[str, str]]] = {
    "building": (of_buildings, PROMPTS),
    "region": (of_regions, PROMPTS | REGIONS),
}

#: The answer on the number where nothing has changed.
UNCHANGED = {
    "building": "There are no changes in roads or buildings.",
    "region": "There are no changed regions.",
}


def known_thing(word: str) -> None:
    """Refuses a word that is not in `THINGS`.

    Raises:
        UserError: it is not.
    """
    if word not in THINGS:
        raise UserError(f"data.dataset.instructions={word!r}. {near(word, THINGS)}")


def instructions(mask: np.ndarray, thing: str) -> list[Turn]:
    """Three questions side by side, `binary`, `count` and `location`, with their answers.

    Args:
        mask: [H, W], not 0 where something changed.
        thing: a word of `THINGS`.
    """
    form, asked = THINGS[thing]
    found = regions(mask)
    number = int(found.max(initial=0))
    many, where = form(number, cells(found))
    if not number:
        many, where = UNCHANGED[thing], "No change has occurred."
    said = {"binary": "Yes" if number else "No", "count": many, "location": where}
    turns = []
    for kind, answer in said.items():
        turns.append(Turn("user", asked[kind], (0, 1), kind=kind))
        turns.append(Turn("assistant", answer, kind=kind))
    return turns
