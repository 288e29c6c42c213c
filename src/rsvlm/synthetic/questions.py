"""Questions about one scene, of the kinds of RSVQA and a few more, with their true answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rsvlm.synthetic import lexicon
from rsvlm.synthetic.facts import Claim, Facts
from rsvlm.synthetic.geometry import Point, Polygon, disc, rectangle, stream
from rsvlm.synthetic.world import Scene

KINDS: tuple[str, ...] = (
    "presence", "count", "comp", "area", "rural_urban", "scene", "colour", "place",
)  # fmt: skip
"""The first five are RSVQA's."""

_RURAL = frozenset({"desert", "farmland", "forest", "river", "lake", "sparse residential area"})
_URBAN = frozenset(
    {"commercial area", "dense residential area", "industrial area", "parking lot", "stadium"}
)
_ASKED = (
    "building", "tree", "vehicle", "plane", "ship", "boat", "tank", "court", "road", "path", "pond",
    "swimming pool", "container", "bridge", "runway", "pier", "solar panel", "soccer field",
)  # fmt: skip
_AREAS = ("building", "tank", "court", "solar panel", "swimming pool")

ASK: dict[str, tuple[str, ...]] = {
    "presence": ("is there {one}?", "can {one} be seen?", "does the picture show {one}?"),
    "count": (
        "how many {many} are there?",
        "what is the number of {many}?",
        "how many {many} can you count?",
    ),
    "comp": ("are there more {many} than {others}?", "do {many} outnumber {others}?"),
    "equal": ("are there as many {many} as {others}?",),
    "area": ("what is the area covered by {many}?", "how much ground do {many} cover?"),
    "rural_urban": ("is it a rural or an urban area?", "is this place rural or urban?"),
    "scene": ("what kind of place is this?", "which scene does the picture show?"),
    "colour": ("what colour are the {many}?", "which colour do the {many} have?"),
    "colour_one": ("what colour is the {one_word}?", "which colour does the {one_word} have?"),
    "place": ("where is the {one_word}?", "in which part of the picture is the {one_word}?"),
}

ASK_HELD_OUT: dict[str, tuple[str, ...]] = {
    "presence": ("do you notice {one} anywhere?",),
    "count": ("tell me the count of {many}.",),
    "comp": ("is the number of {many} greater than that of {others}?",),
    "equal": ("is the number of {many} the same as that of {others}?",),
    "area": ("how large is the surface taken by {many}?",),
    "rural_urban": ("would you call this area rural or urban?",),
    "scene": ("name the type of scene.",),
    "colour": ("tell me the colour of the {many}.",),
    "colour_one": ("tell me the colour of the {one_word}.",),
    "place": ("locate the {one_word} roughly.",),
}
"""Wordings that only evaluation uses."""


class Question(NamedTuple):
    """A question, its answer, its kind and what the pair claims.

    `negated` says that the answer denies the claims.
    """

    text: str
    answer: str
    kind: str
    claims: tuple[Claim, ...]
    negated: bool = False


def area(scene: Scene, kind: str) -> float:
    """Return the ground that all things of a kind cover within the picture, square metres."""
    total = 0.0
    for thing in scene.of(kind):
        if kind == "tank":
            outline = disc(thing.x, thing.y, thing.length / 2, 32)
        else:
            outline = rectangle(thing.x, thing.y, thing.length, thing.width, thing.turn)
        total += _surface(_clip(outline, scene.extent))
    return total


def _clip(outline: Polygon, extent: float) -> Polygon:
    """Cut a convex outline to the picture (Sutherland-Hodgman)."""
    for axis, limit, sign in ((0, 0.0, 1), (0, extent, -1), (1, 0.0, 1), (1, extent, -1)):
        out: Polygon = []
        for a, b in zip(outline, outline[1:] + outline[:1], strict=True):
            da, db = sign * (a[axis] - limit), sign * (b[axis] - limit)
            if da >= 0:
                out.append(a)
            if da * db < 0:
                t = da / (da - db)
                out.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
        outline = out
    return outline


def _surface(outline: list[Point]) -> float:
    pairs = zip(outline, outline[1:] + outline[:1], strict=True)
    return abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairs)) / 2


def questions(scene: Scene, *, held_out: bool = False) -> list[Question]:
    """Return one question of each kind that fits the scene, in the order of `KINDS`.

    Args:
        scene: what to ask about.
        held_out: use the wordings that training never sees.
    """
    asker = _Asker(scene, held_out)
    out = []
    for kind in KINDS:
        question = asker.of(kind)
        if question is not None:
            out.append(question)
    return out


