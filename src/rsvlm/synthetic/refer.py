"""Referring expressions: phrases that fit exactly one thing, or a stated group."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rsvlm.synthetic import lexicon
from rsvlm.synthetic.facts import CELLS, Facts
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.world import Scene, Thing

_MARGIN = 0.04  # of the picture's side: below that a person could not tell which is further left
_RATIO = 1.3  # of areas or distances, likewise
_MOST = 12  # things of a kind among which one may still be pointed out
_SKIP = frozenset({"tree", "umbrella", "container"})

_EDGES: dict[str, tuple[int, int]] = {
    "leftmost": (0, -1),
    "rightmost": (0, 1),
    "topmost": (1, -1),
    "bottommost": (1, 1),
}
_EDGE_WORDS: dict[str, tuple[str, ...]] = {
    "leftmost": (
        "the leftmost {n}",
        "the {n} furthest to the left",
        "the {n} nearest the left edge",
    ),
    "rightmost": ("the rightmost {n}", "the {n} furthest to the right"),
    "topmost": ("the topmost {n}", "the uppermost {n}", "the {n} furthest up"),
    "bottommost": ("the bottommost {n}", "the lowest {n}", "the {n} furthest down"),
}


class Query(NamedTuple):
    """What a phrase asks for: things of a kind, of a colour, picked out in a way.

    `how` is empty for all of them, an edge of `_EDGES`, `largest`, `smallest`, a cell of
    `facts.CELLS`, or `nearest:<kind>` for the one nearest to the only thing of that kind.
    """

    kind: str
    colour: str | None = None
    how: str = ""


class Reference(NamedTuple):
    """A phrase and the ids of what it means."""

    phrase: str
    ids: tuple[int, ...]
    query: Query


def find(scene: Scene, query: Query) -> tuple[int, ...]:
    """Return the ids that a query means; none if it does not single one out clearly."""
    some = [t for t in scene.of(query.kind) if query.colour in (None, t.colour)]
    if not query.how:
        return tuple(t.id for t in some)
    chosen = _choose(scene, some, query.how)
    return (chosen.id,) if chosen else ()


def _choose(scene: Scene, some: list[Thing], how: str) -> Thing | None:
    if len(some) < 2:
        return None
    if how in CELLS:
        inside = [t for t in some if _in_cell(scene, t, how, -0.02)]
        near = [t for t in some if _in_cell(scene, t, how, _MARGIN)]
        return inside[0] if len(inside) == len(near) == 1 else None
    if how in _EDGES:
        axis, sign = _EDGES[how]
        ranked = sorted(some, key=lambda t: -sign * (t.x, t.y)[axis])
        gap = abs((ranked[0].x, ranked[0].y)[axis] - (ranked[1].x, ranked[1].y)[axis])
        return ranked[0] if gap > _MARGIN * scene.extent else None
    measure: Callable[[Thing], float]
    if how.startswith("nearest:"):
        marks = scene.of(how.removeprefix("nearest:"))
        if len(marks) != 1 or marks[0].kind == some[0].kind:
            return None
        mark = marks[0]

        def measure(thing: Thing) -> float:
            return math.hypot(thing.x - mark.x, thing.y - mark.y) + 1e-6

        ranked = sorted(some, key=measure)
        return ranked[0] if measure(ranked[1]) > _RATIO * measure(ranked[0]) else None

    def size(thing: Thing) -> float:
        return thing.length * thing.width

    ranked = sorted(some, key=size, reverse=how == "largest")
    big, small = sorted((size(ranked[0]), size(ranked[1])), reverse=True)
    return ranked[0] if big > _RATIO * small else None


def _in_cell(scene: Scene, thing: Thing, cell: str, grown: float) -> bool:
    row, column = divmod(CELLS.index(cell), 3)
    x, y = thing.x / scene.extent, thing.y / scene.extent
    return (
        column / 3 - grown <= x < (column + 1) / 3 + grown
        and row / 3 - grown <= y < (row + 1) / 3 + grown
    )


def references(scene: Scene) -> list[Reference]:
    """Return a phrase for each thing that one can be found for, then phrases for groups."""
    dice = stream(scene.seed, scene.number, 205)
    facts = Facts(scene)
    out = []
    for kind, colours in facts.colours.items():
        total = sum(colours.values())
        if kind in _SKIP:
            continue
        if total <= _MOST:
            for thing in scene.of(kind):
                reference = _single(scene, dice, thing, colours)
                if reference is not None:
                    out.append(reference)
    for kind, colours in facts.colours.items():
        if kind in _SKIP or sum(colours.values()) < 2 or kind == "vehicle":
            continue
        _, many = _word(scene, dice, kind)
        number = sum(colours.values())
        whole = dice.pick(("all the {n}", "all {n}", "every one of the {n}", "the {n}"))
        if number <= 10 and dice.chance(0.4):
            whole = f"the {lexicon.NUMBERS[number]} {{n}}"
        query = Query(kind)
        out.append(Reference(whole.format(n=many), find(scene, query), query))
        for colour, n in colours.items():
            if 1 < n < number and kind != "solar panel":
                query = Query(kind, colour)
                phrase = dice.pick(("all {c} {n}", "the {c} {n}")).format(c=colour, n=many)
                out.append(Reference(phrase, find(scene, query), query))
    return out


def _word(scene: Scene, dice: Dice, kind: str) -> tuple[str, str]:
    options = lexicon.NOUNS[kind]
    if kind == "building":
        options = lexicon.BUILDINGS.get(scene.label, options)
    return dice.pick(options)


def _single(scene: Scene, dice: Dice, thing: Thing, colours: dict[str, int]) -> Reference | None:
    """Return a phrase for one thing: the first way that singles it out, in random order."""
    noun, _ = _word(scene, dice, thing.kind)
    if sum(colours.values()) == 1:
        colour = thing.colour if dice.chance(0.4) and thing.kind != "solar panel" else None
        phrase = f"the {colour} {noun}" if colour else f"the {noun}"
        return Reference(phrase, (thing.id,), Query(thing.kind, colour))
    ways = [*_EDGES, "largest", "smallest", *CELLS]
    ways += [f"nearest:{k}" for k in ("building", "tank", "stadium", "court", "soccer field")]
    for how in ["", *dice.some(ways, len(ways))]:
        for colour in (None, thing.colour) if len(colours) > 1 else (None,):
            query = Query(thing.kind, colour, how)
            if find(scene, query) == (thing.id,):
                name = f"{colour} {noun}" if colour else noun
                return Reference(_phrase(scene, dice, name, how), (thing.id,), query)
    return None


def _phrase(scene: Scene, dice: Dice, noun: str, how: str) -> str:
    if not how:
        return f"the {noun}"
    if how in _EDGES:
        return dice.pick(_EDGE_WORDS[how]).format(n=noun)
    if how in CELLS:
        return f"the {noun} {dice.pick(lexicon.PLACES[how])}"
    if how.startswith("nearest:"):
        mark, _ = _word(scene, dice, how.removeprefix("nearest:"))
        return dice.pick(("the {n} nearest to the {m}", "the {n} closest to the {m}")).format(
            n=noun, m=mark
        )
    words = {"largest": ("largest", "biggest"), "smallest": ("smallest", "tiniest")}[how]
    return f"the {dice.pick(words)} {noun}"
