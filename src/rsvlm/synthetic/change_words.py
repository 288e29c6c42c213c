"""What is said of two dates: five captions, and ChangeChat's six kinds of instruction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rsvlm.data.sample import Turn
from rsvlm.data.text.no_change import SCENES, SCENES_HELD_OUT
from rsvlm.synthetic import lexicon
from rsvlm.synthetic.caption import Caption, Phrase, sentence_case
from rsvlm.synthetic.dates import Pair
from rsvlm.synthetic.edits import Edit
from rsvlm.synthetic.facts import CELLS, Claim
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.world import SEMANTIC

_INSTEAD: dict[str, tuple[str, ...]] = {
    "field": ("a field", "farmland", "cropland"),
    "circular field": ("a field", "farmland"),
    "forest": ("forest", "woodland", "dense trees"),
    "lawn": ("a lawn", "grass"),
    "bare plot": ("bare land", "an empty plot", "open ground"),
    "dry bed": ("dry ground", "a dry bed"),
    "sand": ("sand", "sandy ground"),
    "dunes": ("sand", "dunes"),
    "yard": ("paved ground", "a yard"),
    "pavement": ("paved ground",),
    "square": ("paved ground",),
    "schoolyard": ("the schoolyard", "paved ground"),
}

BUILT: tuple[str, ...] = (
    "S <have|has> been built P",
    "S <appear|appears> P",
    "S <have|has> appeared on what was I",
    "S now <stand|stands> P",
    "I P is replaced by S",
    "I gives way to S",
    "new on the second date <are|is> S P",
    "S <are|is> added P",
    "S <cover|covers> the former I",
)
GROWN: tuple[str, ...] = (
    "S <have|has> come up P",
    "S <appear|appears> P",
    "I P has turned into S",
    "S <are|is> new P",
    "S now <cover|covers> what was I",
)
REMOVED: tuple[str, ...] = (
    "S P <have|has> been removed",
    "S P <have|has> disappeared",
    "S <are|is> gone P",
    "S P <are|is> replaced by I",
    "S <make|makes> room for I P",
    "S that stood P <are|is> missing later",
)
HELD_OUT_BUILT: tuple[str, ...] = (
    "one finds that S <have|has> emerged P",
    "S, absent before, <occupy|occupies> the land P",
)
HELD_OUT_REMOVED: tuple[str, ...] = (
    "one no longer finds S P",
    "S P <have|has> vanished in the meantime",
)

ASK: dict[str, tuple[str, ...]] = {
    "caption": ("What has changed between the two pictures? Answer briefly.",
                "Describe the changes in one sentence."),
    "binary": ("Has anything changed between these two pictures? Answer yes or no.",
               "Do the two pictures differ on the ground? Answer yes or no."),
    "count": ("How many roads and how many buildings have changed?",
              "Count the changed roads and buildings."),
    "location": ("In which cells of a 3x3 grid have roads and buildings changed?",
                 "Name the cells of the 3x3 grid that hold changed roads and buildings."),
    "follow_count": ("If so, how many roads and how many buildings have changed?",),
    "follow_caption": ("With that in mind, describe the changes in detail.",),
}  # fmt: skip


class Changes(NamedTuple):
    """What the count and location questions ask for, of roads and buildings.

    Attributes:
        roads, buildings: how many have changed.
        road_cells, building_cells: cells of `CELLS` that hold changed pixels of them.
    """

    roads: int
    buildings: int
    road_cells: tuple[str, ...]
    building_cells: tuple[str, ...]


def changes(both: Pair, before: np.ndarray, after: np.ndarray) -> Changes:
    """Sum up the changes of roads and buildings.

    A cell counts when at least 1 in 400 of its pixels has become, or ceased to be, of the class.

    Args:
        both: the pair.
        before: [S, S] semantic map of the first date (`dates.maps`).
        after: the same of the second.
    """
    number = {"road": 0, "building": 0}
    for edit in both.edits:
        if edit.name in number:
            number[edit.name] += edit.count
    cells = {}
    size = before.shape[0]
    edges = [round(size * k / 3) for k in range(4)]
    for name, count in number.items():
        index = SEMANTIC.index(name)
        moved = (before == index) != (after == index)
        found = []
        for k, cell in enumerate(CELLS):
            row, column = divmod(k, 3)
            part = moved[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            if count and part.mean() > 1 / 400:
                found.append(cell)
        cells[name] = tuple(found)
    return Changes(number["road"], number["building"], cells["road"], cells["building"])


def holds(both: Pair, claim: Claim) -> bool:
    """Decide a claim of a change caption: `edit` (act, name, count, cell) or `same` ()."""
    if claim.kind == "same":
        return not both.edits
    return claim.what in {(e.act, e.name, e.count, e.cell) for e in both.edits}


class _Speaker:
    def __init__(self, both: Pair, dice: Dice, held_out: bool) -> None:
        self.both, self.dice, self.held_out = both, dice, held_out

    def phrase(self, edit: Edit) -> Phrase:
        d = self.dice
        options = lexicon.NOUNS[edit.name]
        if edit.name == "building":
            options = lexicon.BUILDINGS.get(self.both.before.label, options)
        one, many = d.pick(options)
        plural = edit.count > 1 and bool(many)
        colour = f"{edit.colour} " if edit.colour and d.chance(0.6) else ""
        new = "new " if edit.act == "built" and d.chance(0.3) else ""
        claim = Claim("edit", (edit.act, edit.name, edit.count, edit.cell))
        if not many:
            patch = d.pick(("a patch of ", "a piece of ", "some "))
            return Phrase(patch + one, False, (claim,))
        if not plural:
            text = new + colour + one
            article = "an" if text[0] in "aeiou" else "a"
            return Phrase(f"{article} {text}", False, (claim,))
        amount = lexicon.NUMBERS[edit.count] if edit.count <= 12 else "many"
        if d.chance(0.25):
            amount = "some" if edit.count < 6 else "several" if edit.count < 10 else "many"
        return Phrase(f"{amount} {new}{colour}{many}", True, (claim,))

    def clause(self, edit: Edit) -> Caption:
        d = self.dice
        grown = edit.name in ("forest", "pond", "field", "lake", "tree")
        plans = REMOVED if edit.act == "removed" else GROWN if grown else BUILT
        if self.held_out:
            plans = HELD_OUT_REMOVED if edit.act == "removed" else HELD_OUT_BUILT
        subject = self.phrase(edit)
        instead = self.instead(edit)
        plan = d.pick([p for p in plans if instead or "I" not in p.split()])
        place = d.pick(lexicon.PLACES[edit.cell])
        words: list[str] = []
        for word in plan.split(" "):
            bare = word.rstrip(",")
            tail = word[len(bare) :]
            if bare == "S":
                bare = subject.text
            elif bare == "P":
                bare = place
            elif bare == "I":
                bare = instead or ""
                if words and words[-1] == "former":
                    bare = bare.removeprefix("a ").removeprefix("an ").removeprefix("the ")
            elif bare.startswith("<"):
                many, one = bare[1:-1].split("|")
                bare = many if subject.plural else one
            words.append(bare + tail)
        text = " ".join(words)
        if edit.trees > 1 and not self.held_out and d.chance(0.3):
            text += d.pick((", and trees were felled for it", ", for which trees had to go"))
        return Caption(text, subject.claims)

    def instead(self, edit: Edit) -> str | None:
        if edit.instead == "ground":
            return self.dice.pick(lexicon.GROUND_WORDS[self.both.before.ground])
        return self.dice.pick(_INSTEAD[edit.instead]) if edit.instead in _INSTEAD else None

    def caption(self, whole: bool) -> Caption:
        d, edits = self.dice, self.both.edits
        if not edits:
            same = d.pick(SCENES_HELD_OUT if self.held_out else SCENES)
            return Caption(sentence_case(same), (Claim("same", ()),))
        some = edits if whole else d.some(edits, d.whole(1, len(edits)))
        clauses = [self.clause(edit) for edit in some]
        glue = d.pick((" and ", ", and ", "; ", " while "))
        text = glue.join(c.text for c in clauses)
        if len(clauses) > 2:
            text = "; ".join(c.text for c in clauses)
        return Caption(sentence_case(text), tuple(x for c in clauses for x in c.claims))


def change_captions(both: Pair, count: int = 5, *, held_out: bool = False) -> list[Caption]:
    """Return captions of a pair; the first speaks of every change.

    Those of a changed pair differ. Of an unchanged one they may repeat each other, as people's do:
    were they all different, no answer could be as good as the references are for each other.

    Args:
        both: the pair.
        count: how many.
        held_out: use the wordings that training never sees.
    """
    dice = stream(both.before.seed, both.before.number, 213 + held_out)
    speaker = _Speaker(both, dice, held_out)
    out: list[Caption] = []
    for attempt in range(8 * count):
        caption = speaker.caption(whole=not out)
        new = not both.edits or caption.text not in {c.text for c in out}
        if new or attempt >= 6 * count:
            out.append(caption)
        if len(out) == count:
            break
    return out


def change_turns(both: Pair, summary: Changes, captions: list[Caption]) -> list[Turn]:
    """Return the six kinds of ChangeChat: caption, binary, count, location, open, dialogue."""
    dice = stream(both.before.seed, both.before.number, 215)
    both_dates = (0, 1)
    turns: list[Turn] = []

    def say(kind: str, question: str, answer: str, images: tuple[int, ...] = both_dates) -> None:
        turns.append(Turn("user", question, images, kind=kind))
        turns.append(Turn("assistant", answer, kind=kind))

    yes = "yes" if both.edits else "no"
    counted = _counted(summary)
    say("caption", dice.pick(ASK["caption"]), captions[0].text)
    say("binary", dice.pick(ASK["binary"]), yes)
    say("count", dice.pick(ASK["count"]), counted)
    say("location", dice.pick(ASK["location"]), _located(summary))
    question, answer = _open(both, dice)
    say("open", question, answer)
    say("dialogue", dice.pick(ASK["binary"]), yes)
    say("dialogue", dice.pick(ASK["follow_count"]), counted, ())
    say("dialogue", dice.pick(ASK["follow_caption"]), captions[0].text, ())
    return turns


def _counted(summary: Changes) -> str:
    def words(n: int, noun: str) -> str:
        return f"{lexicon.NUMBERS[n] if n <= 12 else n} {noun}{'' if n == 1 else 's'}"

    return sentence_case(
        f"{words(summary.roads, 'road')} and {words(summary.buildings, 'building')}"
    )


def _located(summary: Changes) -> str:
    def cells(names: tuple[str, ...]) -> str:
        return ", ".join(names) or "none"

    return f"Roads: {cells(summary.road_cells)}. Buildings: {cells(summary.building_cells)}."


def _open(both: Pair, dice: Dice) -> tuple[str, str]:
    """Return a free question about one change, or about there being none."""
    if not both.edits:
        return "Is there any sign of new construction?", "No, the ground is the same on both dates."
    edit = dice.pick(both.edits)
    one, many = lexicon.NOUNS[edit.name][0]
    noun = many if edit.count > 1 and many else one
    verb = "were" if noun == many else "was"
    place = dice.pick(lexicon.PLACES[edit.cell])
    if edit.act == "built" and edit.instead == "ground" and dice.chance(0.5):
        ground = dice.pick(lexicon.GROUND_WORDS[both.before.ground])
        return f"What was there before the {noun} {place}?", sentence_case(ground)
    if dice.chance(0.5):
        return f"Where {verb} the {noun} {edit.act}?", sentence_case(place)
    number = lexicon.NUMBERS[edit.count] if edit.count <= 12 else str(edit.count)
    if edit.count > 1:
        return f"How many {noun} {verb} {edit.act}?", sentence_case(number)
    return f"Which of the two pictures shows the {noun} {place}?", (
        "The second one." if edit.act == "built" else "The first one."
    )