class _Asker:
    def __init__(self, scene: Scene, held_out: bool) -> None:
        self.scene = scene
        self.facts = Facts(scene)
        self.dice = stream(scene.seed, scene.number, 203 + held_out)
        self.ask = ASK_HELD_OUT if held_out else ASK

    def of(self, kind: str) -> Question | None:
        """Ask a question of one of `KINDS`; None where the scene has no fact for it."""
        ask: dict[str, Callable[[], Question | None]] = {
            "presence": self.presence,
            "count": self.count,
            "comp": self.comp,
            "area": self.area,
            "rural_urban": self.rural_urban,
            "scene": self.kind,
            "colour": self.colour,
            "place": self.place,
        }
        return ask[kind]()

    def text(self, kind: str, **words: str) -> str:
        sentence = self.dice.pick(self.ask[kind]).format(**words)
        return sentence[:1].upper() + sentence[1:]

    def word(self, name: str) -> tuple[str, str]:
        options = lexicon.NOUNS[name]
        if name == "building" and self.dice.chance(0.5):
            options = lexicon.BUILDINGS.get(self.scene.label, options)
        return self.dice.pick(options)

    def presence(self) -> Question | None:
        there = self.dice.chance(0.5)
        some = [
            n for n in _ASKED if (self.facts.present(n) if there else self.facts.absent(n))
        ]  # fmt: skip
        if not some:
            return None
        name = self.dice.pick(some)
        one = lexicon.NOUNS[name][0][0]
        article = "an" if one[0] in "aeiou" else "a"
        claim = Claim("least", (name, None, 1)) if there else Claim("absent", (name,))
        text = self.text("presence", one=f"{article} {one}")
        return Question(text, "yes" if there else "no", "presence", (claim,))

    def count(self) -> Question | None:
        facts = self.facts
        wooded = facts.present("forest")
        some = [n for n in _ASKED if facts.present(n) and not (n == "tree" and wooded)]
        if self.dice.chance(0.15) or not some:
            some = [n for n in _ASKED if facts.absent(n)]
        name = self.dice.pick(some)
        number = facts.number(name)
        claim = Claim("count", (name, None, number))
        return Question(self.text("count", many=self.word(name)[1]), str(number), "count", (claim,))

    def comp(self) -> Question | None:
        facts, d = self.facts, self.dice
        wooded = facts.present("forest")
        some = [n for n in _ASKED if facts.present(n) and not (n == "tree" and wooded)]
        some += [n for n in _ASKED if facts.absent(n)][:2]
        if len(some) < 2:
            return None
        a, b = d.some(some, 2)
        many, others = lexicon.NOUNS[a][0][1], lexicon.NOUNS[b][0][1]
        first, second = facts.number(a), facts.number(b)
        if not first and not second:
            return None
        if d.chance(0.2):
            text = self.text("equal", many=many, others=others)
            claim = Claim("count", (a, None, second))
            return Question(text, _yes(first == second), "comp", (claim,), first != second)
        text = self.text("comp", many=many, others=others)
        claim = Claim("more", (a, b))
        return Question(text, _yes(first > second), "comp", (claim,), first <= second)

    def area(self) -> Question | None:
        some = [n for n in _AREAS if self.scene.of(n)]
        if not some or self.dice.chance(0.1):
            some = [n for n in _AREAS if self.facts.absent(n)]
        if not some:
            return None
        name = self.dice.pick(some)
        answer = f"{math.floor(area(self.scene, name) + 0.5)}m2"
        return Question(self.text("area", many=self.word(name)[1]), answer, "area", ())

    def rural_urban(self) -> Question | None:
        label = self.scene.label
        if label not in _RURAL | _URBAN:
            return None
        answer = "rural" if label in _RURAL else "urban"
        return Question(
            self.text("rural_urban"), answer, "rural_urban", (Claim("class", (label,)),)
        )

    def kind(self) -> Question:
        claim = Claim("class", (self.scene.label,))
        return Question(self.text("scene"), self.scene.label, "scene", (claim,))

    def colour(self) -> Question | None:
        some = [
            (name, colours)
            for name in ("building", "tank", "plane", "ship", "court", "running track", "wagon")
            if len(colours := self.facts.colour_of(name)) == 1
        ]
        if not some:
            return None
        name, colours = self.dice.pick(some)
        one, many = self.word(name)
        several = self.facts.counts[name] > 1
        text = self.text("colour" if several else "colour_one", many=many, one_word=one)
        return Question(text, colours[0], "colour", (Claim("colour", (name, colours)),))

    def place(self) -> Question | None:
        some = [
            n for n in _ASKED if n not in ("tree", "vehicle") and len(self.scene.of(n)) == 1
        ]  # fmt: skip
        if not some:
            return None
        name = self.dice.pick(some)
        cell = self.facts.cell(self.scene.of(name)[0])
        text = self.text("place", one_word=self.word(name)[0])
        answer = self.dice.pick(lexicon.PLACES[cell])
        return Question(text, answer, "place", (Claim("place", (name, None, cell)),))


def _yes(true: bool) -> str:
    return "yes" if true else "no"
