"""From facts to sentences. Every sentence carries the claims that it makes."""

from __future__ import annotations

import re
from typing import NamedTuple

from rsvlm.synthetic import lexicon
from rsvlm.synthetic.facts import Claim, Facts
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.world import Relation, Scene

_SLOT = re.compile(r"\{(\w+)\}")
_RICH = re.compile(r"\{(things|relation|cover|only|more)\}")
_AGREE = re.compile(r"<(s|o):([^|]+)\|([^>]+)>")
_QUIET = frozenset({"ground", "bank", "wall", "basin", "stalls", "driveway", "surf", "rough"})
# what may be said to cover a small part, and which things may be said to cover anything
_SMALL = frozenset({"forest", "water", "pond", "clearing", "island", "lawn", "parking lot", "sand"})
_BROAD = frozenset({"building", "solar panel", "stadium", "tank", "running track", "river"})
# what is spoken of first; all else comes after, trees and traffic last
_SALIENT = (
    "plane", "ship", "boat", "tank", "stadium", "running track", "soccer field", "solar panel",
    "court", "wagon", "bridge", "building", "island", "pond", "clearing", "stream",
    "circular field", "field", "runway", "railway", "highway", "swimming pool", "umbrella",
    "rocks", "sandbank", "bunker", "platform", "path",
)  # fmt: skip
_SALIENCE = {n: k for k, n in enumerate(_SALIENT)} | {"vehicle": 60, "road": 58, "tree": 59}
_VOWELS = tuple("aeiou")
# How much more often the first of `_SALIENT` is spoken of. Captions of one picture must agree on
# what matters, or knowing its class alone would score as well as seeing it (benchmarks/scenes.py).
_FIRST = 2.5


class Caption(NamedTuple):
    """A sentence and what it claims."""

    text: str
    claims: tuple[Claim, ...]


class Phrase(NamedTuple):
    """A noun phrase."""

    text: str
    plural: bool
    claims: tuple[Claim, ...]


class Speaker:
    """Words the facts of one scene; each choice of words comes from its dice."""

    def __init__(self, facts: Facts, dice: Dice) -> None:
        self.facts = facts
        self.dice = dice
        said = [n for n in (*facts.counts, *facts.regions) if n in lexicon.NOUNS]
        hidden = {*_QUIET, *lexicon.SELF.get(facts.scene.label, ())}
        if facts.present("forest"):
            hidden.add("tree")  # a count of trees beside a forest is no true count
        found = [n for n in dict.fromkeys(said) if n not in hidden]
        self.sayable = sorted(found, key=lambda n: _SALIENCE.get(n, 50))
        known = {*lexicon.NOUNS, *lexicon.GROUND_WORDS, "desert"}
        self.relations = [r for r in facts.relations if r.subject in known and r.object in known]

    def noun(self, name: str, plural: bool) -> tuple[str, bool]:
        """Return a word for a name and whether it is plural."""
        label = self.facts.scene.label
        options = lexicon.NOUNS[name]
        if name == "building" and label in lexicon.BUILDINGS:
            options = lexicon.BUILDINGS[label]
        one, many = self.dice.lean(options)
        return (many, True) if plural and many else (one, False)

    def colour(self, name: str, chance: float = 0.95) -> tuple[str, ...]:
        """Return the colours worth saying of a name: one or two, or none."""
        if name in ("tree", "vehicle", "solar panel", "swimming pool", "soccer field"):
            return ()
        colours = self.facts.colour_of(name)
        return colours if 1 <= len(colours) <= 2 and self.dice.chance(chance) else ()

    def counted(self, name: str) -> Phrase:
        """Return `three white planes`, `many trees`, `a pond`."""
        d, n = self.dice, self.facts.number(name)
        colours = self.colour(name)
        adjective = " and ".join(colours) + " " if colours else ""
        word, plural = self.noun(name, n > 1)
        if not plural:
            text = adjective + word
            if any(word == one for one, many in lexicon.NOUNS.get(name, ()) if not many):
                return Phrase(text, False, (Claim("least", (name, colours or None, 1)),))
            article = d.pick(("one", "a single", "a", "a", "a", "a", "a", "a")) if n == 1 else "a"
            if article == "a" and text.startswith(_VOWELS):
                article = "an"
            exact = article in ("one", "a single")
            claim = Claim("count" if exact else "least", (name, colours or None, 1))
            return Phrase(f"{article} {text}", False, (claim,))
        exact_limit = 12 if name not in ("tree", "vehicle", "field", "bunker", "fairway") else 3
        if n <= exact_limit and (n < 4 or d.chance(0.95)):
            claim = Claim("count", (name, colours or None, n))
            return Phrase(f"{lexicon.NUMBERS[n]} {adjective}{word}", True, (claim,))
        fitting = [(w, low) for w, low, high in lexicon.AMOUNTS if low <= n <= high]
        amount, low = d.lean(fitting[::-1]) if fitting else ("some", 2)  # the narrowest first
        claim = Claim("least", (name, colours or None, low))
        return Phrase(f"{amount} {adjective}{word}", True, (claim,))

    def named(self, name: str, plural: bool | None = None) -> Phrase:
        """Return `the red houses` or a counted phrase, for use in a relation."""
        if name in lexicon.GROUND_WORDS:
            return Phrase(self.dice.lean(lexicon.GROUND_WORDS[name]), False, ())
        if name == "desert":
            return Phrase("the desert", False, ())
        if plural is None and self.dice.chance(0.5 if self.facts.number(name) > 1 else 0.3):
            return self.counted(name)
        many = self.facts.number(name) > 1 if plural is None else plural
        word, is_plural = self.noun(name, many)
        colours = self.colour(name, 0.5)
        adjective = " and ".join(colours) + " " if colours else ""
        claims = (Claim("colour", (name, colours)),) if colours else ()
        return Phrase(f"the {adjective}{word}", is_plural, claims)

    def subject(self, relation: Relation) -> Phrase:
        """Return a phrase for as many of the subjects as the relation speaks of."""
        name = relation.subject
        if relation.part == "all" or self.facts.number(name) < 2:
            return self.named(name)
        word, plural = self.noun(name, relation.part == "some")
        if plural:
            return Phrase(
                f"{self.dice.pick(('some', 'some of the', 'a group of'))} {word}", True, ()
            )
        return Phrase(f"{'an' if word.startswith(_VOWELS) else 'a'} {word}", False, ())

    def relation(self, relation: Relation) -> Caption:
        """Word one spatial fact."""
        claim = Claim("relation", tuple(relation))
        if relation.subject == relation.object:  # the highways of an interchange
            one, _ = self.noun(relation.subject, False)
            verb = self.dice.pick(("passes over", "crosses above", "is carried over"))
            article = "an" if one.startswith(_VOWELS) else "one"
            return Caption(f"{article} {one} {verb} another".replace("an e", "one e"), (claim,))
        subject = self.subject(relation)
        several = self.facts.number(relation.object) > 1
        other = self.named(relation.object, True if several else None)
        pattern = self.dice.lean(lexicon.RELATIONS[relation.relation])

        def agree(match: re.Match[str]) -> str:
            plural = subject.plural if match[1] == "s" else other.plural
            return match[3] if plural else match[2]

        text = _AGREE.sub(agree, pattern)
        text = re.sub(r"\b[SO]\b", lambda m: subject.text if m[0] == "S" else other.text, text)
        return Caption(text, (claim, *subject.claims, *other.claims))

    def cover(self) -> Caption | None:
        """Word how much of the picture something covers."""
        options = [
            (name, word, low, high)
            for name, share in sorted(self.facts.cover.items(), key=lambda item: -item[1])
            for word, low, high in lexicon.COVERS
            if low <= share <= high and name not in _QUIET and name in lexicon.NOUNS
            if high > 0.2 or name in _SMALL
            if name not in self.facts.counts or name in _BROAD
        ]
        if not options:
            return None
        name, word, low, high = self.dice.lean(options)
        noun, plural = self.noun(name, self.facts.number(name) > 1)
        if not plural and any(many for one, many in lexicon.NOUNS[name] if one == noun):
            noun = "the " + noun
        picture = self.dice.lean(("picture", "image", "scene", "view"))
        verb = self.dice.lean(
            ("covers|cover", "fills|fill", "takes up|take up", "makes up|make up")
        )
        one, many = verb.split("|")
        text = f"{noun} {many if plural else one} {word} of the {picture}"
        return Caption(text, (Claim("cover", (name, low, high)),))

    def single(self) -> tuple[str, str, Claim] | None:
        """Return a noun phrase for a thing alone in its kind (and colour), and its place."""
        options = []
        own = lexicon.SELF.get(self.facts.scene.label, ())
        for kind, colours in self.facts.colours.items():
            total = sum(colours.values())
            if kind in ("tree", "vehicle", "container", "umbrella", *own):
                continue
            for colour, n in colours.items():
                if n == 1 and (total == 1 or total <= 12):
                    options.append((kind, colour, total))
        if not options:
            return None
        kind, colour, total = self.dice.lean(options)
        thing = next(t for t in self.facts.scene.of(kind) if t.colour == colour)
        word, _ = self.noun(kind, False)
        say = total > 1 or (self.dice.chance(0.6) and bool(self.colour(kind, 1.0)))
        text = f"{colour} {word}" if say else word
        article = "one" if self.dice.chance(0.2) else "an" if text.startswith(_VOWELS) else "a"
        cell = self.facts.cell(thing)
        claim = Claim("place", (kind, colour if say else None, cell))
        return f"{article} {text}", self.dice.lean(lexicon.PLACES[cell]), claim

    def fill(self, plan: str) -> Caption | None:
        """Fill the slots of a plan; None if the scene has no fact for one of them."""
        d, facts, scene = self.dice, self.facts, self.facts.scene
        slots = set(_SLOT.findall(plan))
        words = {"are": "are", "in": "at" if scene.label in lexicon.AT else "in"}
        claims: list[Claim] = []
        if "scene" in slots:
            words["scene"] = d.lean(lexicon.CLASS_WORDS[scene.label])
            claims.append(Claim("class", (scene.label,)))
        if "things" in slots:
            wanted = sum(slot in slots for slot in ("things", "things2", "things3"))
            if len(self.sayable) < wanted:
                return None
            left = list(self.sayable)
            chosen: list[str] = []
            for _ in range(wanted):
                chosen.append(d.lean(left, _FIRST))
                left.remove(chosen[-1])
            for slot, name in zip(("things", "things2", "things3"), chosen, strict=False):
                phrase = self.counted(name)
                words[slot] = phrase.text
                claims += phrase.claims
                if slot == "things":
                    words["is"] = "are" if phrase.plural else "is"
        if "relation" in slots:
            if not self.relations:
                return None
            sentence = self.relation(d.lean(self.relations))
            words["relation"] = sentence.text
            claims += sentence.claims
        if "cover" in slots:
            cover = self.cover()
            if cover is None:
                return None
            words["cover"] = cover.text
            claims += cover.claims
        if "only" in slots:
            single = self.single()
            if single is None:
                return None
            words["only"], words["place"] = single[0], single[1]
            words["is_only"] = "is"
            claims.append(single[2])
        if "ground" in slots:
            claim = Claim("ground", (scene.ground,))
            if not facts.holds(claim):
                return None
            words["ground"] = d.lean(lexicon.GROUND_WORDS[scene.ground])
            claims.append(claim)
        if "more" in slots:
            some = [n for n in self.sayable if facts.counts[n] > 1]
            pairs = [(a, b) for a in some for b in some if facts.counts[a] > 1.5 * facts.counts[b]]
            if not pairs:
                return None
            a, b = d.lean(pairs)
            words["more"], words["less"] = self.noun(a, True)[0], self.noun(b, True)[0]
            claims.append(Claim("more", (a, b)))
        if slots & {"absent", "absent1"}:
            usual = ("tree", "vehicle", "building", "road", "boat", "plane", "pond", "path")
            missing = [n for n in usual if facts.absent(n)]
            if not missing:
                return None
            name = d.pick(missing)
            words["absent"], words["absent1"] = lexicon.NOUNS[name][0][1], lexicon.NOUNS[name][0][0]
            claims.append(Claim("absent", (name,)))
        text = _SLOT.sub(lambda m: words[m[1]], plan)
        return Caption(sentence_case(text), tuple(claims))


def sentence_case(text: str) -> str:
    """Capitalise each sentence and close the last."""
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". ")) + "."


def captions(scene: Scene, count: int = 5, *, held_out: bool = False) -> list[Caption]:
    """Return different captions of a scene.

    Args:
        scene: what to describe.
        count: how many.
        held_out: use the wordings that training never sees.
    """
    dice = stream(scene.seed, scene.number, 201 + held_out)
    speaker = Speaker(Facts(scene), dice)
    plans = lexicon.HELD_OUT_PLANS if held_out else lexicon.PLANS
    out: list[Caption] = []
    seen: set[str] = set()
    weak = 0
    for patience in (1, 1, count):
        for plan in dice.some(plans, len(plans)):
            thin = not _RICH.search(plan)
            if thin and weak >= patience:
                continue
            sentence = speaker.fill(plan)
            if sentence is not None and sentence.text not in seen:
                weak += thin
                seen.add(sentence.text)
                out.append(sentence)
                if len(out) == count:
                    return out
    while len(out) < count:  # a bare scene has few facts: words repeat before lies begin
        out.append(out[len(out) % max(1, len(seen))])
    return out


def description(scene: Scene) -> Caption:
    """Return a dense description: the class, the ground, every fact once, what stands where."""
    dice = stream(scene.seed, scene.number, 204)
    speaker = Speaker(Facts(scene), dice)
    opening = dice.pick(("this is an aerial picture of {scene}", "the picture shows {scene}"))
    parts = [speaker.fill(opening)]
    parts.append(speaker.fill(dice.pick(("the ground is {ground}", "the open land is {ground}"))))
    parts.append(speaker.fill("{cover}"))
    for relation in dice.some(speaker.relations, 4):
        said = speaker.relation(relation)
        parts.append(Caption(sentence_case(said.text), said.claims))
    for name in dice.some(speaker.sayable, 6):
        phrase = speaker.counted(name)
        verb = "are" if phrase.plural else "is"
        pattern = dice.pick(("there {verb} {text}", "one sees {text}", "{text} {verb} visible"))
        text = sentence_case(pattern.format(verb=verb, text=phrase.text))
        parts.append(Caption(text, phrase.claims))
    parts.append(speaker.fill("{only} {is_only} {place}"))
    said_parts = [part for part in parts if part is not None]
    return Caption(
        " ".join(part.text for part in said_parts),
        tuple(claim for part in said_parts for claim in part.claims),
    )
